# SPDX-License-Identifier: Apache-2.0
"""Writing bytes so that a reader sees the old file or the whole new one, also after a crash or on a full disk."""

import os
import tempfile
from pathlib import Path

from embellie_forecast.folders import UNFINISHED


def replace_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step; on any failure the old one stays and nothing is left behind."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
