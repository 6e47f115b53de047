# SPDX-License-Identifier: Apache-2.0
"""Two sources about one grid: how they usually differ is no contradiction, and what is unusual is."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embellie_forecast.live import LiveFeed
from embellie_forecast.sources.catalogue import parse_spec
from embellie_forecast.sources.guard import Believed, believe
from embellie_forecast.sources.transport import Http
from embellie_forecast.zones import Zone

NOW = datetime(2026, 6, 20, 12, 10, tzinfo=UTC)
LIFECYCLE, DIRECT = "ci_lifecycle_g_per_kwh", "ci_direct_g_per_kwh"


def told(column: str, times: float = 1.0, *, days: int = 20) -> pd.DataFrame:
    index = pd.date_range(end=pd.Timestamp(NOW).floor("h") - pd.Timedelta(hours=1), periods=24 * days, freq="h")
    hours = np.arange(24 * days)
    return pd.DataFrame({column: times * (300.0 + 50.0 * np.sin(hours / 4.1) + hours % 7)}, index=index)


def lie(frame: pd.DataFrame, hours: int, times: float) -> pd.DataFrame:
    out = frame.copy()
    out.iloc[-hours:] *= times
    return out


def judged(ours: pd.DataFrame, theirs: pd.DataFrame) -> Believed:
    return believe(ours, now=NOW, cross=theirs)


def unknown(believed: Believed) -> int:
    return int(believed.frame.iloc[-72:].isna().all(axis=1).sum())


@pytest.mark.parametrize(
    ("ours", "theirs", "factor"), [(LIFECYCLE, LIFECYCLE, 1.3), (LIFECYCLE, DIRECT, 0.8), (DIRECT, LIFECYCLE, 1.2)]
)
def test_what_two_sources_usually_differ_by_is_no_contradiction_and_a_sixth_more_is(
    ours: str, theirs: str, factor: float
) -> None:
    one, other = told(ours), told(theirs, factor)
    other.iloc[100:130] = np.nan
    agreed = judged(one, other)
    assert (unknown(agreed), agreed.contradicted_hours, agreed.cross_checked) == (0, 0, True)
    within = judged(lie(one, 10, 1.13), other)
    assert (unknown(within), within.contradicted_hours) == (0, 0)
    beyond = judged(lie(one, 10, 1.17), other)
    assert (unknown(beyond), beyond.contradicted_hours) == (10, 10)
    assert beyond.notes == ("the second source contradicts it in 10 of the last 72 h",)


@pytest.mark.parametrize(("times", "refused"), [(1.5, 0), (2.3, 10)])
def test_two_sources_that_usually_stray_may_differ_by_five_times_as_much(times: float, refused: int) -> None:
    one, other = told(DIRECT), told(DIRECT)
    other[DIRECT] *= np.exp(np.resize(np.linspace(-0.16, 0.16, 9), len(other)))
    assert judged(lie(one, 10, times), other).contradicted_hours == refused


def test_three_days_of_lies_are_no_measure_of_what_is_usual() -> None:
    assert unknown(judged(lie(told(DIRECT, days=8), 71, 1.4), told(DIRECT, days=8))) == 71


@pytest.mark.parametrize(("since_days", "refused"), [(7, 24), (9, 0)])
def test_a_level_that_has_changed_for_good_is_usual_after_nine_days(since_days: int, refused: int) -> None:
    moved = lie(told(DIRECT, days=60), 24 * since_days, 1.4)
    for ours, theirs in ((moved, told(DIRECT, days=60)), (told(DIRECT, days=60), moved)):
        assert judged(ours, theirs).contradicted_hours == refused


def test_once_it_is_back_at_its_old_level_it_is_believed_at_once() -> None:
    there_and_back = told(DIRECT, days=60)
    there_and_back.iloc[-24 * 15 : -48] *= 1.4
    assert judged(there_and_back, told(DIRECT, days=60)).contradicted_hours == 0


@pytest.mark.parametrize("percent_a_day", [1.0, 2.0])
def test_what_drifts_away_from_the_second_source_is_no_new_level(percent_a_day: float) -> None:
    drifting = told(DIRECT, days=60)
    drifting.iloc[-24 * 20 :, 0] *= 1.0 + 0.01 * percent_a_day * np.arange(24 * 20) / 24.0
    assert judged(drifting, told(DIRECT, days=60)).contradicted_hours == 24


def test_intensities_of_one_kind_are_compared_where_both_sources_tell_them() -> None:
    one, other = (told(LIFECYCLE).join(told(DIRECT, 0.6)) for _ in range(2))
    other[LIFECYCLE] = np.nan
    one.loc[one.index[-10:], DIRECT] *= 1.4
    assert judged(one, other).contradicted_hours == 10


def test_before_it_is_known_how_they_usually_differ_only_a_factor_of_two_and_a_half_contradicts() -> None:
    one = told(LIFECYCLE, days=5)
    for times, hours in ((2.4, 0), (2.6, 24)):
        assert judged(one, told(LIFECYCLE, times, days=5)).contradicted_hours == hours


def test_a_second_source_that_is_silent_checks_nothing() -> None:
    one, other = told(LIFECYCLE), told(LIFECYCLE)
    other.iloc[-31:] = np.nan
    assert not judged(one, other).cross_checked
    assert judged(one, told(LIFECYCLE).iloc[:-29]).cross_checked
    assert not judged(one, told("demand_mw")).cross_checked


def test_a_second_source_that_has_told_nothing_is_not_named_as_one_that_the_forecast_rests_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EIA_API_KEY", raising=False)
    file = tmp_path / "grid.csv"
    told(LIFECYCLE).rename_axis("timestamp_utc").to_csv(file)
    both = {"primary": parse_spec(f"file:path={file}"), "cross_check": parse_spec("eia:area=CISO")}
    fed = LiveFeed(Http(), None).history(Zone(name="west", grid_region="XX", **both), NOW)
    assert fed.attribution == ("local file",)
    assert any("EIA_API_KEY" in note for note in fed.notes)
    assert any("stands alone" in note for note in fed.notes)
