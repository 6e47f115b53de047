# SPDX-License-Identifier: Apache-2.0
"""The ladder of signals and the service that writes its forecasts."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import pytest

from embellie.domain.forecast import Forecast
from embellie.domain.reasons import Rung as OperatorRung
from embellie.domain.reasons import SignalKind
from embellie_forecast import ladder as ladder_module
from embellie_forecast.clock import ForecastClock, parse_clock
from embellie_forecast.dataset import History, build_history, hour_of, load_carried
from embellie_forecast.exchange import ForecastDocument, Rung, parse_document, write_forecast
from embellie_forecast.features import Delays
from embellie_forecast.feeds import FeedError, NoFeed, ReplayFeed
from embellie_forecast.ladder import Ladder
from embellie_forecast.model import Params
from embellie_forecast.service import Service, make_ladder

TINY = Params(max_training_days=70, calibration_days=14, issue_stride_hours=5, max_iter=12, calendar_max_iter=6)
ORIGIN = datetime(2021, 7, 1, tzinfo=UTC)
NOW = ORIGIN + timedelta(hours=30, minutes=20)
REGION = "US-PJM"


class StaticFeed:
    """Gives whatever history a test wants."""

    def __init__(self, history: History | None) -> None:
        self.given = history

    def history(self, region: str, now: datetime) -> History:  # noqa: ARG002
        if self.given is None:
            raise FeedError("503")
        return self.given


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    Ladder(feed=NoFeed(), origin=ORIGIN, params=TINY, cache=folder).load_or_train(REGION, NOW)
    return folder


def replay(cache: Path, feed: object | None = None) -> Ladder:
    made = Ladder(feed=feed or ReplayFeed(Delays()), origin=ORIGIN, params=TINY, cache=cache)  # type: ignore[arg-type]
    assert made.load_or_train(REGION, NOW, may_train=False)
    return made


def recent_frame() -> pd.DataFrame:
    """The last 60 days that a feed would have given at NOW, as raw columns."""
    end = hour_of(NOW) - 1
    index = pd.date_range(end=pd.Timestamp((end - 1) * 3600, unit="s", tz="UTC"), periods=24 * 60, freq="h")
    known = load_carried(REGION).known_until(end, end)
    rows = slice(known.n_hours - len(index), known.n_hours)
    columns = {f"gen_{name}_mw": (share * known.total_mw)[rows] for name, share in known.source_share.items()}
    return pd.DataFrame(columns, index=index)


def as_operator_reads(document: ForecastDocument) -> Forecast:
    raw = document.to_json()
    ambient = raw["ambientTemperatureCelsius"]
    return Forecast(
        zone=raw["zone"],
        issued_at=datetime.fromisoformat(raw["issuedAt"]),
        start=datetime.fromisoformat(raw["start"]),
        step=timedelta(seconds=raw["stepSeconds"]),
        quantile_levels=tuple(raw["quantileLevels"]),
        carbon_intensity_g_per_kwh=np.array(raw["carbonIntensityGramsPerKilowattHour"]),
        carbon_intensity_mean_g_per_kwh=np.array(raw["carbonIntensityMeanGramsPerKilowattHour"]),
        renewable_share=np.array(raw["renewableShare"]),
        ambient_temperature_c=None if ambient is None else np.array(ambient),
        signal_kind=SignalKind(raw["signalKind"]),
        rung=OperatorRung(raw["rung"]),
        model_id=raw["modelId"],
        skill_percent=raw["skillPercent"],
    )


def test_with_a_replayed_feed_the_forecast_is_live_and_four_days_long(cache: Path) -> None:
    issued = replay(cache).issue("east", REGION, NOW)
    forecast = as_operator_reads(issued.document)
    assert issued.reasons == ()
    assert forecast.rung is OperatorRung.LIVE
    assert forecast.start == NOW.replace(minute=0)
    assert forecast.n_slots == 96
    assert forecast.model_id == "hgb1-US-PJM-until-20210630T23Z"
    assert forecast.skill_percent is not None
    assert 200 < forecast.carbon_intensity_mean_g_per_kwh.mean() < 600
    assert np.ptp(forecast.quantile(0.5)) > 10
    assert (forecast.quantile(0.9) > forecast.quantile(0.1)).all()
    assert forecast.ambient_temperature_c is not None
    assert 5 < forecast.ambient_temperature_c[1].mean() < 40


def test_what_happens_after_the_issue_never_changes_it(cache: Path) -> None:
    whole = load_carried(REGION)
    end = hour_of(NOW) - 1
    rewritten = build_history(REGION, pd.concat([raw_frame(whole, end), garbage_after(end)]))
    feed = ReplayFeed(Delays())
    feed._archives[REGION] = rewritten
    honest = ReplayFeed(Delays())
    honest._archives[REGION] = build_history(REGION, raw_frame(whole, end))
    ours = replay(cache, honest).issue("east", REGION, NOW).document.to_json()
    theirs = replay(cache, feed).issue("east", REGION, NOW).document.to_json()
    assert ours == theirs
    assert ours["rung"] == "Live"


def raw_frame(history: History, end_hour: int) -> pd.DataFrame:
    rows = slice(0, end_hour - history.first_hour)
    index = pd.date_range(pd.Timestamp(history.first_hour * 3600, unit="s", tz="UTC"), periods=rows.stop, freq="h")
    columns = {f"gen_{name}_mw": (share * history.total_mw)[rows] for name, share in history.source_share.items()}
    return pd.DataFrame(columns, index=index)


def garbage_after(end_hour: int) -> pd.DataFrame:
    index = pd.date_range(pd.Timestamp(end_hour * 3600, unit="s", tz="UTC"), periods=500, freq="h")
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"gen_coal_mw": rng.uniform(1e4, 9e4, 500), "gen_wind_mw": rng.uniform(0, 1e4, 500)}, index=index
    )


def spoil(column: int | slice, value: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.iloc[-12:, column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("spoilt", "word"),
    [
        (spoil(1, np.nan), "Missing"),
        (spoil(1, -9000.0), "Negative"),
        (spoil(1, 1e9), "Absurd"),
        (spoil(1, np.inf), "Missing"),
        (spoil(slice(None), 5000.0), "Frozen"),
        (spoil(slice(None), 0.0), "Absurd"),
        (lambda frame: frame.iloc[:-12], "Missing"),
        (lambda frame: frame * 0 + 7.0, "Frozen"),
    ],
)
def test_a_broken_feed_costs_a_rung_and_says_why(
    cache: Path, spoilt: Callable[[pd.DataFrame], pd.DataFrame], word: str
) -> None:
    feed = StaticFeed(build_history(REGION, spoilt(recent_frame())))
    issued = replay(cache, feed).issue("east", REGION, NOW)
    assert as_operator_reads(issued.document).rung is OperatorRung.CALENDAR
    assert issued.reasons[0].startswith("Live: ")
    assert word in issued.reasons[0]


def test_a_silent_feed_falls_back_to_what_is_left_of_the_last_good_forecast(cache: Path, tmp_path: Path) -> None:
    good = replay(cache).issue("east", REGION, NOW).document
    write_forecast(tmp_path, good)
    later = NOW + timedelta(hours=20)
    silent = replay(cache, StaticFeed(None))
    again = silent.issue("east", REGION, later, tmp_path).document
    assert again.rung is Rung.LAST_GOOD
    assert again.model_id == good.model_id
    assert as_operator_reads(again).start == later.replace(minute=0)
    assert again.carbon_mean_g_per_kwh[0] == pytest.approx(good.carbon_mean_g_per_kwh[20], abs=0.01)
    write_forecast(tmp_path, again)
    too_late = silent.issue("east", REGION, NOW + timedelta(hours=49), tmp_path)
    assert too_late.document.rung is Rung.CALENDAR
    assert "LastGood: the last one covers only 47 h more" in too_late.reasons


def test_without_models_it_answers_from_climatology(tmp_path: Path) -> None:
    fresh = Ladder(feed=ReplayFeed(Delays()), origin=ORIGIN, params=TINY, cache=tmp_path)
    issued = fresh.issue("east", REGION, NOW)
    assert as_operator_reads(issued.document).rung is OperatorRung.CLIMATOLOGY
    assert fresh.needs_training(REGION, NOW)


def test_years_after_the_carried_data_it_needs_no_feed_no_training_and_no_credential(tmp_path: Path) -> None:
    made = make_ladder(parse_clock("system"), tmp_path)
    now = datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert not made.needs_training("US-CISO", now)
    forecast = as_operator_reads(made.issue("west", "US-CISO", now).document)
    assert forecast.rung is OperatorRung.CLIMATOLOGY
    assert np.ptp(forecast.quantile(0.5)) > 50
    assert forecast.ambient_temperature_c is not None


@pytest.mark.parametrize("region", [None, "FR", "../../etc/passwd", "x" * 500])
def test_a_region_without_data_gets_a_flat_forecast_that_gives_no_reason_to_wait(
    cache: Path, region: str | None
) -> None:
    forecast = as_operator_reads(replay(cache).issue("paris", region, NOW).document)
    assert forecast.rung is OperatorRung.NEUTRAL
    assert np.ptp(forecast.carbon_intensity_g_per_kwh) == 0
    assert forecast.n_slots == 96


def test_before_the_carried_data_begin_it_stays_neutral() -> None:
    early = datetime(2010, 1, 1, tzinfo=UTC)
    made = Ladder(feed=ReplayFeed(Delays()), origin=early, params=TINY, cache=None)
    made.load_or_train(REGION, early)
    assert as_operator_reads(made.issue("east", REGION, early).document).rung is OperatorRung.NEUTRAL


def test_a_rung_that_breaks_takes_no_other_with_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_arguments: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(ladder_module, "predict", explode)
    monkeypatch.setattr(ladder_module, "predict_calendar", explode)
    issued = replay(cache).issue("east", REGION, NOW)
    assert issued.document.rung is Rung.CLIMATOLOGY
    assert issued.reasons[0] == "Live: RuntimeError: boom"


def test_errors_since_the_last_issue_join_the_calibration_piece_by_piece(cache: Path) -> None:
    stepwise, at_once = replay(cache), replay(cache)
    for hours in (3, 9, 10, 26):
        stepwise.issue("east", REGION, ORIGIN + timedelta(hours=hours))
    ours = stepwise.issue("east", REGION, NOW).document
    theirs = at_once.issue("east", REGION, NOW).document
    assert np.allclose(ours.carbon_g_per_kwh, theirs.carbon_g_per_kwh)
    assert ours.skill_percent == theirs.skill_percent


def clock_at(moment: datetime) -> ForecastClock:
    """A clock that stands still, but for a millionth."""
    return ForecastClock(origin=moment, wall_origin=datetime.now(UTC), factor=1e-6, replay=True)


def service_in(directory: Path, cache: Path | None, moment: datetime = NOW) -> Service:
    clock = clock_at(moment)
    made = Ladder(feed=ReplayFeed(Delays()), origin=ORIGIN, params=TINY, cache=cache)
    return Service(directory=directory, clock=clock, ladder=made, every=timedelta(hours=1))


def forecasts_of(directory: Path, zone: str) -> list[ForecastDocument]:
    return [parse_document(path.read_text()) for path in sorted((directory / "forecasts" / zone).glob("*.json"))]


def test_the_service_issues_each_zone_once_a_period_and_new_zones_at_once(cache: Path, tmp_path: Path) -> None:
    service = service_in(tmp_path, cache)
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"}]}')
    assert service.turn() == 1
    assert service.turn() == 0
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"},{"name":"lab"}]}')
    assert service.turn() == 1
    service._clock = clock_at(NOW + timedelta(hours=1))
    assert service.turn() == 2
    assert [document.rung for document in forecasts_of(tmp_path, "east")] == [Rung.LIVE, Rung.LIVE]
    service._clock = clock_at(NOW - timedelta(days=1))
    assert service.turn() == 2


def test_the_service_answers_from_below_before_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = service_in(tmp_path, tmp_path / "models")
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"}]}')
    assert service.turn() == 2
    said = capsys.readouterr().out
    assert said.index("Climatology") < said.index("models trained") < said.index("Live hgb1")
    assert forecasts_of(tmp_path, "east")[-1].rung is Rung.LIVE


def test_garbage_for_zones_keeps_the_zones_known_so_far(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = service_in(tmp_path, cache)
    assert service.turn() == 0
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"lab"}]}')
    assert service.turn() == 1
    (tmp_path / "zones.json").write_bytes(b'{"zones": [{"na\xff')
    service._clock = clock_at(NOW + timedelta(hours=2))
    assert service.turn() == 1
    assert service.turn() == 0
    assert capsys.readouterr().out.count("going on with the 1 zones known so far") == 1


def test_a_zone_that_cannot_be_written_does_not_stop_the_others(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "forecasts").mkdir()
    (tmp_path / "forecasts" / "east").write_text("a file where a folder belongs")
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"},{"name":"lab"}]}')
    service = service_in(tmp_path, cache)
    assert service.turn() == 1
    assert "east: no forecast written" in capsys.readouterr().out
    assert len(forecasts_of(tmp_path, "lab")) == 1


def test_a_training_that_fails_leaves_the_lower_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_arguments: object, **_more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ladder_module, "train", explode)
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"}]}')
    assert service_in(tmp_path, None).turn() == 1
    assert forecasts_of(tmp_path, "east")[-1].rung is Rung.CLIMATOLOGY
