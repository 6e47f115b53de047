# SPDX-License-Identifier: Apache-2.0
"""Where the forecaster keeps what it can make again (models, archives, responses), and how it replaces files."""

import contextlib
import os
import tempfile
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


def replace_bytes(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file in one step, also after a crash; on any failure the old one stays and nothing is left behind."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
