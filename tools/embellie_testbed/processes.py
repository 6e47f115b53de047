# SPDX-License-Identifier: Apache-2.0
"""Starts and stops programs so that none of them, and no file, is left behind, whatever happens to this process."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embellie_testbed.paths import PACKAGE, cache_folder

_PORTS = range(20_000, 32_000)
"""Below the range from which the kernel takes ports for outgoing connections: nobody grabs one while we restart."""


class ProgramError(RuntimeError):
    """A program could not be started or ended when it should have run."""


def free_port() -> int:
    """Return a loopback TCP port that nothing listens on."""
    chooser = random.SystemRandom()
    for _ in range(200):
        port = chooser.choice(_PORTS)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ProgramError("found no free port on 127.0.0.1 between 20000 and 31999")


def until(condition: Callable[[], Any], what: str, seconds: float = 90.0, *, every_seconds: float = 0.05) -> Any:
    """Poll `condition` until it gives something true, and return that; after `seconds` raise `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(every_seconds)


class Processes:
    """Programs under one keeper, with a temporary directory and a log per program.

    Closing it, dropping the pipe by dying, or being killed all end in the same way: every program is killed and the
    directory is removed. Methods may be called from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PACKAGE / "keeper.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for the owner, who then closes in order
        )
        self._closed = False
        self.directory = Path(self._read_answer()["directory"])
        """The temporary directory; gone after `close`."""
        self.logs = self.directory / "logs"
        self.logs.mkdir()

    def start(self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> int:
        """Start a program, append what it says to `log(name)`, and return its process id."""
        command = {
            "do": "start",
            "name": name,
            "argv": [str(argument) for argument in argv],
            "env": {**os.environ, **(env or {})},
            "cwd": str(self.directory),
            "log": str(self.log(name)),
        }
        return int(self._ask(command)["pid"])

    def stop(self, name: str, *, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Signal a program, wait for its end (SIGKILL after `seconds`) and return its exit code."""
        return int(self._ask({"do": "stop", "name": name, "signal": int(number), "seconds": seconds})["code"])

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a program without waiting for what comes of it."""
        self._ask({"do": "signal", "name": name, "signal": int(number)})

    def exit_code(self, name: str) -> int | None:
        """Return the exit code of a program, or None while it runs."""
        code = self._ask({"do": "poll", "name": name})["code"]
        return None if code is None else int(code)

    def log(self, name: str) -> Path:
        """Return the file with what the program of that name wrote."""
        return self.logs / f"{name}.log"

    def log_tail(self, name: str) -> str:
        """Return the last lines that a program wrote."""
        if not self.log(name).exists():
            return ""
        return "\n".join(self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    def wait_for(self, name: str, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait until `condition` holds; end early, with its last words, when the program ends first."""

        def holds_or_died() -> bool:
            if condition():
                return True
            code = self.exit_code(name)
            if code is not None:
                raise ProgramError(f"{name} ended with code {code} while waiting: {what}\n{self.log_tail(name)}")
            return False

        try:
            until(holds_or_died, seconds=seconds, what=what)
        except TimeoutError as error:
            raise ProgramError(f"{error}; {name} last said:\n{self.log_tail(name)}") from None

    def keep_logs(self) -> Path:
        """Copy the logs to the cache folder, where they survive, and return that folder."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        target = cache_folder() / "logs" / f"{stamp}-{self.directory.name}"
        shutil.copytree(self.logs, target, dirs_exist_ok=True)
        return target

    def close(self) -> None:
        """Kill every program and remove the directory; does nothing the second time."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            assert self._keeper.stdin is not None  # noqa: S101 - opened as pipes above
            assert self._keeper.stdout is not None  # noqa: S101
            with contextlib.suppress(BrokenPipeError):
                self._keeper.stdin.close()
            self._keeper.wait()
            self._keeper.stdout.close()
        # Only when the keeper itself was killed is there still something to remove.
        shutil.rmtree(self.directory, ignore_errors=True)

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            if self._closed:
                raise ProgramError("these programs have been stopped already")
            assert self._keeper.stdin is not None  # noqa: S101 - opened as a pipe
            try:
                self._keeper.stdin.write(json.dumps(command) + "\n")
                self._keeper.stdin.flush()
            except BrokenPipeError:
                raise ProgramError("the testbed's keeper process is gone, and its programs with it") from None
            answer = self._read_answer()
        if "error" in answer:
            raise ProgramError(f"{command['do']} {command['name']}: {answer['error']}")
        return answer

    def _read_answer(self) -> dict[str, Any]:
        assert self._keeper.stdout is not None  # noqa: S101 - opened as a pipe
        line = self._keeper.stdout.readline()
        if not line:
            raise ProgramError("the testbed's keeper process is gone, and its programs with it")
        answer: dict[str, Any] = json.loads(line)
        return answer
