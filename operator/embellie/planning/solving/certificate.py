# SPDX-License-Identifier: Apache-2.0
"""Instances and certificates as plain data (JSON): what is needed to check a plan and its bound without this code."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from embellie.planning.solving.inputs import validated
from embellie.planning.solving.problem import Jobs, Mode, Prices, Problem, Solution, Zones

FORMAT = "embellie-plan/1"


def instance_to_dict(problem: Problem) -> dict[str, Any]:
    """Return a problem as lists; infinite capacities are null."""
    return {
        "format": FORMAT,
        "edges_h": problem.edges_h.tolist(),
        "modes": [[m.power, m.speed] for m in problem.modes],
        "modes_allowed": None if problem.modes_allowed is None else problem.modes_allowed.astype(int).tolist(),
        "weighings": None if problem.weighings is None else problem.weighings.tolist(),
        "zones": {name: _listed(getattr(problem.zones, name)) for name in Zones.__slots__},
        "jobs": {name: _listed(getattr(problem.jobs, name)) for name in Jobs.__slots__},
    }


def instance_from_dict(data: Mapping[str, Any]) -> Problem:
    """Read an instance. Raises ValueError, naming the field, for what is missing or malformed."""
    told = data.get("format") if isinstance(data, Mapping) else None
    if told != FORMAT:
        raise ValueError(f"the instance's format is {told!r}, and {FORMAT!r} is read")
    try:
        zones = {name: _array(name, data["zones"][name]) for name in Zones.__slots__ if name not in _LATER_ROWS}
        told = data["zones"]
        n_zones = zones["gpus"].shape[0]
        zones["ramp_group"] = _array("ramp_group", told.get("ramp_group", [-1] * n_zones))
        zones["ramp_kw"] = _array("ramp_kw", told.get("ramp_kw", []))
        jobs = {name: _array(name, data["jobs"][name]) for name in Jobs.__slots__ if name not in _LATER}
        count = jobs["gpus"].shape[0]
        jobs |= {name: _array(name, data["jobs"].get(name, [0.0] * count)) for name in _LATER}
        edges = np.asarray(data["edges_h"], dtype=np.float64)
        modes = tuple(Mode(power=float(p), speed=float(s)) for p, s in data.get("modes", [[1.0, 1.0]]))
        modes_allowed = data.get("modes_allowed")
        allowed = None if modes_allowed is None else np.asarray(modes_allowed, dtype=bool)
        slots = edges.shape[0] - 1
        others = data.get("weighings")
        weighings = None if others is None else _array("weighings", others)
        for name in ("power_kw", "heat_kw", "ramp_kw"):
            zones[name] = zones[name].reshape(-1, slots)
        zones |= _wanted(told, n_zones, slots)
        jobs["zones"] = jobs["zones"].reshape(count, -1) if count else jobs["zones"].reshape(0, n_zones)
    except KeyError as error:
        raise ValueError(f"the instance has no field {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"the instance cannot be read: {error}") from error
    return validated(
        Problem(
            edges_h=edges,
            zones=Zones(**zones),
            jobs=Jobs(**jobs),
            modes=modes,
            modes_allowed=allowed,
            weighings=weighings,
        )
    )


def certificate_to_dict(problem: Problem, solution: Solution) -> dict[str, Any]:
    """Return instance, prices and plan: everything that bound and objective are recomputed from."""
    return {
        "instance": instance_to_dict(problem),
        "prices": {name: getattr(solution.prices, name).tolist() for name in Prices.__slots__},
        "plan": {
            name: getattr(solution, name).tolist()
            for name in ("zone", "start", "mode", "part_job", "part_start", "part_end")
        },
        "objective": solution.objective,
        "lower_bound": solution.lower_bound,
    }


_LATER = ("tenant_rank", "weighing")
"""Fields that older instances do not have: 0 for all."""
_LATER_ROWS = ("ramp_group", "ramp_kw", "wanted_share", "wanted_kw", "wanted_cost_per_kwh")
"""Rows that they do not have: none."""
_WHOLE = {
    "power_group",
    "heat_group",
    "ramp_group",
    "release",
    "latest_start",
    "deadline",
    "weighing",
    "previous_zone",
    "previous_start",
}
_FLAGS = {"pausable", "zones"}


def _wanted(told: Mapping[str, Any], n_zones: int, slots: int) -> dict[str, np.ndarray]:
    """Return the rows of wanted power. Older instances have heat floors: a row for each network, of one worth."""
    if "wanted_kw" in told:
        share, kw, cost = (_array(name, told[name]) for name in ("wanted_share", "wanted_kw", "wanted_cost_per_kwh"))
    else:
        kw = _array("floor_kw", told.get("floor_kw", [])).reshape(-1, slots)
        group = np.asarray(told.get("floor_group", [-1] * n_zones), dtype=np.int64)
        if group.shape != (n_zones,) or group.min(initial=-1) < -1 or group.max(initial=-1) >= kw.shape[0]:
            raise ValueError("floor_group must name a row of floor_kw, or -1, for each zone")
        share = (group[None, :] == np.arange(kw.shape[0])[:, None]).astype(np.float64)
        cost = np.repeat(_array("floor_cost_per_kwh", told.get("floor_cost_per_kwh", [])), slots)
    return {
        "wanted_share": share.reshape(-1, n_zones),
        "wanted_kw": kw.reshape(-1, slots),
        "wanted_cost_per_kwh": cost.reshape(-1, slots),
    }


def _listed(values: np.ndarray | None) -> Any:
    if values is None:
        return None
    if values.dtype == np.float64 and not np.all(np.isfinite(values)):
        return [
            _listed(row) if isinstance(row, np.ndarray) else (float(row) if np.isfinite(row) else None)
            for row in values
        ]
    return values.astype(int).tolist() if values.dtype == bool else values.tolist()


def _array(name: str, values: Any) -> Any:
    if np.ndim(np.array(values, dtype=object)) == 0:
        raise ValueError(f"{name} must be a list")
    if name in _FLAGS:
        return np.asarray(values, dtype=bool)
    if name in _WHOLE:
        return np.asarray(values, dtype=np.int64)
    array = np.array(values, dtype=object)
    array[array == None] = np.inf  # noqa: E711 - elementwise
    return array.astype(np.float64)
