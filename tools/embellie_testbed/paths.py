# SPDX-License-Identifier: Apache-2.0
"""Where the testbed finds its sources and keeps what outlives a run."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent.parent
CHART = REPOSITORY / "charts" / "embellie"
GO_MODULES = PACKAGE.parent / "go"
STAGES = PACKAGE / "stages"


def cache_folder() -> Path:
    """Return the folder outside the work tree for binaries, kept logs and the state of `make cluster`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "embellie"
