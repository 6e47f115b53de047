# SPDX-License-Identifier: Apache-2.0
"""Where the forecaster keeps what it can make again: models, archives of readings, responses of feeds."""

import contextlib
import os
import time
from pathlib import Path

UNFINISHED = ".embellie-"
"""How names of files begin that are not written whole yet."""
UNDER_WAY_S = 60.0
"""What was written so lately may belong to another process that is about to finish it."""


def cache_folder() -> Path:
    """Return $EMBELLIE_CACHE, else a folder in the user's cache."""
    own = os.environ.get("EMBELLIE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embellie"


def models_folder(cache: Path) -> Path:
    """Return $EMBELLIE_MODELS, else a folder in the cache."""
    own = os.environ.get("EMBELLIE_MODELS")
    return Path(own) if own else cache / "models"


def sweep(folder: Path) -> None:
    """Delete what writers that were killed have left in a folder."""
    before = time.time() - UNDER_WAY_S
    for left in folder.rglob(f"{UNFINISHED}*.tmp"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < before:
                left.unlink()
