# SPDX-License-Identifier: Apache-2.0
"""The counterfactual of a report: site, runs, meters and intensities out of the books, replayed and priced."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np

from embellie.accounting import Run, Signal
from embellie.accounting.draws import Window, intensities
from embellie.accounting.naive import naive_sum, why_they_differ
from embellie.accounting.onsite import OnSite
from embellie.accounting.ranges import Range
from embellie.accounting.savings import Savings, savings
from embellie.cli.reporting.books import HOUR, LET_GO, Books, Interval
from embellie.cli.reporting.coverage import NEEDED, UNSEEN
from embellie.cli.reporting.period import ReportError
from embellie.domain.forecast import FloatArray
from embellie.domain.onsite import G_PER_KWH
from embellie.domain.reasons import SignalKind
from embellie.simulation.counterfactual import DRAWS, Observed, Replayed, replay_counterfactual
from embellie.simulation.model import SimCell, SimGridZone, SimSite

NAIVE_BY_GRID = "It counts no on-site energy, and is compared with the saving without it."
LONGEST_PAST_BOUND = timedelta(days=1)
"""Longer after its latest start nothing is held: maxLimitHold is some hours."""
LONGEST_QUEUE = timedelta(days=1)
"""Work that was let go and of which no run is recorded for so long ran unseen between two turns, or was deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a period's electricity cost, and what it would have cost first come first served."""

    currency: str
    measured: float
    saved: Range

    @property
    def counterfactual(self) -> float:
        """What first come first served would have cost."""
        return self.measured + self.saved.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """How much later a gang started than first come first served; below zero is earlier."""

    namespace: str
    team: str
    zone: str
    hours: float
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Savings of a period, and what stands beside them."""

    savings: Savings
    by_grid: Savings | None
    """The same by the grid's intensity alone; None where no plant on a site counts."""
    naive_g: float
    naive_by_zone: Mapping[str, float]
    sentence: str
    replayed: Replayed
    delays: tuple[Delay, ...]
    """Of work that may wait."""
    hours_filled: int
    cost: "Cost | None"


def replay_books(books: Books, kind: SignalKind, *, draws: int = DRAWS) -> Saved:
    """Replay the period's arrivals; raises ReportError where the books do not hold what that needs."""
    zones = sorted(books.cells)
    if not zones:
        raise ReportError("no account of the period says which nodes there were")
    window = _window(books)
    signals, filled = _signals(books, zones, window, kind)
    site = _site(books, zones, signals)
    observed = _observed(books, site)
    if not observed:
        raise ReportError("no work ran in the period, so there is nothing to compare")
    replayed = replay_counterfactual(observed, site, window, draws=draws)
    meters = _meters(books, zones, window)
    ci = intensities(signals, site.zone_powers(), window)
    currency, per_kwh = _tariffs(books, zones, window)
    saving = partial(savings, replayed.draws, ci, kind, measured_kwh=meters, prices=per_kwh, days_of=books.period.zone)
    by_grid, own = saving(), _on_site(books, zones, window, kind)
    found = by_grid if own is None else saving(on_site=own)
    cost = None
    if per_kwh is not None and found.cost_saved is not None:
        cost = Cost(currency=currency, measured=float((meters * per_kwh).sum()), saved=found.cost_saved)
    runs = [one.run for one in observed]
    pue = {cell.grid_zone: cell.pue for cell in site.cells}
    naive_of = {zone: naive_sum([run for run in runs if run.zone == zone], pue, signals) for zone in zones}
    naive = sum(naive_of.values())
    return Saved(
        savings=found,
        by_grid=None if own is None else by_grid,
        naive_g=naive,
        naive_by_zone=naive_of,
        # The sum over jobs knows the grid only.
        sentence=why_they_differ(by_grid, naive) + ("" if own is None else f" {NAIVE_BY_GRID}"),
        replayed=replayed,
        delays=_delays(books, runs, replayed),
        hours_filled=filled,
        cost=cost,
    )


def _window(books: Books) -> Window:
    """Return the whole hours from the first to the last account; in the ledger's intervals where on-site energy counts.

    Within an hour the sun may give more than is drawn, and then less.
    """
    starts = [interval.start for interval in books.intervals.values()]
    if not starts:
        raise ReportError(
            "the period holds only daily accounts of compacted records, from which nothing can be replayed"
        )
    first = _hour(min(starts))
    last = max(interval.end for interval in books.intervals.values())
    hours = int((last - first) / HOUR)
    if hours < 1:
        raise ReportError("the period holds less than an hour of accounts; ask for a longer one")
    step = HOUR
    if any("onSite" in interval.adds for interval in books.intervals.values()):
        longest = max(interval.end - interval.start for interval in books.intervals.values())
        step = longest if HOUR % longest == timedelta(0) else HOUR
    return Window(start=first, step=step, slots=hours * (HOUR // step))


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _inside(books: Books, zones: list[str], window: Window) -> Iterator[tuple[tuple[int, int], Interval]]:
    """Give the intervals of these zones that lie in a window, each with its zone's row and its slot."""
    index = {zone: z for z, zone in enumerate(zones)}
    for interval in books.intervals.values():
        slot = int((interval.start - window.start) / window.step)
        if interval.zone in index and 0 <= slot < window.slots:
            yield (index[interval.zone], slot), interval


def _by_slot(
    books: Books, zones: list[str], window: Window
) -> dict[tuple[int, int], list[tuple[float, float, dict[str, float]]]]:
    """Return (zone, slot) -> (seconds, kWh, intensity by kind) of its intervals."""
    found: dict[tuple[int, int], list[tuple[float, float, dict[str, float]]]] = {}
    for at, interval in _inside(books, zones, window):
        values = {name: float(told["gPerKwh"]) for name, told in interval.signals.items()}
        seconds = (interval.end - interval.start).total_seconds()
        found.setdefault(at, []).append((seconds, interval.adds["kwh"]["facility"], values))
    return found


def _signals(books: Books, zones: list[str], window: Window, kind: SignalKind) -> tuple[dict[str, Signal], int]:
    values = np.full((len(zones), window.slots), np.nan)
    for (z, slot), parts in _by_slot(books, zones, window).items():
        known = [v[kind] for _, _, v in parts if kind in v]
        if known:
            values[z, slot] = float(np.mean(known))
    holes = int(np.isnan(values).sum())
    if holes > (1.0 - NEEDED) * values.size:
        share = 100.0 * (1.0 - holes / values.size)
        raise ReportError(
            f"the {kind.words} carbon intensity is known for {share:.0f} % of the hours, and {100 * NEEDED:.0f} % are "
            "needed; write the missing hours to intensity/ZONE.csv in the folder that operator and forecaster share"
        )
    _fill(values)
    return {
        zone: Signal(start=window.start, step=window.step, values=values[z], kind=kind) for z, zone in enumerate(zones)
    }, math.ceil(holes * (window.step / HOUR))


def _fill(values: FloatArray) -> None:
    """Fill each row's holes from their neighbours."""
    hours = np.arange(values.shape[1])
    for row in values:
        good = np.isfinite(row)
        row[~good] = np.interp(hours[~good], hours[good], row[good])


def _tariffs(books: Books, zones: list[str], window: Window) -> tuple[str, FloatArray | None]:
    """Return the currency and the price by zone and slot [currency/kWh]; None where too few slots have one."""
    sums, counts = np.zeros((len(zones), window.slots)), np.zeros((len(zones), window.slots))
    currencies = set()
    for at, interval in _inside(books, zones, window):
        if interval.tariff is not None:
            currencies.add(str(interval.tariff["currency"]))
            sums[at] += float(interval.tariff["perMwh"]) / 1000.0
            counts[at] += 1
    known = counts > 0
    if len(currencies) != 1 or known.mean() < NEEDED or not known.any(axis=1).all():
        return "", None
    values = np.where(known, sums / np.maximum(counts, 1), np.nan)
    _fill(values)
    return currencies.pop(), values


def _meters(books: Books, zones: list[str], window: Window) -> FloatArray:
    """Return facility energy by zone and slot; one without accounts counts as the mean of the others."""
    kwh = np.full((len(zones), window.slots), np.nan)
    for (z, slot), parts in _by_slot(books, zones, window).items():
        seconds = sum(s for s, _, _ in parts)
        if seconds > 0:
            kwh[z, slot] = sum(k for _, k, _ in parts) * window.step.total_seconds() / seconds
    for row in kwh:
        row[np.isnan(row)] = float(np.nanmean(row)) if np.isfinite(row).any() else 0.0
    return kwh


def _on_site(books: Books, zones: list[str], window: Window, kind: SignalKind) -> OnSite | None:
    """Return what metered plants delivered by zone and slot; None where there are none, and nothing where none did."""
    kwh, grams = np.zeros((len(zones), window.slots)), np.zeros((len(zones), window.slots))
    counted = False
    for at, interval in _inside(books, zones, window):
        for plant, row in interval.adds.get("onSite", {}).items():
            counted = True
            kwh[at] += row["deliveredKwh"]
            grams[at] += row["deliveredKwh"] * G_PER_KWH[kind][plant]
    return OnSite(kwh=kwh, g_per_kwh=grams / np.where(kwh > 0.0, kwh, 1.0)) if counted else None


def _site(books: Books, zones: list[str], signals: Mapping[str, Signal]) -> SimSite:
    return SimSite(
        cells=tuple(
            SimCell(
                name=str(cell["name"]),
                grid_zone=zone,
                nodes=int(cell["nodes"]),
                gpus_per_node=int(cell["gpusPerNode"]),
                pue=float(cell["marginalPue"]),
                node_idle_kw=float(cell["nodeIdleKw"]),
            )
            for zone in zones
            for cell in books.cells[zone]
            if int(cell["gpusPerNode"]) > 0
        ),
        grid_zones=tuple(SimGridZone(name=zone, signal=signals[zone]) for zone in zones),
    )


def _observed(books: Books, site: SimSite) -> list[Observed]:
    zone_of = {cell.name: cell.grid_zone for cell in site.cells}
    found = []
    for uid, body in books.runs.items():
        cell = str(body.get("cell", ""))
        if cell not in zone_of or int(body["gpus"]) < 1:
            continue
        start = datetime.fromisoformat(body["start"])
        end, seen = _end(books, uid, start) if body.get("running") else (datetime.fromisoformat(body["end"]), None)
        one = _one(uid, body, cell, zone_of[cell], start, end, float(body["addedKw"]), int(body["gpusPerPod"]))
        found.append(one if seen is None else replace(one, so_far_s=max(0.0, (seen - one.run.start).total_seconds())))
    for uid, body in books.held.items():
        expects, choice = body.get("expects"), body["choice"]
        cell = choice["cell"] or next(iter(zone_of))
        if uid in books.runs or not expects or cell not in zone_of or body["workload"]["gpus"] < 1:
            continue
        if body["state"] in LET_GO and (
            datetime.fromisoformat(choice["plannedStart"]) + LONGEST_QUEUE < books.period.end
            or books.accounted_until > books.period.end + LONGEST_QUEUE
        ):
            continue
        if datetime.fromisoformat(choice["latestStart"]) + LONGEST_PAST_BOUND < books.period.end:
            # No hold lasts so long: it started or was deleted while nobody wrote, and cannot be replayed.
            continue
        # It waits beyond the period: in both worlds it still has to run.
        planned = datetime.fromisoformat(choice["plannedStart"] or choice["latestStart"])
        start = max(planned, books.period.end)
        told = {
            **body["workload"],
            "submitted": expects["submitted"],
            "latestStart": choice["latestStart"],
        }
        end = start + timedelta(seconds=float(expects["durationP50S"]))
        one = _one(uid, told, cell, zone_of[cell], start, end, float(expects["addedKw"]), int(expects["gpusPerPod"]))
        found.append(replace(one, so_far_s=0.0))
    return found


def _end(books: Books, uid: str, start: datetime) -> tuple[datetime, datetime | None]:
    """Return the end of a run that no record ends, and until when it was seen if that is only expected."""
    last = books.worked_until.get(uid, start)
    if books.accounted_until - last > UNSEEN:
        # Accounts go on without it: it ended while nobody led, and the last account that names it is its end.
        return last, None
    # Nobody knows how long it will go on: about as long again as it has (Lindy's rule).
    now = max(books.period.end, books.accounted_until)
    return now + max(now - start, timedelta(0)), now


def _one(
    uid: str,
    body: Mapping[str, object],
    cell: str,
    zone: str,
    start: datetime,
    end: datetime,
    added_kw: float,
    gpus_per_pod: int,
) -> Observed:
    submitted = datetime.fromisoformat(str(body["submitted"]))
    latest = body.get("latestStart")
    start = max(start, submitted)
    return Observed(
        run=Run(
            job=uid,
            zone=zone,
            submitted_at=submitted.astimezone(UTC),
            start=start,
            end=max(start, end),
            gpus=int(str(body["gpus"])),
            power_kw=added_kw,
            latest_start=datetime.fromisoformat(str(latest)) if latest else None,
        ),
        cell=cell,
        gpus_per_pod=gpus_per_pod,
    )


def _delays(books: Books, runs: list[Run], replayed: Replayed) -> tuple[Delay, ...]:
    would = {run.job: run.start for run in replayed.central}
    found = []
    for run in runs:
        body = books.runs.get(run.job)
        # What came before the period is replayed for the GPUs that it holds; its delay belongs to an earlier report.
        mine = books.period.start <= run.submitted_at < books.period.end
        if body is not None and mine and body.get("flex") in ("patient", "bonus") and run.job in would:
            late_h = (run.start - would[run.job]).total_seconds() / 3600.0
            namespace, team = str(body["namespace"]), books.teams.get(run.job, "")
            found.append(Delay(namespace=namespace, team=team, zone=run.zone, hours=late_h, gpus=run.gpus))
    return tuple(found)
