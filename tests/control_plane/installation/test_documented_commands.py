# SPDX-License-Identifier: Apache-2.0
"""The lines of README and docs that look at something with kubectl, each understood by the real kubectl."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.paths import REPOSITORY

pytestmark = pytest.mark.control_plane

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def looks(page: Path) -> list[list[str]]:
    """Return the arguments of each `kubectl get` in the page's blocks, up to its pipe."""
    found = []
    for block in re.findall(r"^```(?:sh|console)?[^\n]*\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.removeprefix("$ ")
            if not command.startswith("kubectl "):
                continue
            words = shlex.split(command, comments=True)
            words = words[: words.index("|")] if "|" in words else words
            if "get" in words:
                found.append(words)
    return found


def test_every_documented_look_is_understood_by_kubectl(control_plane: ControlPlane) -> None:
    commands = [(page.name, words) for page in PAGES for words in looks(page)]
    assert len(commands) > 20
    wrong = []
    for page, words in commands:
        done = subprocess.run(
            words, env=control_plane.environment(), capture_output=True, text=True, check=False, timeout=30
        )
        # What a page takes for an example need not exist here.
        if done.returncode and "NotFound" not in done.stderr:
            wrong.append(f"{page}: {shlex.join(words)}: {done.stderr.strip()}")
    assert not wrong, "\n".join(wrong)
