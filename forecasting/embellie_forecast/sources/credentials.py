# SPDX-License-Identifier: Apache-2.0
"""Credentials: from the environment or from a file, never from a command line, and never into a log."""

import os
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Secret:
    """A credential that does not print itself."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "***"


def find_secret(name: str) -> Secret | None:
    """Return the credential `name`, or None.

    It is looked for in the environment variable `name`, then in the file that `name`_FILE names (a mounted Secret).
    A file that cannot be read counts as none: without a credential the ladder steps down, it does not stop.
    """
    own = os.environ.get(name, "").strip()
    if own:
        return Secret(own)
    path = os.environ.get(f"{name}_FILE", "").strip()
    if not path:
        return None
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MAX_BYTES).strip()
    except (OSError, UnicodeDecodeError):
        return None
    return Secret(text) if text else None
