# SPDX-License-Identifier: Apache-2.0
"""JSON lines on standard error: one line per thing done."""

import json
import sys
from datetime import UTC, datetime

_silent = False


def silence() -> None:
    """Write no lines: for a person at a terminal, who is told in words."""
    global _silent  # noqa: PLW0603 - one process, one audience
    _silent = True


def log(event: str, **fields: object) -> None:
    """Write one line."""
    if _silent:
        return
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "component": "watchdog", "event": event}
    sys.stderr.write(json.dumps({**line, **fields}, default=str) + "\n")
    sys.stderr.flush()
