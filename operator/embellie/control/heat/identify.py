# SPDX-License-Identifier: Apache-2.0
"""What Prometheus remembers of a zone, replayed through the same learning as the present: a restart forgets nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.snapshot import Quality, Reading
from embellie.telemetry.exporters import OF_THE_SCRAPE, node_of, words_for
from embellie.telemetry.tables import RangeOf, TableSource
from embellie.thermal.controller import HeatController
from embellie.thermal.readings import TEMPERATURE_BOUNDS, in_kept_unit
from embellie.thermal.sensing import BOUNDS, ZoneReadings
from embellie.thermal.settings import Role, SensorSettings, ZoneSettings

STEP_S = 60.0
_NODE_LABELS = "node, hostname, Hostname, node_name, nodename, kubernetes_node, instance"
_NO_OTHER_THING = ", ".join(
    (
        *(label for label in OF_THE_SCRAPE if label != "instance"),
        "exported_namespace",
        "exported_pod",
        "exported_container",
    )
)
"""Labels in which two series of one thing may differ: who scraped it, and who shares it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZoneHistory:
    """One zone at a fixed step; arrays of shape (n,), NaN where nothing is known."""

    at_s: FloatArray
    roles: Mapping[Role, FloatArray]
    heat_kw: FloatArray


def read_history(
    settings: ZoneSettings,
    queries: Mapping[str, str],
    power: Mapping[str, FloatArray],
    nodes: Iterable[str],
    tables: TableSource,
    grid: FloatArray,
) -> ZoneHistory:
    """Return what Prometheus remembers of a zone on a time grid (Unix time); raises QueryError.

    Args:
        settings: The zone.
        queries: Sensor name -> PromQL.
        power: Node -> power on the grid [W] (`read_power`).
        nodes: The zone's nodes.
        tables: Where to ask.
        grid: Instants at a fixed step [s].
    """
    roles: dict[Role, FloatArray] = {}
    step_s = float(grid[1] - grid[0])
    for sensor in settings.sensors:
        found = tables.ranges(queries[sensor.name], float(grid[0]), float(grid[-1]), step_s)
        values = _on_grid(found[0], grid, sensor.max_age_s) if len(found) == 1 else np.full(grid.shape, np.nan)
        values = _kept(values, sensor)
        before = roles.get(sensor.role)
        # Of several sensors of one role the hottest counts; where one is silent the role is not known.
        roles[sensor.role] = values if before is None else np.maximum(before, values)
    known = [power[name] for name in nodes if name in power]
    heat = np.sum(known, axis=0) / 1000.0 if known else np.full(grid.shape, np.nan)
    return ZoneHistory(at_s=grid, roles=roles, heat_kw=heat)


def read_power(tables: TableSource, grid: FloatArray) -> dict[str, FloatArray]:
    """Return every node's power on a grid [W]: measured, else the sum of its GPUs; raises QueryError."""
    step_s = float(grid[1] - grid[0])
    found: dict[str, FloatArray] = {}
    for quantity in ("node_power", "gpu_power"):
        told = set(found)
        for word in (w for w in words_for(quantity) if not w.select):
            for series in tables.ranges(power_query(word.metric), float(grid[0]), float(grid[-1]), step_s):
                name = node_of(series.labels)
                if name and name not in told:
                    found.setdefault(name, _on_grid(series, grid, 2.0 * step_s) * word.factor)
    return found


def power_query(metric: str) -> str:
    """Return the PromQL of what a metric says of each node: each GPU or chassis once, however often it is told of."""
    return f"sum by ({_NODE_LABELS}) (max without ({_NO_OTHER_THING}) ({metric}))"


def replay(controller: HeatController, histories: Mapping[str, ZoneHistory]) -> None:
    """Let the controller learn from histories on one common grid, as if they happened now."""
    if not histories:
        return
    grid = next(iter(histories.values())).at_s
    for k, at_s in enumerate(grid):
        readings, heat = {}, {}
        for name, history in histories.items():
            by_role = {role: _reading(float(values[k])) for role, values in history.roles.items()}
            readings[name] = ZoneReadings(by_role=by_role)
            if np.isfinite(history.heat_kw[k]):
                heat[name] = float(history.heat_kw[k])
        controller.observe(datetime.fromtimestamp(float(at_s), UTC), readings, heat)


def predicted(settings: Sequence[ZoneSettings], history: ZoneHistory) -> FloatArray:
    """Return (measured, predicted before it was learnt) of the limited temperature, shape (n, 2) [degC]."""
    controller = HeatController(settings)
    name = settings[0].name
    role = settings[0].limited_role
    pairs = []
    for k in range(history.at_s.size):
        one = {name: ZoneHistory(
            at_s=history.at_s[k : k + 1],
            roles={r: v[k : k + 1] for r, v in history.roles.items()},
            heat_kw=history.heat_kw[k : k + 1],
        )}  # fmt: skip
        supply = history.roles.get(Role.SUPPLY, np.full(history.at_s.shape, settings[0].cooling.supply_setpoint_c))[k]
        measured, heat = history.roles[role][k], history.heat_kw[k]
        if k > 0 and np.isfinite([supply, measured, heat]).all():
            step_s = float(history.at_s[k] - history.at_s[k - 1])
            ahead = controller.models.predict(np.array([[heat]]), np.array([[supply]]), step_s)
            pairs.append((measured, float(ahead.temperature_c[0, 0])))
        replay(controller, one)
    return np.array(pairs).reshape(-1, 2)


def _reading(value: float) -> Reading:
    if np.isnan(value):
        return Reading(value=None, age_s=float("inf"), quality=Quality.MISSING)
    return Reading(value=value, age_s=0.0, quality=Quality.FRESH)


def _kept(values: FloatArray, sensor: SensorSettings) -> FloatArray:
    converted = np.array([in_kept_unit(v * sensor.scale, sensor.unit) if np.isfinite(v) else np.nan for v in values])
    bounds = BOUNDS.get(sensor.role, TEMPERATURE_BOUNDS)
    return np.where((converted >= bounds.low) & (converted <= bounds.high), converted, np.nan)


def _on_grid(series: RangeOf, grid: FloatArray, max_age_s: float) -> FloatArray:
    """Return the newest sample at each instant, NaN where it is older than it may be."""
    at_s, values = np.array(series.at_s), np.array(series.values)
    if at_s.size == 0:
        return np.full(grid.shape, np.nan)
    newest = np.searchsorted(at_s, grid + 1e-6, side="right") - 1
    found = values[np.maximum(newest, 0)]
    fresh = (newest >= 0) & (grid - at_s[np.maximum(newest, 0)] <= max_age_s)
    return np.where(fresh, found, np.nan)
