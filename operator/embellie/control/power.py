# SPDX-License-Identifier: Apache-2.0
"""What nodes and jobs draw, read from whatever exporters there are: measured where they say it, by law where not."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from embellie.telemetry.exporters import Measurement, measurements, selector
from embellie.telemetry.tables import TableSource
from embellie.thermal.job_power import JobPower, class_of
from embellie.thermal.node_power import NodePowerLaw, fit_node_power

MAX_AGE_S = 180.0
QUANTITIES = ("gpu_power", "gpu_util", "node_power", "fan_speed")
_ROWS_KEPT = 5000
_FIT_ROWS = 200
_LOW_W, _HIGH_W = 1.0, 100_000.0


class PowerBook:
    """The present power of every node, and the law behind it; fed with tables, asked by the loop."""

    def __init__(self) -> None:
        self.jobs = JobPower()
        self.law: NodePowerLaw | None = None
        self.idle_w: dict[str, float] = {}
        """Node -> least power seen while none of its GPUs had a pod [W]."""
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
        self._learn_idle(found, power)
        del self._rows[:-_ROWS_KEPT]
        if len(self._rows) >= _FIT_ROWS:
            self._fit()

    def zone_kw(self, nodes: Iterable[str]) -> float | None:
        """Return the measured power of a set of nodes [kW]; None unless all of them are known."""
        known = [self._node_kw.get(name) for name in nodes]
        return (
            None if not known or any(kw is None for kw in known) else float(sum(kw for kw in known if kw is not None))
        )

    def watts_per_gpu(self, namespace: str, name: str) -> float | None:
        """Return what a GPU of such a job draws, as learnt [W]; None until enough ran."""
        found = self.jobs.of(class_of(namespace, name))
        return None if found is None else found.mean_w

    def _fit(self) -> None:
        rows = np.array(self._rows, dtype=np.float64)
        fans = rows[:, 1] if np.isfinite(rows[:, 1]).all() else None
        busy = rows[:, 2] if np.isfinite(rows[:, 2]).all() else None
        # One law for all nodes: it serves those that have no meter of their own.
        self.law = fit_node_power(rows[:, 0], fans, busy, rows[:, 3])

    def _learn_jobs(self, found: Sequence[Measurement]) -> None:
        pods: dict[tuple[str, str], list[float]] = {}
        for one in found:
            if one.quantity == "gpu_power" and one.pod:
                pods.setdefault((one.namespace, one.pod), []).append(one.value)
        for (namespace, pod), watts in pods.items():
            self.jobs.observe(class_of(namespace, pod), float(np.mean(watts)))

    def _learn_idle(self, found: Sequence[Measurement], power: Mapping[str, float]) -> None:
        taken = {one.node for one in found if one.quantity == "gpu_power" and one.pod}
        for name, watts in power.items():
            if name not in taken:
                self.idle_w[name] = min(self.idle_w.get(name, watts), watts)


def _by_node(found: Sequence[Measurement], quantity: str) -> dict[str, list[float]]:
    """Return a quantity's values by node; GPUs without a pod are idle and count all the same."""
    values: dict[str, list[float]] = {}
    for one in found:
        if one.quantity == quantity and one.node:
            values.setdefault(one.node, []).append(one.value)
    return values
