# SPDX-License-Identifier: Apache-2.0
"""What is believed of a feed that answers in its format and is wrong: frozen, old, in another unit, a source short."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from adapters import END, HOUR, NOW, FeedOf, every_adapter

from embellie_forecast.believable import Problem, flag_problems
from embellie_forecast.sources.archive import Archive
from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.frame import Rows
from embellie_forecast.sources.guard import believe, believe_weather, intensity


def long_read(feed: Any, days: int = 4) -> pd.DataFrame:
    return feed.read(END - timedelta(days=days), END + timedelta(hours=96 if feed.kind.weather else 0))


def last_day(change: Callable[[datetime, dict[str, float]], dict[str, float]]) -> Callable[[list[Any]], list[Any]]:
    return lambda r: [(m, change(m, v) if m >= END - timedelta(hours=24) else v) for m, v in r]


def frozen_at(values: dict[str, float]) -> Callable[[datetime, dict[str, float]], dict[str, float]]:
    return lambda _m, _v: values


@every_adapter
def test_a_feed_that_is_frozen_for_a_day_is_not_believed(
    name: str, feed_of: FeedOf, behaviour: Any, truth_at: Any
) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(mangle=last_day(frozen_at(truth_at(END - timedelta(hours=24)))))
    found = long_read(feed)
    believed = believe_weather(found) if feed.kind.weather else believe(found, now=NOW)
    recent = believed.frame[feed.kind.column].loc[END - timedelta(hours=23) : END - HOUR]
    assert recent.isna().all()
    assert any("frozen" in note for note in believed.notes)


@every_adapter
def test_yesterday_served_again_is_not_believed(name: str, feed_of: FeedOf, behaviour: Any, truth_at: Any) -> None:
    feed = feed_of(name)
    if feed.kind.weather:
        feed.server.behaviour = behaviour(horizon=lambda end: end - timedelta(days=1, hours=10))
        with pytest.raises(SourceError) as refused:
            long_read(feed)
        assert refused.value.fault is Fault.STALE
        return
    feed.server.behaviour = behaviour(mangle=last_day(lambda m, _: truth_at(m - timedelta(hours=24))))
    believed = believe(long_read(feed), now=NOW)
    recent = believed.frame[feed.kind.column].loc[END - timedelta(hours=24) : END - HOUR]
    # A meter that rests at night repeats honestly; what moved is not believed.
    assert recent.isna().sum() >= 20
    assert any("repeats" in note for note in believed.notes)


@every_adapter
def test_quarter_hours_summed_instead_of_averaged_move_no_intensity(name: str, feed_of: FeedOf, behaviour: Any) -> None:
    feed = feed_of(name)
    if feed.kind.weather or name == "prometheus":
        pytest.skip("not a sum of energy")
    feed.server.behaviour = behaviour(
        mangle=last_day(lambda _m, v: {k: x * 4.0 if k.startswith(("gen_", "ci_")) else x for k, x in v.items()})
    )
    found = long_read(feed, days=18)
    believed = believe(found, now=NOW).frame
    honest = feed_of(name)
    honest.server.behaviour = behaviour()
    truth = long_read(honest, days=18)
    for direct in (False, True):
        series = intensity(believed, direct=direct)
        if series is None or ("ci_lifecycle_g_per_kwh" in found.columns and direct):
            continue
        want = intensity(truth, direct=direct)
        assert want is not None
        known = series.dropna()
        assert len(known) >= 15 * 24
        assert np.allclose(known, want.reindex(known.index), rtol=0.01)


@pytest.mark.parametrize("out_h", [0, 12, 90])
@pytest.mark.parametrize("factor", [0.001, 3.0])
def test_a_feed_that_comes_back_in_another_unit_is_no_measure_of_itself(out_h: int, factor: float) -> None:
    column, archive = "ci_direct_g_per_kwh", Archive(None, "x")
    for now, since, times in (
        (END - timedelta(days=9), END - timedelta(days=44), 1.0),
        (END, END - timedelta(days=12), 1.0),
        (END + (out_h + 1) * HOUR, END - timedelta(days=3), factor),
    ):
        rows = Rows(source="x", licence=Licence(name="", url="", attribution=""), step=HOUR)
        for moment in pd.date_range(since, now - HOUR, freq="h"):
            rows.add(moment.to_pydatetime(), column, (200.0 + 40.0 * math.sin(moment.timestamp() / 9e4)) * times)
        archive.add(rows.tidy(since, now, now=now), now=now)
    believed = believe(archive.frame, now=now).frame[column]
    assert believed.iloc[-72:].isna().all()


def without(column: str, since: datetime) -> Callable[[list[Any]], list[Any]]:
    return lambda r: [(m, {k: x for k, x in v.items() if k != column or m < since}) for m, v in r]


@pytest.mark.parametrize("name", ["eco2mix", "eia", "csv"])
def test_a_source_that_is_told_no_more_is_a_hole_for_three_days_and_then_closed(
    name: str, feed_of: FeedOf, behaviour: Any, truth: Any
) -> None:
    feed = feed_of(name)
    for days in (3, 4):
        since = END - timedelta(days=days)
        feed.server.behaviour = behaviour(mangle=without("gen_wind_mw", since))
        believed = believe(long_read(feed, days=6), now=NOW)
        told = intensity(believed.frame.drop(columns="ci_direct_g_per_kwh", errors="ignore"), direct=True)
        assert told is not None
        after = told.loc[since : END - HOUR]
        if days == 3:
            assert after.isna().all()
            continue
        gas, coal, *others = (
            truth(since, END, f"gen_{left}_mw", feed.kind.step)
            for left in ("natgas", "coal", "hydro", "nuclear", "solar")
        )
        assert np.allclose(after, (gas * 370.0 + coal * 760.0) / (gas + coal + sum(others)), rtol=0.01)
        assert believed.frame["estimated"].eq(True).loc[since : END - HOUR].all(), "not to be sold as measured"
        assert any("gen_wind_mw" in note for note in believed.notes)


@pytest.mark.parametrize("name", ["eco2mix", "eia", "csv"])
def test_a_dirty_source_that_vanishes_makes_no_grid_look_clean(name: str, feed_of: FeedOf, behaviour: Any) -> None:
    feed, since = feed_of(name), END - timedelta(days=4)
    feed.server.behaviour = behaviour(mangle=without("gen_coal_mw", since))
    believed = believe(long_read(feed, days=6), now=NOW)
    told = intensity(believed.frame.drop(columns="ci_direct_g_per_kwh", errors="ignore"), direct=True)
    assert told is not None
    assert told.loc[since : END - HOUR].isna().all()


def test_of_two_types_that_are_added_up_one_may_be_closed_and_the_other_still_counts(
    feed_of: FeedOf, truth_at: Any
) -> None:
    feed, column = feed_of("entsoe"), "gen_lignite_mw"
    kept = ("gen_coal_mw", "gen_natgas_mw")
    feed.server.truth = lambda m: {column: 100.0 + m.hour} | {name: truth_at(m)[name] for name in kept}
    for days in (3, 4):
        since = END - timedelta(days=days)
        feed.server.behaviour.mangle = without(column, since)
        readings = feed.source.read(since - timedelta(days=2), END, now=NOW)
        coal = readings.hourly().frame["gen_coal_mw"]
        assert coal[since - HOUR] == pytest.approx(truth_at(since - HOUR)["gen_coal_mw"] + 100, abs=40)
        if days == 3:
            assert coal.loc[since:].isna().all(), "a missing series must not look like a clean hour"
        else:
            assert coal[END - HOUR] == pytest.approx(truth_at(END - HOUR)["gen_coal_mw"], abs=20)
            assert any("Brown coal" in note for note in readings.notes)


@pytest.mark.parametrize(("row", "problem"), [(47, Problem.NONE), (48, Problem.ABSURD)])
def test_a_total_is_judged_by_the_hours_before_it_from_the_third_day_on(row: int, problem: Problem) -> None:
    mix = {"natgas": 5000.0 + np.arange(96) % 7, "wind": 2000.0 + np.arange(96) % 11}
    for mw in mix.values():
        mw[row] *= 6.0
    assert flag_problems(mix)[row] == problem
