# SPDX-License-Identifier: Apache-2.0
"""A feed that jumps to another level is found out in its first hour; what a grid does itself is believed."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from embellie_forecast.sources.guard import believe

NOW = datetime(2026, 6, 20, 12, 10, tzinfo=UTC)
DAYS = 40
HOURS = np.arange(24 * DAYS)
INDEX = pd.date_range(end=pd.Timestamp(NOW).floor("h") - pd.Timedelta(hours=1), periods=HOURS.size, freq="h")
DAILY = np.sin(HOURS * 2.0 * np.pi / 24.0)
WAVE = 300.0 * np.exp(0.3 * DAILY + 0.1 * np.sin(HOURS / 90.0) + 0.01 * (HOURS % 7))
"""By the hour up to an eighth more or less, and more by the day: a factor of 1.8 stands within what the weeks saw."""
JUMPED = "it jumped to where it stands"


def refused(values: np.ndarray, **more: object) -> list[int]:
    """Return which of the hours are not believed, counted from now back (-1: the newest)."""
    frame = pd.DataFrame({"ci_lifecycle_g_per_kwh": values, **more}, index=INDEX)
    believed = believe(frame, now=NOW)
    gone = believed.frame["ci_lifecycle_g_per_kwh"].isna().to_numpy() & np.isfinite(values)
    assert gone.any() == any(JUMPED in note for note in believed.notes)
    return (np.flatnonzero(gone) - HOURS.size).tolist()


def times(factor: float, hours: int, values: np.ndarray = WAVE) -> np.ndarray:
    out = values.copy()
    out[out.size - hours :] *= factor
    return out


@pytest.mark.parametrize("factor", [1.6, 1.8, 2.0, 0.6, 0.5])
@pytest.mark.parametrize("hours", [1, 5, 17, 30, 70])
def test_a_feed_told_by_another_factor_is_refused_from_its_first_hour_on(factor: float, hours: int) -> None:
    assert refused(times(factor, hours)) == list(range(-hours, 0))


def test_a_jump_is_seen_over_hours_that_nobody_knows() -> None:
    silent = times(1.9, 20)
    silent[-26:-20] = np.nan
    assert refused(silent) == list(range(-20, 0))
    silent = times(4.0, 20)
    silent[-90:-20] = np.nan
    assert set(range(-19, 0)) <= set(refused(silent))


def test_once_it_is_back_at_its_level_it_is_believed_at_once() -> None:
    lie = times(1.7, 40)
    lie[-12:] = WAVE[-12:]
    assert refused(lie) == list(range(-40, -12))
    spike = WAVE.copy()
    spike[-30] *= 1.8
    assert refused(spike) == [-30]


def test_the_truth_after_frozen_days_is_no_jump() -> None:
    frozen = WAVE.copy()
    night = int(np.argmin(WAVE[-120:-96])) - 120
    frozen[night:-20] = WAVE[night]
    believed = believe(pd.DataFrame({"ci_lifecycle_g_per_kwh": frozen}, index=INDEX), now=NOW)
    assert believed.frame.iloc[-20:].notna().all(axis=None)


def test_the_level_before_a_jump_is_known_from_days_before_though_yesterday_is_silent() -> None:
    silent = times(1.6, 20)
    silent[-45:-21] = np.nan
    assert refused(silent) == list(range(-20, 0))


def test_a_level_that_is_reached_over_hours_is_believed() -> None:
    risen = WAVE.copy()
    risen[-48:] *= np.minimum(1.5, 1.0 + 0.06 * np.arange(1, 49))
    assert refused(risen) == []
    # Though something else jumped before.
    risen[-60] *= 1.8
    assert refused(risen) == [-60]


def test_a_level_that_stays_is_believed_after_three_days() -> None:
    assert refused(times(1.45, 73)) == []


@pytest.mark.parametrize(("revised_h", "days"), [(2, 4), (48, 6), (240, 14), (330, 17), (480, 4)])
def test_a_level_that_stays_is_believed_however_long_a_feed_changes_what_it_told(revised_h: int, days: int) -> None:
    """Three days from its last word on an hour; where that leaves no two weeks to compare with, from the hour."""
    last_word = INDEX + timedelta(hours=revised_h)
    known_at = last_word.where(last_word <= NOW, pd.Timestamp(NOW - timedelta(minutes=10)))
    assert refused(times(1.45, 24 * days), known_at=known_at) == []
    assert refused(times(1.45, 30), known_at=known_at) == list(range(-30, 0))


def test_what_the_grid_has_done_in_the_weeks_before_is_no_jump() -> None:
    """A source that carries a third of a grid went off and came back: it may do so again."""
    before = WAVE.copy()
    before[-400:-380] *= 1.8
    assert refused(times(1.8, 20, before)) == []


@pytest.mark.parametrize(("level", "believed"), [(20.0, True), (60.0, False)])
def test_a_clean_grid_may_double_within_an_hour(level: float, believed: bool) -> None:
    """One gas plant beside water and nuclear power: a multiple of next to nothing."""
    clean = level + 0.01 * level * DAILY
    assert refused(times(1.9, 8, clean)) == ([] if believed else list(range(-8, 0)))


def test_what_a_feed_that_came_back_has_told_anew_is_no_level_to_jump_from() -> None:
    hours = 24 * 6
    told_anew = times(1.8, hours)
    known_at = INDEX + timedelta(hours=2)
    known_at = known_at.where(INDEX[-hours] > INDEX, pd.Timestamp(NOW - timedelta(minutes=10)))
    assert refused(told_anew, known_at=known_at) == list(range(-71, 0))
    assert refused(told_anew, known_at=INDEX + timedelta(hours=2)) == [], "the same told hour by hour is six days old"


def test_a_source_that_a_mix_tells_as_nothing_makes_no_grid_look_clean() -> None:
    coal, hydro = 4.0 * WAVE, 5.0 * WAVE[::-1]
    for gone in (0.0, 0.1):
        missing = coal.copy()
        missing[-9:] *= gone
        frame = pd.DataFrame({"gen_coal_mw": missing, "gen_hydro_mw": hydro}, index=INDEX)
        found = believe(frame, now=NOW)
        assert found.frame.iloc[-9:].isna().all(axis=None)
        assert found.frame.iloc[:-9].notna().all(axis=None)


def test_two_weeks_of_hours_must_be_known_before_a_jump_can_be_told() -> None:
    """Seven days of pairs are the least; what is told of less is believed as it is."""
    young = times(1.8, 10)
    young[: -(72 + 24 * 6)] = np.nan
    assert refused(young) == []
    grown = times(1.8, 10)
    grown[: -(72 + 24 * 8)] = np.nan
    assert refused(grown) == list(range(-10, 0))
