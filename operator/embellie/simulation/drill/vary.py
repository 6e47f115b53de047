# SPDX-License-Identifier: Apache-2.0
"""A room as it was built: every R, C and flow a little different from what the engineer measured."""

from typing import Any

import numpy as np
from pydantic import BaseModel

from embellie.simulation.plant import PlantSpec

_PHYSICAL = ("_kw_per_k", "_kj_per_k", "time_constant_s", "recirculation_share", "recirculation_gain", "chiller_kw")


def varied(spec: PlantSpec, rng: np.random.Generator) -> PlantSpec:
    """Return the room with each physical constant of hall and loop off by a factor within `spread`."""
    return spec.model_copy(update={part: _vary(getattr(spec, part), rng, spec.spread) for part in ("hall", "loop")})


def _vary(part: BaseModel, rng: np.random.Generator, spread: float) -> BaseModel:
    changed: dict[str, Any] = {}
    for name, value in part:
        if isinstance(value, float) and any(name.endswith(end) for end in _PHYSICAL):
            factor = 1.0 + spread * float(rng.uniform(-1.0, 1.0))
            changed[name] = min(1.0, value * factor) if name.endswith("_share") else value * factor
    return part.model_copy(update=changed)
