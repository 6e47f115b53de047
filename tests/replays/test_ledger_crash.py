# SPDX-License-Identifier: Apache-2.0
"""Processes that write a ledger and are killed, or whose file system is full."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from embellie.ledger import Kind, LedgerReader, verify
from embellie.ledger.verify import Verification


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def checked(path: Path) -> Verification:
    with LedgerReader(path) as reader:
        head = reader.head.seq, reader.head.hash
        return verify(reader.entries(), reader.entries(kinds=[Kind.DAILY]), head=head)


_CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from embellie.ledger import Draft, Kind, Ledger
ledger = Ledger(Path(sys.argv[1]), leader="child", version="1")
k = 0
while True:
    ledger.append([Draft(kind=Kind.DECISION, at=datetime(2026, 3, 1, tzinfo=UTC), body={"k": k, "x": "y" * 500})])
    k += 1
    print(k, flush=True)
"""


def _child(path: Path, **more: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(_CHILD), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **more)  # type: ignore[call-overload,no-any-return]


def test_a_crash_in_the_middle_of_a_write_loses_nothing_that_was_acknowledged(path: Path) -> None:
    child = _child(path)
    assert child.stdout is not None
    written = 0
    for line in child.stdout:
        written = int(line)
        if written >= 40:
            break
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    written = max([written, *(int(line) for line in rest.split())])
    result = checked(path)
    assert result.sound
    assert result.records - 1 >= written


def test_a_real_limit_of_the_file_system_is_told_in_words(path: Path) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    child = _child(path, preexec_fn=small_files)
    out, err = child.communicate(timeout=60)
    assert "LedgerUnavailableError" in err
    assert "full or failing" in err
    result = checked(path)
    assert result.sound
    assert result.records - 1 == int(out.split()[-1])
