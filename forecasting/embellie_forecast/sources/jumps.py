# SPDX-License-Identifier: Apache-2.0
"""Which hours stand beyond a jump: a change of level that the weeks before never made so fast. Pure.

What a grid does, it does over hours, and does again: in a year of 27 grids hardly a change was half as large again as
the greatest of the four weeks before it, but where the series itself was broken (docs/findings/sources.md). What a feed
does wrong (a part of the grid is missing, a source is told as another or as 0) begins within an hour.
"""

import numpy as np
import numpy.typing as npt

from embellie_forecast.factors import FloatArray

JUMP_FACTOR = 1.5
"""A change so much greater (in logarithms) than the greatest of the reference within as many hours is a jump."""
LEAST_JUMP = float(np.log(1.3))
LEAST_JUMP_G_PER_KWH = 20.0
"""No change is a jump that is smaller than either: of a clean grid a single gas plant makes a multiple."""
LEVEL_DAYS = 3
"""The level before a jump is that of the same hour of so many days."""
MIN_PAIRS = 168
"""By how many changes at least it is known how fast they usually are."""


def beyond_jumps(g_per_kwh: FloatArray, *, first: int, reference: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tell the hours from a jump on, until the level is nearer to what it was than to where it jumped.

    Args:
        g_per_kwh: An intensity by the hour, shape (hours,); unknown is NaN.
        first: The hour from which on jumps are looked for.
        reference: The hours that tell how fast it usually changes, shape (hours,).
    """
    level = np.log(np.where(g_per_kwh > 0.0, g_per_kwh, np.nan))
    usual = np.where(reference, level, np.nan)
    known = np.flatnonzero(np.isfinite(level))
    beyond = np.zeros(level.size, dtype=bool)
    before = int(known[known < first][-1]) if (known < first).any() else None
    greatest: dict[int, float] = {}
    jump = 0.0
    for hour in map(int, known[known >= first]):
        if before is not None and jump == 0.0:
            hours = hour - before
            limit = greatest.setdefault(hours, _greatest_change(usual, hours))
            change = float(level[hour] - level[before])
            moved_g = abs(float(g_per_kwh[hour] - g_per_kwh[before]))
            if abs(change) > max(JUMP_FACTOR * limit, LEAST_JUMP) and moved_g > LEAST_JUMP_G_PER_KWH:
                jump = change
        if before is not None and jump != 0.0:
            beyond[hour] = (level[hour] - _level_before(level, before, hour)) / jump > 0.5
        if not beyond[hour]:
            before, jump = hour, 0.0
    return beyond


def _greatest_change(level: FloatArray, hours: int) -> float:
    changes = np.abs(level[hours:] - level[:-hours])
    changes = changes[np.isfinite(changes)]
    return float(changes.max()) if changes.size >= MIN_PAIRS else np.inf


def _level_before(level: FloatArray, before: int, hour: int) -> float:
    """Return what the hour of the day was in the last days up to `before`."""
    same = np.arange(hour - 24 * ((hour - before + 23) // 24), max(before - 24 * LEVEL_DAYS, -1), -24)
    found = level[same[same >= 0]]
    found = found[np.isfinite(found)]
    return float(found.mean()) if found.size else float(level[before])
