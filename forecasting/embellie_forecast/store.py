# SPDX-License-Identifier: Apache-2.0
"""Trained models on disk.

A file's name is a hash of everything that the model follows from (data, code, parameters, cutoff, library), so that a
model is never used for anything else. Files are read with skops under a closed list of types, never with pickle, and
only if their own hash is the one that was written beside them.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path
from typing import Any

import sklearn
import skops.io

from embellie_forecast.calendar_model import CalendarModel
from embellie_forecast.calibration import ResidualBank
from embellie_forecast.dataset import History, manifest
from embellie_forecast.model import LeadGroupModel, Params, TrainedModel

TRUSTED_TYPES = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
CODE_FILES = ("factors.py", "dataset.py", "features.py", "calibration.py", "model.py", "calendar_model.py", "store.py")
KEEP_MODELS = 16


class StoreError(ValueError):
    """A stored model is not there, or is not what was written."""


def cache_key(history: History, cutoff_hour: int, params: Params) -> str:
    """Return the hash of everything that a model trained now would follow from."""
    digest = hashlib.sha256()
    entry = manifest().get(history.region, {"sha256": "none"})
    facts = {
        "region": history.region,
        "scope": history.scope.value,
        "data": entry["sha256"],
        "cutoffHour": cutoff_hour,
        "params": asdict(params),
        "sklearn": sklearn.__version__,
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    package = resources.files("embellie_forecast")
    for name in CODE_FILES:
        digest.update((package / name).read_bytes())
    return digest.hexdigest()[:24]


def save(folder: Path, key: str, model: TrainedModel, calendar: CalendarModel | None) -> Path:
    """Write the models of one region; return the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "region": model.region,
        "cutoff_hour": model.cutoff_hour,
        "groups": [_plain(group) for group in model.groups],
        "bank": _plain(model.bank),
        "calendar": None if calendar is None else _plain(calendar),
    }
    path = folder / f"{model.region}-{key}.skops"
    packed = skops.io.dumps(state)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(packed)
    path.with_suffix(".sha256").write_text(hashlib.sha256(packed).hexdigest() + "\n")
    temporary.replace(path)
    for old in sorted(folder.glob("*.skops"), key=lambda file: file.stat().st_mtime)[:-KEEP_MODELS]:
        old.unlink(missing_ok=True)
        old.with_suffix(".sha256").unlink(missing_ok=True)
    return path


def load(folder: Path, key: str, region: str, params: Params) -> tuple[TrainedModel, CalendarModel | None]:
    """Read the models of one region.

    Raises:
        StoreError: There is no such file, its hash differs, it holds foreign types, or it is incomplete.
    """
    path = folder / f"{region}-{key}.skops"
    try:
        packed = path.read_bytes()
        written = path.with_suffix(".sha256").read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"no stored model: {error}") from error
    if hashlib.sha256(packed).hexdigest() != written:
        raise StoreError(f"{path.name} differs from the hash beside it")
    try:
        state = skops.io.loads(packed, trusted=TRUSTED_TYPES)
        groups = tuple(LeadGroupModel(**group) for group in state["groups"])
        model = TrainedModel(
            region=str(state["region"]),
            cutoff_hour=int(state["cutoff_hour"]),
            params=params,
            groups=groups,
            bank=ResidualBank(**state["bank"]),
        )
        calendar = None if state["calendar"] is None else CalendarModel(**state["calendar"])
    except Exception as error:  # skops raises many kinds on a foreign file, and none of them may stop a forecast
        raise StoreError(f"{path.name} cannot be used: {error}") from error
    if model.region != region or not groups:
        raise StoreError(f"{path.name} is a model of {model.region!r}")
    return model, calendar


def _plain(value: Any) -> Mapping[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
