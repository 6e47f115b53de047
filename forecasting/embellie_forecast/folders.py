# SPDX-License-Identifier: Apache-2.0
"""Where the forecaster keeps what it can make again: models, archives of readings, responses of feeds."""

import os
from pathlib import Path


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
