# SPDX-License-Identifier: Apache-2.0
"""Reads what a site's own plants deliver: CSV, plain or gzip, a row an hour or finer, labelled with its beginning.

A replay takes a value for what was delivered, so nothing is bridged here: a gap is an error.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.onsite import G_PER_KWH
from embellie.domain.reasons import SignalKind
from embellie.simulation.whatif.carbon_file import moment_of, time_column_of
from embellie.simulation.whatif.case import Work
from embellie.simulation.whatif.onsite import OnSite
from embellie.simulation.whatif.study import Setup
from embellie.simulation.whatif.tables import Table, number_of, read_text, table_of

_UNIT = "_kw"
_OTHER_UNIT = re.compile(r"_(?:[wm]|gw|wh|kwh|mwh|watts?|mw)$", re.IGNORECASE)
_KINDS = (("Solar", re.compile("solar|pv", re.IGNORECASE)), ("Wind", re.compile("wind", re.IGNORECASE)))
_AT_REST = 0.01
"""An inverter at night takes up to this share of the peak: that delivers nothing. More is a meter the wrong way round,
or the site's own draw."""
_LONGEST = timedelta(hours=1)
_MOST_OF_SITE, _LEAST_OF_SITE = 100.0, 1.0 / 500.0
"""A plant beyond these times what the site draws is a mistake by a factor of a thousand, or of no account."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnSiteHistory:
    """What plants delivered, at a fixed step."""

    file: str
    start: datetime
    step: timedelta
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    """Solar or Wind, by column."""
    kw: FloatArray
    """Shape (columns, rows)."""

    @property
    def end(self) -> datetime:
        """When the last row ends."""
        length: timedelta = self.step * int(self.kw.shape[1])
        return self.start + length

    def means_kw(self, start: datetime, step_s: float, slots: int) -> FloatArray:
        """Return the mean power of slots from a moment on, shape (columns, slots); NaN where the file does not reach.

        Args:
            start: Beginning of the first slot.
            step_s: Length of a slot [s].
            slots: How many.
        """
        own_s = self.step.total_seconds()
        edges_s = np.arange(self.kw.shape[1] + 1) * own_s
        at_s = (start - self.start).total_seconds() + np.arange(slots + 1) * step_s
        sums = [np.concatenate(([0.0], np.cumsum(row))) * own_s for row in self.kw]
        means = np.stack([np.diff(np.interp(at_s, edges_s, row)) / step_s for row in sums])
        covered = (at_s[:-1] >= -1e-6) & (at_s[1:] <= edges_s[-1] + 1e-6)
        # Sums that cancel leave no trace of power at night.
        return np.where(covered, np.maximum(np.round(means, 9), 0.0), np.nan)


def read_on_site(path: Path, columns: Sequence[str] = ()) -> OnSiteHistory:
    """Read a history. Raises ValueError, naming the column or line, for what cannot be used.

    Args:
        path: The file.
        columns: Which columns are added up; none takes all of kW.
    """
    file = path.name
    table = table_of(read_text(path), file)
    if len(table.rows) < 2:
        raise ValueError(f"{file} holds no history: a CSV with a header, times and kW is needed")
    times = time_column_of(table)
    if times is None:
        raise ValueError(f"{file} has no column of times: call it utc, with times such as 2021-03-04T00:00Z")
    chosen = _columns(table.names, columns, file)
    faulty = next((row for row in table.rows if row.fault), None)
    if faulty:
        raise ValueError(f"line {faulty.line} of {file}: {faulty.fault}")
    moments = [moment_of(row, times, file) for row in table.rows]
    step = _step(moments, table, times)
    kw = np.stack([_values(table, name) for name in chosen])
    return OnSiteHistory(
        file=file,
        start=moments[0],
        step=step,
        columns=tuple(chosen),
        kinds=tuple(_kind(name, file) for name in chosen),
        kw=kw,
    )


def _columns(names: list[str], wanted: Sequence[str], file: str) -> list[str]:
    for name in wanted:
        if name not in names:
            raise ValueError(f"--on-site-column: {file} has no column {name!r}; it has {', '.join(names[:12])}")
    found = list(dict.fromkeys(wanted)) or [name for name in names if name.lower().endswith(_UNIT)]
    others = [name for name in found or names if _OTHER_UNIT.search(name)]
    if others:
        raise ValueError(f"column {others[0]} of {file} is not in kW: convert it, and call it {_in_kw(others[0])}")
    if not found or not all(name.lower().endswith(_UNIT) for name in found):
        raise ValueError(
            f"{file} needs columns in kW, called solar_kw or wind_kw for example; it has {', '.join(names[:12])}"
        )
    return found


def _in_kw(name: str) -> str:
    return _OTHER_UNIT.sub(_UNIT, name)


def _kind(name: str, file: str) -> str:
    kinds = [kind for kind, words in _KINDS if words.search(name)]
    if len(kinds) != 1:
        raise ValueError(
            f"column {name} of {file} must say what it is, solar (or pv) or wind, as in solar_kw: their kWh count with "
            "factors of their own. Where others stand beside it, choose with --on-site-column"
        )
    return kinds[0]


def _step(moments: list[datetime], table: Table, column: str) -> timedelta:
    """Return the step of rows without gaps."""
    file = table.file
    steps = [after - before for before, after in pairwise(moments)]
    step = sorted(steps)[len(steps) // 2]
    if step <= timedelta(0):
        raise ValueError(f"column {column} of {file}: its times must rise from row to row")
    if step > _LONGEST:
        raise ValueError(f"{file} has a row every {step}: an hour or finer is needed")
    for i, between in enumerate(steps):
        if between != step:
            found = "comes twice or goes back" if between < step else f"comes {between} after the row before"
            raise ValueError(
                f"line {table.rows[i + 1].line} of {file}: {moments[i + 1]:%Y-%m-%d %H:%M} UTC {found}, with a step of "
                f"{step}. Gaps are not bridged: write what was delivered then (0 for nothing)"
            )
    return step


def _values(table: Table, name: str) -> FloatArray:
    rows, file = table.rows, table.file
    kw = np.array([number_of(row.cells.get(name), table.decimal_comma) for row in rows])
    bad = np.flatnonzero(~np.isfinite(kw))
    if bad.size:
        first = rows[int(bad[0])]
        raise ValueError(
            f"line {first.line} of {file}: {name} is {first.cells.get(name)!r}, no number ({bad.size} such rows). Gaps "
            "are not bridged: write what was delivered then (0 for nothing)"
        )
    peak = float(kw.max())
    if peak <= 0.0:
        raise ValueError(f"column {name} of {file} is never above 0 kW: is its sign the wrong way round?")
    wrong = np.flatnonzero(kw < -_AT_REST * peak)
    if wrong.size:
        first = rows[int(wrong[0])]
        raise ValueError(
            f"line {first.line} of {file}: {name} is {kw[wrong[0]]:g} kW ({wrong.size} such rows). What a plant "
            "delivers is positive: is the site's draw, or the exchange with the grid, in it?"
        )
    return np.asarray(np.maximum(kw, 0.0), dtype=np.float64)


def behind(setup: Setup, plants: OnSiteHistory, *, direct: bool) -> Setup:
    """Return a setup behind plants. Raises ValueError for plants that do not reach over it, or are in another unit.

    Args:
        setup: With a capacity, on an axis with a calendar.
        plants: What they deliver.
        direct: Whether the grid's intensities are direct, and not those of the life cycle.
    """
    case, per = setup.case, setup.case.axis.ticks_per_slot
    axis, work, site = case.axis, case.work, case.site
    if axis.start is None:
        raise ValueError("own power needs the calendar: the grid's history has no times")
    _check_size(plants, site.pue * (site.capacity_gpus or 0.0) * float((work.power_kw / work.gpus).max()))
    _check_work(work, site.idle_kw_per_gpu)
    slot_s = per * axis.tick_s
    past = int((axis.start - plants.start).total_seconds() // slot_s)
    kw = plants.means_kw(axis.start, slot_s, axis.n_slots)
    before = plants.means_kw(axis.start - max(past, 0) * timedelta(seconds=slot_s), slot_s, max(past, 0))
    first = int(work.arrival.min()) // per
    last = min(axis.known_slots, -(-int((work.arrival + work.length + work.wait).max()) // per))
    known = np.isfinite(kw[0])
    if not known[first:last].all():
        begin, end = axis.moment(first * per), axis.moment(last * per)
        raise ValueError(
            f"{plants.file} covers {plants.start:%Y-%m-%d %H:%M} to {plants.end:%Y-%m-%d %H:%M} UTC, and the work may "
            f"run from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}: give a file that reaches over it, or choose "
            "work with --from and --until"
        )
    kind = SignalKind.AVERAGE_DIRECT if direct else SignalKind.AVERAGE_LIFECYCLE
    until = int(np.flatnonzero(known)[-1]) + 1
    on_site = OnSite(
        plants_kw=np.nan_to_num(kw[:, :until]),
        past_kw=before,
        plants_g=np.array([G_PER_KWH[kind][name] for name in plants.kinds]),
    ).extended(axis.n_slots, axis.slot_h)
    return replace(setup, case=replace(case, on_site=on_site))


def _check_work(work: Work, idle_kw_per_gpu: float) -> None:
    """Refuse work that draws less than its GPUs without it: the bound takes no more own power to be left than idle."""
    less = np.flatnonzero(work.power_kw < work.gpus * idle_kw_per_gpu * (1.0 - 1e-9))
    if less.size:
        job = int(less[0])
        raise ValueError(
            f"job {work.ids[job]} draws {work.power_kw[job]:g} kW, and its {work.gpus[job]:g} GPUs "
            f"{work.gpus[job] * idle_kw_per_gpu:g} kW without work: own power needs work that draws no less, see "
            "--watts-per-gpu, --watts-per-job and --idle-watts-per-gpu"
        )


def _check_size(plants: OnSiteHistory, site_kw: float) -> None:
    """Refuse what is more likely in another unit; the site draws `site_kw` at most."""
    peak = float(plants.kw.sum(axis=0).max())
    told = f"{' + '.join(plants.columns)} of {plants.file}: {peak:,.4g} kW at its peak, and the site {site_kw:,.4g} kW "
    if peak > _MOST_OF_SITE * site_kw:
        raise ValueError(f"{told}at most: is it in W? It must be in kW")
    if peak < _LEAST_OF_SITE * site_kw:
        raise ValueError(f"{told}at most: is it in MW, or of a plant of 1 kW? It must be in kW")
