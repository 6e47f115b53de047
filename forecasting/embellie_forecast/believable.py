# SPDX-License-Identifier: Apache-2.0
"""Which hours of a generation mix can be believed, and which of any feed are frozen. Pure."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from embellie_forecast.factors import LIFECYCLE_AR5, FloatArray

MAX_SOURCE_MW = 1_000_000.0
METERING_NOISE_MW = 50.0
"""A source may read this far below zero at rest (station use); it then counts as zero [MW]."""
FROZEN_HOURS = 4
"""So many equal hours in every quantity at once are a frozen feed, not a steady grid."""
FROZEN_HOURS_OF_ONE = 12
"""The same where one quantity moves at all: a rounded number may well repeat."""
TOTAL_RANGE = (0.2, 5.0)
"""Total generation outside this range around the median of the past 30 days is absurd."""

SILENT_HOURS = 72
"""A source that is told no more, or not yet, for longer than this while others are: no hole, there is none of it."""
SILENT_NEAR = timedelta(days=28)
MADE_UP_FOR, MADE_UP_FOR_DIRTY = 0.75, 0.95
"""So much of the total must be left without it: what nothing replaces is missing, or was renamed. Totals of four weeks
differ by a fifth anyway; but a dirty source that is only missing must not make a grid look clean."""
DIRTY_G_PER_KWH = 200.0


class Problem(StrEnum):
    """Why an hour's generation is not believed."""

    NONE = ""
    MISSING = "Missing"
    NEGATIVE = "Negative"
    ABSURD = "Absurd"
    FROZEN = "Frozen"


def flag_problems(generation_mw: Mapping[str, FloatArray]) -> tuple[str, ...]:
    """Return one `Problem` value per hour; the first that applies in the order of the enumeration."""
    stacked = np.stack(list(generation_mw.values()))
    # What no grid has is in no sum: it could be as large as numbers get.
    with np.errstate(invalid="ignore"):
        total = np.where(np.abs(stacked) <= MAX_SOURCE_MW, stacked, np.nan).sum(axis=0)
    # Of hours with generation only: after a month of zeros an honest hour would look absurd.
    usual = pd.Series(np.where(total > 0.0, total, np.nan)).rolling(24 * 30, min_periods=48).median()
    median = usual.shift(1).to_numpy()
    with np.errstate(invalid="ignore"):
        missing = ~np.isfinite(stacked).all(axis=0)
        negative = (stacked < -METERING_NOISE_MW).any(axis=0)
        absurd = (stacked > MAX_SOURCE_MW).any(axis=0) | (total <= 0.0)
        absurd |= (total < TOTAL_RANGE[0] * median) | (total > TOTAL_RANGE[1] * median)
    flags = np.full(total.shape[0], Problem.NONE.value, dtype=object)
    for mask, problem in (
        (frozen_hours(stacked.T, in_hindsight=False), Problem.FROZEN),
        (absurd, Problem.ABSURD),
        (negative, Problem.NEGATIVE),
        (missing, Problem.MISSING),
    ):
        flags[mask] = problem.value
    return tuple(str(flag) for flag in flags)


def without_closed(frame: pd.DataFrame, sources: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the frame in which a source counts as 0 while it is closed or not built yet, and the columns concerned.

    Args:
        frame: Among others one column per source [MW], index in UTC, of any step; unknown is NaN.
        sources: Which of `factors.SOURCES` a column tells; what is not in it is left as it is.
    """
    out, concerned = frame.copy(), []
    generation = frame[[name for name in frame.columns if name in sources]]
    told = generation[generation.notna().any(axis=1)]
    total = told.clip(0.0, MAX_SOURCE_MW).sum(axis=1)
    for name in told.columns:
        dirty = LIFECYCLE_AR5.grams_per_kwh[sources[name]] > DIRTY_G_PER_KWH
        known = told[name].notna()
        runs = known.cumsum()[~known] if known.any() else known.iloc[:0]
        lengths = runs.value_counts()
        for run in lengths.index[lengths > SILENT_HOURS]:
            hours = runs.index[runs == run]
            if hours.floor("h").nunique() <= SILENT_HOURS:
                continue
            border = hours[-1] if hours[0] == told.index[0] else hours[0]
            near = total.loc[border - SILENT_NEAR : border + SILENT_NEAR]
            if near[~known].median() >= (MADE_UP_FOR_DIRTY if dirty else MADE_UP_FOR) * near[known].median():
                out.loc[hours, name] = 0.0
                concerned.append(str(name))
    return out, list(dict.fromkeys(concerned))


def frozen_hours(values: FloatArray, *, in_hindsight: bool) -> npt.NDArray[np.bool_]:
    """Tell the hours of a run of equal ones that is long enough to be a frozen feed.

    Args:
        values: One column a quantity, shape (hours, quantities); unknown is NaN, and equals whatever it is beside.
        in_hindsight: The whole run from its second hour on, as who looks back on it sees it. Else only from the hour
            on in which it was long enough: a past is judged in each of its hours by what had been told then.
    """
    known = np.isfinite(values)
    both = known[1:] & known[:-1]
    differ = both & (values[1:] != values[:-1])
    first = np.ones(len(values), dtype=bool)
    first[1:] = differ.any(axis=1) | ~both.any(axis=1)
    run = np.cumsum(first) - 1
    length = np.bincount(run)[run] if in_hindsight else np.arange(len(values)) - np.flatnonzero(first)[run] + 1
    # Columns that never move (a source that a grid lacks) tell nothing about freezing.
    moved = np.zeros(values.shape, dtype=bool)
    moved[1:] = np.logical_or.accumulate(differ, axis=0)
    moving = (moved[-1:] if in_hindsight else moved).sum(axis=1)
    resting = (np.where(known, values, 0.0) == 0.0).all(axis=1)
    return np.asarray((length >= np.where(moving == 1, FROZEN_HOURS_OF_ONE, FROZEN_HOURS)) & ~first & ~resting)
