# SPDX-License-Identifier: Apache-2.0
"""Which hours of a feed can be believed: frozen, repeated, out of scale, beyond a jump, contradicted by another source.

Pure. Only the last three days are judged, against the weeks before them: what a grid really turned into becomes the
measure by itself after three days (how two sources differ: after nine), so nothing stays refused for ever. Of a feed
that goes on changing what it told of days before, for as many days more: the weeks before are those that it left alone.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from embellie_forecast.believable import frozen_hours, without_closed
from embellie_forecast.factors import DIRECT_EIA, LIFECYCLE_AR5, MIX_COLUMNS, FloatArray, carbon_intensity_g_per_kwh
from embellie_forecast.sources.frame import BOUNDS, is_forecast
from embellie_forecast.sources.jumps import beyond_jumps

Mask: TypeAlias = npt.NDArray[np.bool_]
JUDGED = timedelta(hours=72)
REFERENCE = timedelta(days=28)
MIN_REFERENCE_HOURS = 14 * 24
REPEATED_OF_24 = 20
HOUR_FACTOR = 2.0
"""An hour further than this outside all hours of the reference is absurd."""
DAY_FACTOR = 1.6
"""A day's mean further than this outside all days of the reference is absurd: quarter hours summed instead of averaged
make a factor of 4."""
CROSS_MIN_HOURS = 72
CROSS_SPREADS = 5.0
CROSS_TOLERANCE = float(np.log(1.15))
"""Two sources that count alike may differ by so much more or less than they usually do."""
CROSS_SETTLING_HOURS = 7 * 24
"""Where they have differed alike for so many hours that both told, that is usual too."""
CROSS_DRIFT = 1.0 / 8.0
"""Alike: from one half of those hours to the other it moved by less than this part of what they may differ by. What
drifts faster would be beyond that within four weeks."""
CROSS_TOLERANCE_UNKNOWN = float(np.log(2.5))
"""The same while it is not known how they usually differ: one may count imports or the life cycle, the other not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """A frame in which what cannot be believed is unknown, and why."""

    frame: pd.DataFrame
    notes: tuple[str, ...]
    cross_checked: bool
    """A second source covered most of the last day."""
    contradicted_hours: int = 0
    """In how many of the last 24 hours the second source says something else."""


def measured_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns that hold measurements."""
    return [name for name in frame.columns if name in BOUNDS and not is_forecast(name)]


def mix_of(frame: pd.DataFrame) -> dict[str, FloatArray]:
    """Return what each source generates, nothing below zero [MW]."""
    return {
        source: np.maximum(frame[column].to_numpy(dtype=np.float64), 0.0)
        for column, source in MIX_COLUMNS.items()
        if column in frame.columns
    }


def intensity(frame: pd.DataFrame, *, direct: bool = False) -> "pd.Series[float] | None":
    """Return the carbon intensity that a frame states or implies [g/kWh]; None where it does neither."""
    stated = "ci_direct_g_per_kwh" if direct else "ci_lifecycle_g_per_kwh"
    if stated in frame.columns:
        return frame[stated]
    generation = mix_of(frame)
    if not generation:
        return None
    return pd.Series(carbon_intensity_g_per_kwh(generation, DIRECT_EIA if direct else LIFECYCLE_AR5), index=frame.index)


def believe(frame: pd.DataFrame, *, now: datetime, cross: pd.DataFrame | None = None) -> Believed:
    """Return the hourly frame with every measured value of a doubtful hour unknown.

    Args:
        frame: Hourly readings, index in UTC.
        now: The moment of the decision.
        cross: Readings of a second source about the same grid.
    """
    columns = measured_columns(frame)
    if not columns or frame.empty:
        return Believed(frame=frame, notes=(), cross_checked=False)
    frame = frame.reindex(pd.date_range(frame.index[0], frame.index[-1], freq="h"))
    judged = np.asarray(frame.index >= pd.Timestamp(now - JUDGED))
    told = frame
    frame, closed = without_closed(told, MIX_COLUMNS)
    supposed = told[closed].isna() & frame[closed].notna()
    if "estimated" in frame.columns:
        frame["estimated"] = frame["estimated"].eq(True) | supposed.any(axis=1)
    closed = [name for name in closed if supposed[name][judged].any()]
    values = frame[columns].to_numpy(dtype=np.float64)
    checks = {
        "the feed is frozen": frozen_hours(values, in_hindsight=True),
        "the feed repeats the day before": _repeated(values),
    }
    stale = np.any(list(checks.values()), axis=0)
    reference = _reference(frame, now)
    checks["the level is absurd against the weeks before"] = _absurd(frame, reference)
    checks["it jumped to where it stands"] = _beyond_jumps(frame[~stale].reindex(frame.index), reference, now)
    disagree, covered = _disagrees(frame, cross, now)
    checks["the second source contradicts it"] = disagree
    notes = [f"{name} is silent for days while others are told, and counts as 0" for name in closed]
    bad = np.zeros(len(frame), dtype=bool)
    for why, mask in checks.items():
        found = mask & judged
        if found.any():
            notes.append(f"{why} in {int(found.sum())} of the last 72 h")
        bad |= found
    out = frame.copy()
    out.loc[bad, columns] = np.nan
    last_day = np.asarray(frame.index >= pd.Timestamp(now - timedelta(hours=25)))
    return Believed(
        frame=out, notes=tuple(notes), cross_checked=covered, contradicted_hours=int((disagree & last_day).sum())
    )


def believe_weather(frame: pd.DataFrame) -> Believed:
    """Return a weather forecast in which frozen hours are unknown: everything equal for four hours is no weather."""
    columns = [name for name in frame.columns if name.startswith("wxfc_")]
    if not columns or frame.empty:
        return Believed(frame=frame, notes=(), cross_checked=False)
    bad = frozen_hours(frame[columns].to_numpy(dtype=np.float64), in_hindsight=True)
    out = frame.copy()
    out.loc[bad, columns] = np.nan
    notes = (f"the weather forecast is frozen in {int(bad.sum())} h",) if bad.any() else ()
    return Believed(frame=out, notes=notes, cross_checked=False)


def _repeated(values: FloatArray) -> Mask:
    """Tell the hours that lie in 24 h which equal the 24 h before in nearly every hour."""
    n = values.shape[0]
    bad = np.zeros(n, dtype=bool)
    if n <= 24:
        return bad
    known = np.isfinite(values[24:]).any(axis=1) & np.isfinite(values[:-24]).any(axis=1)
    same = np.zeros(n, dtype=bool)
    same[24:] = known & ((values[24:] == values[:-24]) | ~np.isfinite(values[24:])).all(axis=1)
    # A quantity that is at rest all night repeats honestly; it must have moved within the day to count.
    count = np.convolve(same, np.ones(24), mode="full")[:n]
    for end in np.flatnonzero(count >= REPEATED_OF_24):
        window = slice(max(0, end - 23), end + 1)
        if np.nanmax(np.nanstd(values[window], axis=0), initial=0.0) > 0.0:
            bad[window] |= same[window]
    return bad


def _reference(frame: pd.DataFrame, now: datetime) -> Mask:
    """Tell the hours that the last days are judged by."""
    old = np.asarray(
        (frame.index < pd.Timestamp(now - JUDGED)) & (frame.index >= pd.Timestamp(now - JUDGED - REFERENCE))
    )
    if "known_at" in frame.columns:
        # A feed that comes back wrong tells its last days anew: those must not be the measure of the others.
        settled = old & np.asarray(frame["known_at"] < pd.Timestamp(now - JUDGED))
        old = settled if int(settled.sum()) >= MIN_REFERENCE_HOURS else old
    return old


def _intensities(frame: pd.DataFrame) -> "list[pd.Series[float]]":
    """Return the intensities that a frame states, and the one that its mix implies [g/kWh]."""
    stated = [frame[name] for name in ("ci_lifecycle_g_per_kwh", "ci_direct_g_per_kwh") if name in frame.columns]
    implied = intensity(frame[[name for name in frame.columns if name in MIX_COLUMNS]])
    return stated if implied is None else [*stated, implied]


def _absurd(frame: pd.DataFrame, old: Mask) -> Mask:
    """Tell the hours whose level is out of all proportion to the reference weeks."""
    bad = np.zeros(len(frame), dtype=bool)
    series = _intensities(frame)
    generation = [name for name in frame.columns if name in MIX_COLUMNS]
    if generation:
        # Of what is known: one missing source must not make an hour's total absurd, or normal.
        series += [frame[generation].sum(axis=1, skipna=False)]
    for one in series:
        values = one.to_numpy(dtype=np.float64)
        past = values[old & np.isfinite(values) & (values > 0.0)]
        if past.size < MIN_REFERENCE_HOURS:
            continue
        days = pd.Series(np.where(old & (values > 0.0), values, np.nan)).rolling(24, min_periods=18).mean().dropna()
        mean = pd.Series(values).rolling(24, min_periods=6).mean().to_numpy()
        with np.errstate(invalid="ignore"):
            hour = (values > past.max() * HOUR_FACTOR) | (values < past.min() / HOUR_FACTOR)
            day = (mean > days.max() * DAY_FACTOR) | (mean < days.min() / DAY_FACTOR)
        # The hours that made the day absurd, not the innocent ones before them.
        odd = (values > days.max() * DAY_FACTOR) | (values < days.min() / DAY_FACTOR)
        bad |= hour | (day & odd)
    return bad


def _beyond_jumps(frame: pd.DataFrame, reference: Mask, now: datetime) -> Mask:
    """Tell the hours that stand where the intensity has jumped, see `jumps`."""
    judged = int((frame.index < pd.Timestamp(now - JUDGED)).sum())
    # What a feed that came back has told anew is no level to jump from.
    first = min(judged, int(np.flatnonzero(reference)[-1]) + 1) if reference.any() else judged
    beyond = np.zeros(len(frame), dtype=bool)
    for one in _intensities(frame):
        beyond |= beyond_jumps(np.asarray(one, dtype=np.float64), first=first, reference=reference)
    return beyond


def _disagrees(frame: pd.DataFrame, cross: pd.DataFrame | None, now: datetime) -> tuple[Mask, bool]:
    """Tell the hours in which two sources differ unusually, and whether the last day could be compared at all."""
    none = np.zeros(len(frame), dtype=bool)
    if cross is None:
        return none, False
    for direct in (False, True):
        ours, theirs = intensity(frame, direct=direct), intensity(cross, direct=direct)
        if ours is not None and theirs is not None and (theirs > 0).any():
            break
    else:
        ours = next((s for s in (intensity(frame), intensity(frame, direct=True)) if s is not None), None)
        theirs = next((s for s in (intensity(cross), intensity(cross, direct=True)) if s is not None), None)
    if ours is None or theirs is None:
        return none, False
    other = theirs.reindex(frame.index).to_numpy(dtype=np.float64)
    mine = ours.to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where((mine > 0.0) & (other > 0.0), np.log(mine) - np.log(other), np.nan)
    last_day = np.asarray(frame.index >= pd.Timestamp(now - timedelta(hours=36)))
    covered = int(np.isfinite(ratio[last_day]).sum()) >= 6
    usual = ratio[np.asarray(frame.index < pd.Timestamp(now - JUDGED)) & np.isfinite(ratio)]
    if usual.size >= CROSS_MIN_HOURS:
        centres = [float(np.median(usual))]
        spread = 1.4826 * float(np.median(np.abs(usual - centres[0])))
        limit = max(CROSS_TOLERANCE, CROSS_SPREADS * spread)
        lately = usual[-CROSS_SETTLING_HOURS:]
        before, after = (float(np.median(half)) for half in np.array_split(lately, 2))
        if abs(after - before) < CROSS_DRIFT * limit:
            centres.append(float(np.median(lately)))
    else:
        centres, limit = [0.0], CROSS_TOLERANCE_UNKNOWN
    with np.errstate(invalid="ignore"):
        return np.all([np.abs(ratio - centre) > limit for centre in centres], axis=0), covered
