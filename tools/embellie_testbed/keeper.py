# SPDX-License-Identifier: Apache-2.0
"""A small process that owns the testbed's programs and its temporary directory, and outlives whoever asked for them.

It is started as a file, on the standard library alone. It obeys one JSON command per line on stdin and answers each
with one JSON line on stdout. When its owner dies, in whatever way, the pipe closes and the process descriptor fires:
the keeper then kills every program and removes the directory. Should the keeper itself be killed, the kernel kills
its programs (PR_SET_PDEATHSIG, set here because this process has one thread and that signal follows a thread).
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


class Keeper:
    """The programs by name, and the directory they write to."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command and return the answer."""
        match command["do"]:
            case "start":
                return {"pid": self._start(command)}
            case "stop":
                return {"code": self._stop(self._programs[command["name"]], command["signal"], command["seconds"])}
            case "signal":
                program = self._programs[command["name"]]
                if program.poll() is None:
                    program.send_signal(command["signal"])
                return {}
            case "poll":
                return {"code": self._programs[command["name"]].poll()}
            case unknown:
                raise ValueError(f"unknown command {unknown!r}")

    def end(self) -> None:
        """Kill every program and remove the directory."""
        for program in self._programs.values():
            if program.poll() is None:
                program.kill()
        for program in self._programs.values():
            program.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self, command: dict[str, Any]) -> int:
        with Path(command["log"]).open("ab") as log:
            program = subprocess.Popen(
                command["argv"],
                env=command["env"],
                cwd=command["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=self._die_with_keeper,  # noqa: PLW1509 - this process has one thread
            )
        self._programs[command["name"]] = program
        return program.pid

    def _die_with_keeper(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    @staticmethod
    def _stop(program: subprocess.Popen[bytes], number: int, seconds: float) -> int:
        if program.poll() is None:
            program.send_signal(number)
            try:
                program.wait(seconds)
            except subprocess.TimeoutExpired:
                program.kill()
        return program.wait()


def _commands(owner: int) -> Any:
    """Yield each command line until the owner closes the pipe or is gone."""
    descriptors = [sys.stdin.fileno()]
    if hasattr(os, "pidfd_open"):
        # A forked copy of the owner may hold the pipe open; the process descriptor is not fooled by it.
        with contextlib.suppress(ProcessLookupError):
            descriptors.append(os.pidfd_open(owner))
    pending = b""
    while True:
        ready, _, _ = select.select(descriptors, [], [])
        if any(descriptor != sys.stdin.fileno() for descriptor in ready):
            return
        block = os.read(sys.stdin.fileno(), 65536)
        if not block:
            return
        *lines, pending = (pending + block).split(b"\n")
        yield from lines


def main() -> None:
    """Serve the owner until it goes."""
    owner = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    directory = Path(tempfile.mkdtemp(prefix="embellie-"))
    keeper = Keeper(directory)
    try:
        print(json.dumps({"directory": str(directory)}), flush=True)
        for line in _commands(owner):
            try:
                answer = keeper.obey(json.loads(line))
            except (OSError, ValueError, LookupError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    except BrokenPipeError:
        # The owner went between asking and being answered: nothing to say, and the same clean-up as always.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - keeps the exit quiet
    finally:
        keeper.end()


if __name__ == "__main__":
    main()
