# SPDX-License-Identifier: Apache-2.0
"""Closes one interval after another: samples out of Prometheus, gangs out of the cluster, prices out of the grid.

What it needs over a restart it reads back from the ledger: up to where it is, what is still provisional, and what the
overhead model was fitted on.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from embellie.accounting.interval import account_interval, repriced, signal_entry, tariff_entry
from embellie.accounting.known import GpuMeter, Machine, Price, Samples, Tariff, ZoneInterval
from embellie.accounting.overhead import MIN_HOURS, OverheadModel, fit_overhead
from embellie.api.gridzone import GridZone
from embellie.cluster.store import View
from embellie.control.assemble import Assembly
from embellie.control.prices import PROVISIONAL, Prices, better, floor, price_of, tariff_of
from embellie.control.records import PowerClasses, Witness, gangs_of
from embellie.domain import names
from embellie.domain.clock import Clock
from embellie.domain.reasons import SignalKind
from embellie.domain.sums import add_tables
from embellie.ledger import Draft, Entry, Kind
from embellie.telemetry.energy import EnergySamples, EnergySource
from embellie.telemetry.intensity import IntensityFolder
from embellie.telemetry.tariffs import TariffFolder

FITTED_ON = 14 * 96
"""Intervals that the overhead model looks back: at 15 minutes two weeks."""
SAMPLES_PER_INTERVAL = 15
PAD_SHARE = 0.25
"""Samples are asked for a little beyond the interval, so that its edges lie between two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The newest turn, as far as accounts need it."""

    assembly: Assembly
    view: View


@dataclass(slots=True)
class _Provisional:
    zone: str
    start: datetime
    end: datetime
    total: dict[str, Any]
    prices: tuple[Price, ...]
    tariff: Tariff | None
    revision: int = 0


@dataclass(slots=True)
class _Hours:
    it_kw: deque[float] = field(default_factory=lambda: deque(maxlen=FITTED_ON))
    meter_kw: deque[float] = field(default_factory=lambda: deque(maxlen=FITTED_ON))
    ambient_c: deque[float] = field(default_factory=lambda: deque(maxlen=FITTED_ON))
    fitted_on: date | None = None
    model: OverheadModel | None = None


class Accountant:
    """Makes account records. Lives on the recorder's thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        source: EnergySource | None,
        intensity: IntensityFolder,
        tariffs: TariffFolder,
        witness: Witness,
        interval: timedelta,
        team_label: str = "",
    ) -> None:
        self._clock, self._source = clock, source
        self._witness = witness
        self._interval = interval
        self._team_label = team_label
        self.prices = Prices(intensity, tariffs)
        self._provisional: dict[tuple[str, datetime], _Provisional] = {}
        self._hours: dict[str, _Hours] = {}
        self._changed: dict[tuple[str, SignalKind], float] = {}
        self.classes = PowerClasses()
        self.cursor: datetime | None = None
        """Everything before it is accounted."""

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take in the account records of the last days."""
        for entry in entries:
            body = entry.content
            if entry.kind == Kind.RUN:
                self._learn(body)
                continue
            if entry.kind != Kind.ACCOUNT:
                continue
            zone, start = str(body["zone"]), datetime.fromisoformat(body["start"])
            end = datetime.fromisoformat(body["end"])
            self.cursor = max(end, self.cursor or end)
            before = self._provisional.get((zone, start))
            total = add_tables(before.total if before else {}, body["adds"])
            prices = tuple(price_of(told) for told in body.get("signals", ()))
            tariff = tariff_of(body.get("tariff"))
            revision = int(body["revision"])
            self._provisional[zone, start] = _Provisional(zone, start, end, total, prices, tariff, revision)
            if before is None:
                self._remember(zone, body)

    def due(self, now: datetime, settle: timedelta) -> list[tuple[datetime, datetime]]:
        """Return the intervals that have ended long enough ago, oldest first; never one that was closed before."""
        if self.cursor is None:
            self.cursor = floor(now, self._interval)
        if now - self.cursor > PROVISIONAL:
            return []
        found, start = [], self.cursor
        while start + self._interval + settle <= now:
            found.append((start, start + self._interval))
            start += self._interval
        return found

    def skipped(self, now: datetime) -> tuple[datetime, datetime] | None:
        """Skip and return the stretch that nobody can account any more: the clock jumped, or it was off for days."""
        if self.cursor is None or now - self.cursor <= PROVISIONAL:
            return None
        start, self.cursor = self.cursor, floor(now, self._interval) - self._interval
        return start, self.cursor

    def close(self, start: datetime, end: datetime, scene: Scene) -> list[Draft]:
        """Account one interval, all zones; the cursor moves when the caller has written them."""
        zones = scene.assembly.grid_zones
        samples = self._samples(start, end, zones)
        drafts = []
        for zone in zones:
            known = self._zone_interval(zone, start, end, scene, samples)
            body = account_interval(known)
            body["cells"] = [
                {
                    "name": cell.name,
                    "nodes": len(cell.nodes),
                    "gpusPerNode": max((node.gpus for node in cell.nodes), default=0),
                    "nodeIdleKw": zone.spec.node_idle_power_watts / 1000.0,
                    "marginalPue": 1.0 + known.overhead.marginal(known.ambient_c),
                }
                for cell in scene.assembly.layout.cells
                if cell.grid_zone == zone.metadata.name
            ]
            drafts.append(Draft(kind=Kind.ACCOUNT, at=self._clock.now(), body=body))
        return drafts

    def closed(self, drafts: Sequence[Draft], end: datetime) -> None:
        """Take note that an interval is written."""
        for draft in drafts:
            body = draft.body
            zone, start = str(body["zone"]), body["start"]
            prices = tuple(price_of(told) for told in body["signals"])
            adds, tariff = dict(body["adds"]), tariff_of(body["tariff"])
            self._provisional[zone, start] = _Provisional(zone, start, body["end"], adds, prices, tariff)
            self._remember(zone, body)
        self.cursor = end
        self._provisional = {k: p for k, p in self._provisional.items() if p.end > end - PROVISIONAL}
        self._witness.forget(end - PROVISIONAL)

    def revisions(self) -> list[tuple[Draft, "_Provisional", dict[str, Any]]]:
        """Return the records by which late grid data replaces estimates; `revised` takes note of those written."""
        found = []
        for item in self._provisional.values():
            prices = self.prices.of(item.zone, item.start, item.end)
            tariff = self.prices.tariff(item.zone, item.start, item.end) or item.tariff
            if not better(prices, item.prices) and tariff == item.tariff:
                continue
            total = repriced(item.total, prices, tariff)
            change = add_tables(total, item.total, sign=-1.0)
            body = {
                "method": "embellie-account/1",
                "zone": item.zone,
                "start": item.start,
                "end": item.end,
                "revision": item.revision + 1,
                "why": "late grid data",
                "signals": [signal_entry(price) for price in prices],
                "tariff": tariff_entry(tariff),
                "before": [signal_entry(price) for price in item.prices],
                "adds": _without_zeros(change),
            }
            found.append((Draft(kind=Kind.ACCOUNT, at=self._clock.now(), body=body), item, total))
        return found

    def revised(self, item: "_Provisional", draft: Draft, total: dict[str, Any]) -> None:
        """Take note that a revision is written."""
        item.total, item.revision = total, item.revision + 1
        item.prices = tuple(price_of(told) for told in draft.body["signals"])
        item.tariff = tariff_of(draft.body["tariff"])

    def revision_grams(self) -> dict[tuple[str, SignalKind], float]:
        """Return what revisions changed in all that is still provisional, by zone and kind [g]."""
        return dict(self._changed)

    def note_changes(self, drafts: Sequence[Draft]) -> None:
        """Add up what revisions changed."""
        for draft in drafts:
            for kind, grams in draft.body["adds"].get("grams", {}).items():
                key = (str(draft.body["zone"]), SignalKind(kind))
                self._changed[key] = self._changed.get(key, 0.0) + grams

    def drawn(self, uid: str) -> tuple[float, float, float]:
        """Return what a gang drew above idle, how much of that was not measured [kWh], and its GPU-hours."""
        kwh = estimated = gpu_s = 0.0
        for item in self._provisional.values():
            row = item.total.get("workloads", {}).get(uid)
            if row is not None:
                kwh += row["dynamicKwh"]
                estimated += row["estimatedKwh"]
                gpu_s += row["gpuSeconds"]
        return kwh, estimated, gpu_s / 3600.0

    def _samples(self, start: datetime, end: datetime, zones: Sequence[GridZone]) -> EnergySamples:
        if self._source is None:
            return EnergySamples()
        pad = (end - start) * PAD_SHARE
        first, last = self._clock.to_wall(start - pad), self._clock.to_wall(end + pad)
        last = min(last, datetime.now(UTC))
        step_s = self._clock.wall_seconds(end - start) / SAMPLES_PER_INTERVAL
        queries = {z.metadata.name: z.spec.power_sensor.query for z in zones if z.spec.power_sensor is not None}
        pods = {pod: node for pod, (_, node) in self._witness.pods.items()}
        return self._source.read(first, last, step_s, zone_queries=queries, pods=pods)

    def _zone_interval(
        self, zone: GridZone, start: datetime, end: datetime, scene: Scene, samples: EnergySamples
    ) -> ZoneInterval:
        spec, name = zone.spec, zone.metadata.name
        layout = scene.assembly.layout
        nodes = layout.nodes_of_grid_zone.get(name, ())
        mine = {node.name: name for node in nodes}
        machines = tuple(
            Machine(
                name=node.name,
                gpus=node.gpus,
                idle_w=float(spec.node_idle_power_watts),
                gpu_idle_w=float(spec.gpu_idle_power_watts),
                host_share=spec.host_overhead_percent / 100.0,
                product=node.labels.get(names.GPU_PRODUCT_LABEL, ""),
                power=self._clocked(samples.nodes.get(node.name)),
            )
            for node in nodes
        )
        gpus = tuple(
            GpuMeter(
                node=gpu.node,
                samples=self._clocked_pairs(gpu.samples),
                counter=gpu.counter,
                holders=tuple(self._held(gpu.holders.get(at_s, {})) for at_s in sorted(gpu.samples)),
            )
            for gpu in samples.gpus.values()
            if gpu.node in mine
        )
        cpu_of = {
            self._witness.pods[pod][0]: self._clocked(series)
            for pod, series in samples.pod_cpu.items()
            if pod in self._witness.pods
        }
        team_of = (
            {n.name: n.labels.get(self._team_label, "") for n in scene.view.namespaces} if self._team_label else {}
        )
        gangs = gangs_of(
            list(self._witness.tracks.values()),
            mine,
            name,
            end,
            team_of=lambda namespace: team_of.get(namespace, ""),
            watts_of=lambda track: self.classes.watts(track, float(spec.gpu_rated_power_watts)),
            cpu_of=cpu_of,
        )
        unit_w = 1000.0 if spec.power_sensor is not None and str(spec.power_sensor.unit) == "Kilowatt" else 1.0
        meter = self._clocked(samples.zones.get(name), unit_w)
        return ZoneInterval(
            zone=name,
            start=start,
            end=end,
            machines=machines,
            gpus=gpus,
            gangs=gangs,
            meter=meter,
            ambient_c=self.prices.ambient_c(name, start),
            overhead=self._overhead(zone),
            prices=self.prices.of(name, start, end),
            tariff=self.prices.tariff(name, start, end),
        )

    def _held(self, holders: Mapping[tuple[str, str], float]) -> dict[str, float]:
        return {self._witness.pods[pod][0]: weight for pod, weight in holders.items() if pod in self._witness.pods}

    def _clocked(self, series: Any, factor: float = 1.0) -> Samples:
        if series is None:
            return Samples()
        return Samples(
            at_s=tuple(self._clock_s(at_s) for at_s in series.at_s), values=tuple(v * factor for v in series.values)
        )

    def _clocked_pairs(self, pairs: Mapping[float, float]) -> Samples:
        ordered = sorted(pairs)
        return Samples(at_s=tuple(self._clock_s(at) for at in ordered), values=tuple(pairs[at] for at in ordered))

    def _clock_s(self, wall_s: float) -> float:
        return self._clock.from_wall(datetime.fromtimestamp(wall_s, UTC)).timestamp()

    def _overhead(self, zone: GridZone) -> OverheadModel:
        """Return the model of the hours before; the stated PUE until there are enough of them."""
        name, today = zone.metadata.name, self._clock.now().date()
        hours = self._hours.get(name)
        if hours is not None and (hours.fitted_on != today or hours.model is None):
            hours.fitted_on = today
            enough = MIN_HOURS * 3600.0 / self._interval.total_seconds()
            if len(hours.it_kw) >= enough:
                warm = np.array(hours.ambient_c)
                known = warm if np.isfinite(warm).all() else None
                hours.model = fit_overhead(np.array(hours.it_kw), np.array(hours.meter_kw), known) or hours.model
        if hours is not None and hours.model is not None:
            return hours.model
        return OverheadModel.from_pue(zone.spec.power_usage_effectiveness_percent / 100.0)

    def _remember(self, zone: str, body: Mapping[str, Any]) -> None:
        """Keep what the overhead model learns from: intervals with a meter of the zone and of all its nodes."""
        kwh, seconds = body["adds"]["kwh"], body["adds"]["seconds"]
        whole = seconds["nodesMetered"] >= 0.9 * seconds["nodeSeconds"] > 0
        if kwh["metered"] <= 0.0 or not whole:
            return
        hours = self._hours.setdefault(zone, _Hours())
        scale = 3600.0 / seconds["length"]
        hours.it_kw.append((kwh["jobs"] + kwh["idle"]) * scale)
        hours.meter_kw.append(kwh["metered"] * scale)
        ambient = body.get("ambientC")
        hours.ambient_c.append(float("nan") if ambient is None else float(ambient))

    def _learn(self, run: Mapping[str, Any]) -> None:
        watts, hours = float(run.get("wattsPerGpu") or 0.0), float(run.get("meteredGpuHours") or 0.0)
        self.classes.learn(str(run.get("namespace", "")), watts, hours)


def _without_zeros(table: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a revision does not change."""
    kept: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = _without_zeros(value)
            if inner:
                kept[key] = inner
        elif value:
            kept[key] = value
    return kept
