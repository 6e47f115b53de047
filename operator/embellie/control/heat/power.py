# SPDX-License-Identifier: Apache-2.0
"""What nodes and jobs draw, read from whatever exporters there are: measured where they say it, by law where not."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from embellie.telemetry.exporters import Measurement, measurements, selector
from embellie.telemetry.tables import TableSource
from embellie.thermal.job_power import ClassPower, JobPower, Moments, class_of
from embellie.thermal.node_power import NodePowerLaw, fit_node_power
from embellie.thermal.regime import Regimes

MAX_AGE_S = 180.0
QUANTITIES = ("gpu_power", "gpu_util", "node_power", "fan_speed", "gpu_thermal_throttle_time")
_ROWS_KEPT = 5000
_FIT_ROWS = 200
_LOW_W, _HIGH_W = 1.0, 100_000.0
_UNKNOWN = float("nan")
IDLE_SAMPLES = 30
"""Samples of an idle node before what it draws is believed: at one a minute half an hour."""
_IDLE_LOW_W, _IDLE_HIGH_W = 20.0, 20_000.0


class PowerBook:
    """The present power of every node, and the law behind it; fed with tables, asked by the loop."""

    def __init__(self) -> None:
        self.jobs = JobPower()
        self.law: NodePowerLaw | None = None
        self.regimes = Regimes()
        """By node: a number that changes when its fans do, or when its GPUs are slowed down by heat."""
        self.capped: frozenset[str] = frozenset()
        """Nodes whose GPUs are capped: what they draw tells nothing of what their work would draw without."""
        self.refreshed = 0
        """How often all nodes were read."""
        self._idle: dict[str, Moments] = {}
        self._pods_told = False
        """Whether an exporter ever named a pod; where none does, no GPU can be told to be idle."""
        self._node_kw: dict[str, float] = {}
        self._rows: list[tuple[float, float, float, float]] = []

    def refresh(self, tables: TableSource) -> None:
        """Read all nodes once; raises QueryError."""
        self.take(measurements(tables.series(selector(*QUANTITIES), MAX_AGE_S)))

    def take(self, found: Sequence[Measurement]) -> None:
        """Take what all exporters say now."""
        gpu, busy, fans = _by_node(found, "gpu_power"), _by_node(found, "gpu_util"), _by_node(found, "fan_speed")
        node = {name: values[0] for name, values in _by_node(found, "node_power").items()}
        power: dict[str, float] = {}
        for name, watts in gpu.items():
            rpm = float(np.mean(fans[name])) if fans.get(name) else float("nan")
            activity = float(np.mean(busy[name])) if busy.get(name) else float("nan")
            measured = node.get(name)
            if measured is not None and _LOW_W < measured < _HIGH_W:
                self._rows.append((sum(watts), rpm, activity, measured))
                power[name] = measured
            elif self.law is not None:
                known_fans = np.array([rpm]) if np.isfinite(rpm) else None
                known_busy = np.array([activity]) if np.isfinite(activity) else None
                power[name] = float(self.law.predict_w(np.array([sum(watts)]), known_fans, known_busy)[0])
        power.update({name: w for name, w in node.items() if name not in power and _LOW_W < w < _HIGH_W})
        self._node_kw = {name: watts / 1000.0 for name, watts in power.items() if np.isfinite(watts)}
        self._learn_jobs(found)
        self._learn_idle(found, {name: power[name] for name in gpu if name in power})
        throttled = _by_node(found, "gpu_thermal_throttle_time")
        for name in {*gpu, *fans}:
            # GPUs before the node: fans are part of what a node draws.
            load_w = sum(gpu[name]) if name in gpu else power.get(name, _UNKNOWN)
            rpm = float(np.mean(fans[name])) if name in fans else _UNKNOWN
            self.regimes.observe(name, rpm, load_w, sum(throttled[name]) if name in throttled else _UNKNOWN)
        self.refreshed += 1
        del self._rows[:-_ROWS_KEPT]
        if len(self._rows) >= _FIT_ROWS:
            self._fit()

    def zone_kw(self, nodes: Iterable[str]) -> float | None:
        """Return the measured power of a set of nodes [kW]; None unless all of them are known."""
        known = [self._node_kw.get(name) for name in nodes]
        return (
            None if not known or any(kw is None for kw in known) else float(sum(kw for kw in known if kw is not None))
        )

    def class_power(self, namespace: str, name: str) -> ClassPower | None:
        """Return what a GPU of such a job draws, as learnt; None until enough ran."""
        return self.jobs.of(class_of(namespace, name))

    def idle_watts(self, node: str) -> float | None:
        """Return what a node draws without work, two standard deviations on the safe side [W]; None until learnt."""
        found = self._idle.get(node)
        if found is None or found.weight < IDLE_SAMPLES:
            return None
        return found.mean + 2.0 * found.spread

    def regime(self, nodes: Sequence[str]) -> int:
        """Return a number for a set of nodes that changes when the regime of any of them does."""
        return self.regimes.of(nodes)

    def _fit(self) -> None:
        rows = np.array(self._rows, dtype=np.float64)
        fans = rows[:, 1] if np.isfinite(rows[:, 1]).all() else None
        busy = rows[:, 2] if np.isfinite(rows[:, 2]).all() else None
        # One law for all nodes: it serves those that have no meter of their own.
        self.law = fit_node_power(rows[:, 0], fans, busy, rows[:, 3])

    def _learn_jobs(self, found: Sequence[Measurement]) -> None:
        pods: dict[tuple[str, str], list[float]] = {}
        classes: dict[str, dict[str, float]] = {}
        for one in found:
            if one.quantity == "gpu_power" and one.pod and one.node not in self.capped:
                pods.setdefault((one.namespace, one.pod), []).append(one.value)
        for (namespace, pod), watts in pods.items():
            classes.setdefault(class_of(namespace, pod), {})[pod] = float(np.mean(watts))
        for key, told in classes.items():
            self.jobs.observe(key, told)

    def _learn_idle(self, found: Sequence[Measurement], power: Mapping[str, float]) -> None:
        taken = {one.node for one in found if one.quantity == "gpu_power" and one.pod}
        self._pods_told = self._pods_told or bool(taken)
        for name, watts in power.items() if self._pods_told else ():
            if name not in taken and _IDLE_LOW_W <= watts <= _IDLE_HIGH_W:
                self._idle.setdefault(name, Moments()).take(watts)


def _by_node(found: Sequence[Measurement], quantity: str) -> dict[str, list[float]]:
    """Return a quantity's values by node; GPUs without a pod are idle and count all the same."""
    values: dict[str, list[float]] = {}
    for one in found:
        if one.quantity == quantity and one.node:
            values.setdefault(one.node, []).append(one.value)
    return values
