# SPDX-License-Identifier: Apache-2.0
"""Reads a history of carbon intensity: CSV, plain or gzip, one row a step, each labelled with its beginning."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import Axis
from embellie.simulation.whatif.moments import parse_utc
from embellie.simulation.whatif.tables import TOO_MANY, Row, Table, number_of, table_of

_TIME_WORDS = ("timestamp", "time", "utc", "date")
VALUE_NAMES = ("ci_lifecycle_g_per_kwh", "ci_g_per_kwh", "ci_direct_g_per_kwh")
_MOST_G_PER_KWH = 3000.0
_LEAST_MEAN_G_PER_KWH = 2.0
"""A whole history below it is more likely in kilograms."""
_MOST_REPEATED = 0.1
"""More rows whose time came before are something else than a clock that was set back."""
_OTHER_UNIT = re.compile(r"\blbs?\b|pound|percent|%|share|price", re.IGNORECASE)
_EPOCH = re.compile(r"\d{9,10}(?:\.\d+)?|\d{12,13}")
LEAST_USABLE = 0.5
_SHORT_STEP_S = 60.0
"""Steps shorter than this are ticks for jobs; the intensity keeps its own step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CarbonHistory:
    """Carbon intensity at a fixed step."""

    column: str
    time_column: str | None
    start: datetime | None
    """None where the file has no column of times."""
    step: timedelta
    g_per_kwh: FloatArray
    known: np.ndarray
    """Which steps had a usable value; the others were bridged from their neighbours."""
    told: tuple[str, ...] = ()
    """What its reader found, one sentence each."""

    @classmethod
    def bridged(
        cls,
        g_per_kwh: FloatArray,
        *,
        column: str,
        time_column: str | None,
        start: datetime | None,
        step: timedelta,
        told: tuple[str, ...] = (),
    ) -> "CarbonHistory":
        """Return a history of which steps without a value are bridged from their neighbours."""
        known = np.isfinite(g_per_kwh)
        filled = np.interp(np.arange(known.size), np.flatnonzero(known), g_per_kwh[known])
        return cls(
            column=column, time_column=time_column, start=start, step=step, g_per_kwh=filled, known=known, told=told
        )

    @property
    def filled(self) -> int:
        """How many steps were bridged."""
        return int((~self.known).sum())

    @property
    def notes(self) -> list[str]:
        """Return what a reader must know of it, one sentence each."""
        notes = list(self.told)
        holes = np.flatnonzero(~self.known)
        if holes.size:
            hours = self.step.total_seconds() / 3600.0
            runs = np.split(holes, np.flatnonzero(np.diff(holes) > 1) + 1)
            longest = max(run.size for run in runs) * hours
            notes.append(
                f"{self.filled} of {self.known.size} steps of {self.column} have no usable value and were bridged from "
                f"their neighbours, at the longest {longest:,.3g} h at once"
            )
        if _OTHER_UNIT.search(self.column):
            notes.append(f"is {self.column} an intensity in g/kWh? Its name says something else")
        if self.time_column is None:
            notes.append("it has no column of times: its rows are taken for hours, one after the other")
        if float(self.g_per_kwh.mean()) < _LEAST_MEAN_G_PER_KWH:
            notes.append(
                f"the mean of {self.column} is {float(self.g_per_kwh.mean()):.3g} g/kWh: is it in another unit? "
                "Shares stay true, masses do not"
            )
        return notes


def parse_carbon(text: str, file: str, column: str | None = None, time_column: str = "auto") -> CarbonHistory:
    """Read a history. Raises ValueError, naming the column or line, for what cannot be used.

    Args:
        text: The table.
        file: The name of its file.
        column: The column of g/kWh; None takes the life-cycle intensity, or the only column of numbers.
        time_column: The column of times; `auto` finds it by its name.
    """
    table = table_of(text, file)
    if not table.names:
        raise ValueError(f"{file} is empty: a CSV with a header row is needed")
    times = time_column_of(table, time_column)
    value = _value_column([name for name in table.names if name != times], column, file)
    numbers = np.array([_number(row, value, table) for row in table.rows])
    _check_usable(table, value, numbers)
    start, step = None, timedelta(hours=1)
    told: tuple[str, ...] = ()
    if times is not None:
        moments = [moment_of(row, times, file) for row in table.rows]
        told = _repeated(moments, times, file)
        start, step, numbers = _on_a_grid(moments, numbers, file)
    known = np.isfinite(numbers)
    if known.sum() < 2:
        raise ValueError(f"column {value} of {file} holds no usable numbers: choose another with --column")
    return CarbonHistory.bridged(numbers, column=value, time_column=times, start=start, step=step, told=told)


def _repeated(moments: list[datetime], column: str, file: str) -> tuple[str, ...]:
    """Return what is to be said of times that come twice; ValueError where they are so many that something is amiss."""
    again = len(moments) - len(set(moments))
    if again > max(1.0, _MOST_REPEATED * len(moments)):
        raise ValueError(
            f"{file}: in {again} of {len(moments)} rows {column} is a time that came before: are there rows of several "
            "grids, or is the hour in a column of its own? One row for each time is needed"
        )
    return (f"{again} rows have a time that came before, and the first counts: are these local times?",) * (again > 0)


def _check_usable(table: Table, column: str, numbers: FloatArray) -> None:
    said = [(row.cells.get(column) or "").strip() for row in table.rows]
    unusable = [i for i, text in enumerate(said) if text and not math.isfinite(numbers[i])]
    if len(unusable) > (1.0 - LEAST_USABLE) * len(said):
        first = table.rows[unusable[0]]
        raise ValueError(
            f"column {column} of {table.file}: {len(unusable)} of {len(said)} values are no numbers between 0 and "
            f"{_MOST_G_PER_KWH:g} g/kWh, the first on line {first.line}: {said[unusable[0]]!r}"
            + (f" ({first.fault})" if first.fault else "")
        )


def time_column_of(table: Table, wanted: str = "auto") -> str | None:
    """Return the column of times: the wanted one, or with `auto` one whose first row is a moment; None without any."""
    names = table.names
    if wanted != "auto":
        if wanted not in names:
            raise ValueError(f"{table.file} has no column {wanted!r}; it has {', '.join(names[:8])}")
        return wanted
    called = [n for n in names if any(word in n.lower() for word in _TIME_WORDS)]
    called.sort(key=lambda name: ("utc" not in name.lower(), "local" in name.lower()))
    first = table.rows[0] if table.rows else Row(line=0, cells={})
    return next((n for n in [*called, *names] if _is_moment(first, n)), called[0] if called else None)


def _is_moment(row: Row, column: str) -> bool:
    try:
        moment_of(row, column, "")
    except ValueError:
        return False
    return True


def _value_column(names: list[str], wanted: str | None, file: str) -> str:
    if wanted is not None:
        if wanted not in names:
            raise ValueError(f"{file} has no column {wanted!r}; it has {', '.join(names[:12])}")
        if names.count(wanted) > 1:
            raise ValueError(f"{file} has {names.count(wanted)} columns {wanted!r}: give each a name of its own")
        return wanted
    known = next((name for name in VALUE_NAMES if name in names), None)
    if not names:
        raise ValueError(f"{file} has no column of g/kWh beside its times; is it a CSV with commas?")
    if known is None and len(names) != 1:
        raise ValueError(f"{file} has several columns: choose one with --column: {', '.join(names[:12])}")
    return known or names[0]


def _number(row: Row, column: str, table: Table) -> float:
    if row.fault and row.fault != TOO_MANY:
        raise ValueError(f"line {row.line} of {table.file}: {row.fault}")
    value = math.nan if row.fault else number_of(row.cells.get(column), table.decimal_comma)
    return value if 0.0 <= value <= _MOST_G_PER_KWH else math.nan


def moment_of(row: Row, column: str, file: str) -> datetime:
    """Return the moment in a row's cell; ValueError names line and column where it holds none."""
    text = row.cells.get(column)
    said = (text or "").strip()
    try:
        if _EPOCH.fullmatch(said):
            seconds = float(said)
            return datetime.fromtimestamp(seconds / 1000.0 if seconds >= 1e11 else seconds, UTC)
        return parse_utc(said)
    except ValueError as error:
        raise ValueError(
            f"line {row.line} of {file}: {column} is {text!r}, not a time such as 2022-01-01T00:00Z"
        ) from error


def _on_a_grid(moments: list[datetime], numbers: FloatArray, file: str) -> tuple[datetime, timedelta, FloatArray]:
    """Return start, step and values on a complete index: of a time that came twice the first counts."""
    if len(moments) < 2:
        raise ValueError(f"{file}: a history of carbon intensity needs at least two rows")
    start = min(moments)
    seconds = np.array([(m - start).total_seconds() for m in moments])
    steps = np.diff(np.unique(seconds))
    if steps.size == 0:
        raise ValueError(f"{file}: all rows of the carbon history have the same time")
    step_s = float(np.median(steps))
    if step_s < _SHORT_STEP_S:
        raise ValueError(
            f"{file}: its rows are {step_s:g} s apart, which no grid tells: write their times as in 2022-01-01T00:00Z"
        )
    index = np.rint(seconds / step_s).astype(np.int64)
    if index.max() > 50 * len(moments):
        raise ValueError(f"{file}: the times of the carbon history lie too far apart: is a row's year wrong?")
    values = np.full(int(index.max()) + 1, np.nan)
    values[index[::-1]] = numbers[::-1]
    return start, timedelta(seconds=step_s), values


def make_axis(history: CarbonHistory, *, step: timedelta, first_row: int = 0, hours: float | None = None) -> Axis:
    """Return the axis of a replay.

    Args:
        history: The intensity.
        step: Steps under a minute are the ticks that job times are rounded to, and the intensity keeps its step; longer
            ones are slots (the intensity is averaged or repeated) and job times keep their seconds.
        first_row: The history's row that the replay begins with.
        hours: How much of it to use; None takes all.
    """
    step_s, own_s = step.total_seconds(), history.step.total_seconds()
    tick_s, slot_s = (step_s, own_s) if step_s < _SHORT_STEP_S else (1.0, step_s)
    if not 0 <= first_row < history.g_per_kwh.size:
        raise ValueError(f"the carbon history has {history.g_per_kwh.size} rows: row {first_row} is not in it")
    last = None if hours is None else first_row + math.ceil(hours * 3600.0 / own_s)
    values = history.g_per_kwh[first_row:last]
    if slot_s < own_s:
        values = np.repeat(values, _whole(own_s / slot_s, "--step must divide the step of the carbon history"))
    elif slot_s > own_s:
        each = _whole(slot_s / own_s, "--step must be a whole number of steps of the carbon history")
        values = values[: values.size // each * each].reshape(-1, each).mean(axis=1)
    return Axis(
        values=values,
        tick_s=tick_s,
        ticks_per_slot=_whole(slot_s / tick_s, "--step must divide the step of the carbon history"),
        start=None if history.start is None else history.start + first_row * history.step,
    )


def _whole(ratio: float, message: str) -> int:
    if abs(ratio - round(ratio)) > 1e-9 or round(ratio) < 1:
        raise ValueError(message)
    return round(ratio)
