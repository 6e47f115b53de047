# SPDX-License-Identifier: Apache-2.0
"""Closes one interval after another, and revises it when late grid data comes.

What it needs over a restart it reads back from the ledger: up to where it is, what is still provisional, and what the
overhead model was fitted on.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from embellie.accounting.interval import account_interval, method_of, repriced, signal_entry, tariff_entry
from embellie.accounting.known import NO_ZONE, Price, Tariff
from embellie.accounting.overhead import MIN_HOURS, OverheadModel, fit_overhead
from embellie.api.gridzone import GridZone
from embellie.cluster.records import NodeRecord
from embellie.control.recording.metering import Metering, nodes_without_zone
from embellie.control.recording.prices import PROVISIONAL, Prices, merged, price_of, tariff_of
from embellie.control.recording.records import Scene
from embellie.control.recording.witness import PowerClasses, Witness
from embellie.domain.clock import Clock
from embellie.domain.reasons import SignalKind
from embellie.domain.sums import add_tables
from embellie.ledger import Draft, Entry, Kind
from embellie.telemetry.energy import EnergySamples, EnergySource, PodName
from embellie.telemetry.intensity import IntensityFolder
from embellie.telemetry.tariffs import TariffFolder
from embellie.telemetry.zone_files import slot_of

logger = logging.getLogger(__name__)

FITTED_ON = 14 * 96
"""Intervals that the overhead model looks back: at 15 minutes two weeks."""
NODES_NAMED = 20
"""So many nodes without a zone are named in a record; the others are counted."""


@dataclass(slots=True)
class _Provisional:
    zone: str
    start: datetime
    end: datetime
    total: dict[str, Any]
    prices: tuple[Price, ...]
    tariff: Tariff | None
    first_grams: dict[str, float]
    """What was booked at first, by kind of signal [g]."""
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
        self._clock, self._witness, self._interval = clock, witness, interval
        self.prices = Prices(intensity, tariffs)
        self.classes = PowerClasses()
        self._metering = Metering(
            clock=clock,
            source=source,
            witness=witness,
            classes=self.classes,
            prices=self.prices,
            team_label=team_label,
        )
        self._provisional: dict[tuple[str, datetime], _Provisional] = {}
        self._hours: dict[str, _Hours] = {}
        self._strays: tuple[str, ...] = ()
        """Nodes without a zone, as last told in the log."""
        self.cursor: datetime | None = None
        """Everything before it is accounted."""
        self.began: dict[str, datetime] = {}
        """When gangs first started, by uid: a restart forgets the pods of what was paused."""

    def restore(self, entries: Iterable[Entry], now: datetime) -> None:
        """Take in the account records of the last days, in the place of all that was known."""
        self._provisional, self._hours, self.cursor = {}, {}, None
        self.classes.sums.clear()
        self.began.clear()
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
            before, revision = self._provisional.get((zone, start)), int(body["revision"])
            if before is None and revision:
                # Its first record is older than what is read back: what a revision adds is not the whole.
                continue
            total = add_tables(before.total if before else {}, body["adds"])
            first = dict(before.first_grams if before else body["adds"]["grams"])
            prices = tuple(price_of(told) for told in body.get("signals", ()))
            tariff = tariff_of(body.get("tariff"))
            self._provisional[zone, start] = _Provisional(zone, start, end, total, prices, tariff, first, revision)
            if before is None:
                self._remember(zone, body)
        if self.was_set_back(now):
            ends = (item.end for item in self._provisional.values())
            self.cursor = max((end for end in ends if end <= now), default=None)

    def was_set_back(self, now: datetime) -> bool:
        """Tell whether the clock was days ahead and is no more: nothing would be accounted until it is there again."""
        return self.cursor is not None and self.cursor - now > PROVISIONAL

    def due(self, now: datetime, settle: timedelta) -> list[tuple[datetime, datetime]]:
        """Return the intervals that have ended long enough ago, oldest first; never one that was closed before."""
        if self.cursor is None:
            self.cursor = slot_of(now, self._interval)
        found, start = [], self.cursor
        closed = {item.start for item in self._provisional.values()}
        while start + self._interval + settle <= now:
            # Those that a clock closed that was days ahead are closed.
            if start not in closed:
                found.append((start, start + self._interval))
            start += self._interval
        return found

    def skipped(self, now: datetime) -> tuple[datetime, datetime] | None:
        """Skip and return the stretch that nobody can account any more: the clock jumped, or it was off for days."""
        if self.cursor is None or now - self.cursor <= PROVISIONAL:
            return None
        start, self.cursor = self.cursor, slot_of(now, self._interval) - self._interval
        return start, self.cursor

    def samples(
        self, start: datetime, end: datetime, scene: Scene, pods: Mapping[PodName, str]
    ) -> EnergySamples | None:
        """Ask for an interval's samples. May wait long for the network: nothing else may wait for it.

        None while all meters are silent and the interval can still wait for them.

        Args:
            start: Its begin.
            end: Its end.
            scene: Whose zones have meters.
            pods: Pods that held GPUs -> their node.
        """
        return self._metering.samples(start, end, scene.assembly.grid_zones, pods)

    def close(self, start: datetime, end: datetime, scene: Scene, samples: EnergySamples) -> list[Draft]:
        """Account one interval, all zones; the cursor moves when the caller has written them."""
        zones = scene.assembly.grid_zones
        drafts = []
        for zone in zones:
            known = self._metering.zone(zone, start, end, scene, samples, self._overhead(zone))
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
        strays = nodes_without_zone(scene)
        self._tell_strays(strays)
        if strays:
            body = account_interval(self._metering.without_zone(strays, start, end, scene, samples))
            body["nodes"] = {"count": len(strays), "names": [node.name for node in strays[:NODES_NAMED]]}
            drafts.append(Draft(kind=Kind.ACCOUNT, at=self._clock.now(), body=body))
        return drafts

    def _tell_strays(self, strays: Sequence[NodeRecord]) -> None:
        found = tuple(node.name for node in strays)
        if found != self._strays and found:
            logger.warning(
                "%d nodes with GPUs belong to no GridZone (%s%s): their energy is counted under %s, without emissions; "
                "make a GridZone's nodeSelector match them",
                len(found), ", ".join(found[:NODES_NAMED]), ", ..." if len(found) > NODES_NAMED else "", NO_ZONE,
            )  # fmt: skip
        self._strays = found

    def closed(self, drafts: Sequence[Draft], end: datetime) -> None:
        """Take note that an interval is written."""
        for draft in drafts:
            body = draft.body
            zone, start = str(body["zone"]), body["start"]
            prices = tuple(price_of(told) for told in body["signals"])
            adds, tariff = dict(body["adds"]), tariff_of(body["tariff"])
            first = dict(adds["grams"])
            self._provisional[zone, start] = _Provisional(zone, start, body["end"], adds, prices, tariff, first)
            self._remember(zone, body)
        self.cursor = end
        self._provisional = {k: p for k, p in self._provisional.items() if p.end > end - PROVISIONAL}
        self._witness.forget(end - PROVISIONAL)

    def revisions(self) -> list[tuple[Draft, "_Provisional", dict[str, Any]]]:
        """Return the records by which late grid data replaces estimates; `revised` takes note of those written."""
        found = []
        for item in self._provisional.values():
            prices = merged(self.prices.of(item.zone, item.start, item.end), item.prices)
            tariff = self.prices.tariff(item.zone, item.start, item.end) or item.tariff
            if prices == item.prices and tariff == item.tariff:
                continue
            total = repriced(item.total, prices, tariff)
            change = add_tables(total, item.total, sign=-1.0)
            body = {
                "method": method_of(total),
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
        changed: dict[tuple[str, SignalKind], float] = {}
        for item in self._provisional.values():
            for kind, grams in item.total["grams"].items():
                key = (item.zone, SignalKind(kind))
                changed[key] = changed.get(key, 0.0) + grams - item.first_grams.get(kind, 0.0)
        return changed

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

    def _overhead(self, zone: GridZone) -> OverheadModel:
        """Return the model of the hours before; the stated PUE until there are enough of them."""
        name, today = zone.metadata.name, self._clock.now().date()
        hours = self._hours.get(name)
        if hours is not None and (hours.fitted_on != today or hours.model is None):
            hours.fitted_on = today
            interval_h = self._interval.total_seconds() / 3600.0
            if len(hours.it_kw) * interval_h >= MIN_HOURS:
                warm = np.array(hours.ambient_c)
                known = warm if np.isfinite(warm).all() else None
                it_kw, meter_kw = np.array(hours.it_kw), np.array(hours.meter_kw)
                hours.model = fit_overhead(it_kw, meter_kw, known, interval_h=interval_h) or hours.model
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
        uid, start = str(run["uid"]), datetime.fromisoformat(run["start"])
        self.began[uid] = min(start, self.began.get(uid, start))
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
