# SPDX-License-Identifier: Apache-2.0
"""Joining what a model was trained on with what a feed says now."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from embellie_forecast.believable import Problem
from embellie_forecast.factors import FloatArray
from embellie_forecast.history import ZoneHistory


def spliced(older: ZoneHistory, newer: ZoneHistory) -> ZoneHistory:
    """Return one history over both; where both have an hour the newer one holds, weather wherever either knows it."""
    first = min(older.first_hour, newer.first_hour)
    size = max(older.end_hour, newer.end_hour) - first
    here = slice(newer.first_hour - first, newer.end_hour - first)
    there = slice(older.first_hour - first, older.end_hour - first)

    def over(old: FloatArray, new: FloatArray) -> FloatArray:
        out = np.full((size, *old.shape[1:]), np.nan)
        out[there] = old
        out[here] = new
        return out

    def either(old: FloatArray, new: FloatArray) -> FloatArray:
        out = over(old, np.full(new.shape, np.nan))
        before = np.full(out.shape, np.nan)
        before[there] = old
        out[here] = new
        return np.where(np.isfinite(out), out, before)

    def both(
        old: FloatArray | None, new: FloatArray | None, joined: Callable[[FloatArray, FloatArray], FloatArray]
    ) -> FloatArray | None:
        known = new if old is None else old
        if known is None:
            return None
        blank = [np.full((part.n_hours, *known.shape[1:]), np.nan) for part in (older, newer)]
        return joined(blank[0] if old is None else old, blank[1] if new is None else new)

    sources = dict.fromkeys([*older.generation_mw, *newer.generation_mw])
    absent_old, absent_new = np.zeros(older.n_hours), np.zeros(newer.n_hours)
    problems = np.full(size, Problem.MISSING.value, dtype=object)
    problems[there] = older.problems
    problems[here] = newer.problems
    generation = {
        name: over(older.generation_mw.get(name, absent_old), newer.generation_mw.get(name, absent_new))
        for name in sources
    }
    if not newer.generation_mw:
        generation = {
            name: over(values, np.full(newer.n_hours, np.nan)) for name, values in older.generation_mw.items()
        }
    return replace(
        newer,
        first_hour=first,
        lifecycle_g_per_kwh=over(older.lifecycle_g_per_kwh, newer.lifecycle_g_per_kwh),
        direct_g_per_kwh=over(older.direct_g_per_kwh, newer.direct_g_per_kwh),
        renewable_share=over(older.renewable_share, newer.renewable_share),
        generation_mw=generation,
        weather=either(older.weather, newer.weather),
        official_mw=either(older.official_mw, newer.official_mw),
        problems=tuple(str(problem) for problem in problems),
        benchmark_g_per_kwh=None,
        marginal_g_per_kwh=both(older.marginal_g_per_kwh, newer.marginal_g_per_kwh, over),
        weather_ahead=both(older.weather_ahead, newer.weather_ahead, either),
    )
