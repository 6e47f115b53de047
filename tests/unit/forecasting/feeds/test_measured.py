# SPDX-License-Identifier: Apache-2.0
"""The intensity that was: what the forecaster writes is what the operator's accounts read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from embellie.domain.reasons import SignalKind
from embellie.telemetry.intensity import read_intensity
from embellie_forecast.history import ZoneHistory
from embellie_forecast.measured import HEADER, measured_intensity, measured_of_history, write_measured

NOW = datetime(2026, 6, 20, 12, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST = NOW.replace(minute=0) - 96 * HOUR


def frame(**columns: object) -> pd.DataFrame:
    index = pd.date_range(FIRST, periods=96, freq="h", name="begin_utc")
    return pd.DataFrame({"estimated": False, "known_at": pd.Timestamp(NOW - HOUR), **columns}, index=index)


def test_the_operator_reads_what_was_measured_by_kind_with_its_flags(tmp_path: Path) -> None:
    said = frame(ci_direct_g_per_kwh=np.arange(96.0) + 50.0, ci_marginal_g_per_kwh=700.0)
    said.loc[said.index[-2], "estimated"] = True
    said.loc[said.index[-3], ["ci_direct_g_per_kwh", "ci_marginal_g_per_kwh"]] = np.nan
    assert write_measured(tmp_path, "west", [measured_intensity(said, NOW, source="neso")], NOW) == ""
    found = read_intensity(tmp_path / "intensity" / "west.csv")
    last = NOW.replace(minute=0) - HOUR
    assert found.at(SignalKind.AVERAGE_LIFECYCLE, last) is None
    marginal = found.at(SignalKind.MARGINAL, last)
    assert marginal is not None
    assert marginal.g_per_kwh == 700.0
    direct = found.at(SignalKind.AVERAGE_DIRECT, last)
    assert direct is not None
    assert (direct.g_per_kwh, direct.estimated) == (145.0, False)
    guessed = found.at(SignalKind.AVERAGE_DIRECT, last - HOUR)
    assert guessed is not None
    assert guessed.estimated
    assert found.at(SignalKind.AVERAGE_DIRECT, last - 2 * HOUR) is None
    # Only what is judged is told as measured.
    assert found.at(SignalKind.AVERAGE_DIRECT, FIRST) is None


def test_generation_gives_life_cycle_and_direct_intensity(tmp_path: Path) -> None:
    said = frame(gen_natgas_mw=100.0, gen_wind_mw=300.0)
    write_measured(tmp_path, "west", [measured_intensity(said, NOW, source="eia")], NOW)
    found = read_intensity(tmp_path / "intensity" / "west.csv")
    moment = NOW.replace(minute=0) - HOUR
    lifecycle, direct = (found.at(k, moment) for k in (SignalKind.AVERAGE_LIFECYCLE, SignalKind.AVERAGE_DIRECT))
    assert lifecycle is not None
    assert direct is not None
    assert (lifecycle.g_per_kwh, direct.g_per_kwh) == ((490 + 3 * 11) / 4, 370 / 4)


def test_of_a_past_that_is_replayed_the_last_three_days_are_told_when_they_were_published() -> None:
    history = ZoneHistory.from_frame(frame(ci_direct_g_per_kwh=np.arange(96.0) + 50.0), zone="west")
    told = measured_of_history(history, NOW, delay=2 * HOUR)
    assert told.index[0] == pd.Timestamp(NOW.replace(minute=0) - 72 * HOUR)
    assert list(told["ci_direct_g_per_kwh"]) == list(np.arange(24.0, 96.0) + 50.0)
    assert ((told["known_at"] - told.index) == 3 * HOUR).all()
    assert len(measured_of_history(history, NOW - 90 * HOUR, delay=HOUR)) == 6


def test_of_two_sources_the_first_that_knows_an_hour_tells_it(tmp_path: Path) -> None:
    first, second = frame(ci_direct_g_per_kwh=100.0), frame(ci_direct_g_per_kwh=200.0)
    first.loc[first.index[-5:], "ci_direct_g_per_kwh"] = np.nan
    told = [measured_intensity(one, NOW, source=name) for one, name in ((first, "neso"), (second, "electricitymaps"))]
    write_measured(tmp_path, "west", told, NOW)
    lines = (tmp_path / "intensity" / "west.csv").read_text().splitlines()
    assert lines[0] == HEADER
    assert [line.rpartition(",")[2] for line in lines[-6:]] == ["neso"] + ["electricitymaps"] * 5
    assert lines[-1] == "2026-06-20T11:00:00Z,,200.00,,0,2026-06-20T11:10:00Z,electricitymaps"


def test_older_hours_stay_as_they_were_told_and_corrections_replace_newer_ones(tmp_path: Path) -> None:
    write_measured(tmp_path, "west", [measured_intensity(frame(ci_direct_g_per_kwh=100.0), NOW, source="a")], NOW)
    later = NOW + 40 * HOUR
    corrected = frame(ci_direct_g_per_kwh=110.0)
    write_measured(tmp_path, "west", [measured_intensity(corrected, later, source="a")], later)
    found = read_intensity(tmp_path / "intensity" / "west.csv")
    hours = [NOW.replace(minute=0) - k * HOUR for k in range(71, 0, -1)]
    known = {hour: found.at(SignalKind.AVERAGE_DIRECT, hour) for hour in hours}
    for hour, value in known.items():
        assert value is not None
        assert value.g_per_kwh == (110.0 if hour >= later - 72 * HOUR else 100.0)


def test_a_clock_that_runs_behind_takes_no_hour_away_that_was_told(tmp_path: Path) -> None:
    told = frame(ci_direct_g_per_kwh=100.0)
    for now in (NOW, NOW - 30 * HOUR):
        write_measured(tmp_path, "west", [measured_intensity(told, now, source="a")], now)
    stamps = [line[:20] for line in (tmp_path / "intensity" / "west.csv").read_text().splitlines()[1:]]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] == "2026-06-20T11:00:00Z"


def test_a_file_that_somebody_else_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "intensity" / "west.csv"
    path.parent.mkdir()
    path.write_text("timestamp_utc,ci_direct_g_per_kwh\n2026-06-20T00:00:00Z,42\n")
    told = [measured_intensity(frame(ci_direct_g_per_kwh=100.0), NOW, source="a")]
    assert "somebody else" in write_measured(tmp_path, "west", told, NOW)
    assert "42" in path.read_text()


def test_a_feed_that_says_nothing_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    told = [measured_intensity(frame(ci_direct_g_per_kwh=100.0), NOW, source="a")]
    write_measured(tmp_path, "west", told, NOW)
    before = (tmp_path / "intensity" / "west.csv").read_text()
    nothing = measured_intensity(frame(ci_direct_g_per_kwh=np.nan), NOW, source="a")
    assert write_measured(tmp_path, "west", [nothing], NOW) == ""
    assert (tmp_path / "intensity" / "west.csv").read_text() == before
