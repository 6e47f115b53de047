# SPDX-License-Identifier: Apache-2.0
"""The ladder of signals on a replay, and the service that writes its forecasts."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest

from embellie.domain.forecast import Forecast
from embellie.domain.reasons import Rung as OperatorRung
from embellie.telemetry.forecasts import parse_forecast
from embellie_forecast import history_files
from embellie_forecast import ladder as ladder_module
from embellie_forecast import shelf as shelf_module
from embellie_forecast.clock import ForecastClock, parse_clock
from embellie_forecast.documents import build, envelope_of
from embellie_forecast.exchange import ForecastDocument, Rung, parse_document, write_forecast
from embellie_forecast.factors import Scope
from embellie_forecast.feeds import Fed, FeedError, ReplayFeed, Site
from embellie_forecast.history import ZoneHistory, hour_of
from embellie_forecast.history_files import load_carried
from embellie_forecast.ladder import Ladder
from embellie_forecast.models import Settings
from embellie_forecast.models.targets import Kernel
from embellie_forecast.service import Service, make_ladder
from embellie_forecast.sources.catalogue import SourceSpec
from embellie_forecast.zones import Zone

TINY = Settings(
    kernels=(Kernel(gamma=0.005, alpha=0.1),),
    max_training_days=120,
    refit_days=90,
    warm_up_days=30,
    calibration_days=20,
)
ORIGIN = datetime(2021, 7, 1, tzinfo=UTC)
NOW = ORIGIN + timedelta(hours=30, minutes=20)
EAST = Zone(name="east", grid_region="US-PJM")


class GivenFeed(ReplayFeed):
    """Replays, but spoils or refuses what it is told to."""

    def __init__(self, change: Callable[[ZoneHistory], ZoneHistory | None]) -> None:
        super().__init__()
        self._change = change

    def history(self, zone: Zone, now: datetime) -> Fed:
        fed = super().history(zone, now)
        changed = self._change(fed.history)
        if changed is None:
            raise FeedError("503")
        return replace(fed, history=changed)


@pytest.fixture(scope="module", autouse=True)
def carried_once() -> Iterator[None]:
    """Parse the carried files once for all tests: each ladder of its own would do it twice."""
    once = cache(load_carried)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("ladder", "feeds"):
            patch.setattr(f"embellie_forecast.{module}.load_carried", once)
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    Ladder(feed=ReplayFeed(), origin=ORIGIN, models=folder, settings=TINY).train(EAST, ORIGIN + timedelta(hours=2))
    return folder


def replay(models: Path | None, change: Callable[[ZoneHistory], ZoneHistory | None] | None = None) -> Ladder:
    feed = ReplayFeed() if change is None else GivenFeed(change)
    return Ladder(feed=feed, origin=ORIGIN, models=models, settings=TINY)


def as_operator_reads(document: ForecastDocument) -> Forecast:
    return parse_forecast(document.to_json())


def test_with_a_replayed_feed_the_forecast_is_live_and_four_days_long(models: Path) -> None:
    issued = replay(models).issue(EAST, NOW)
    forecast = as_operator_reads(issued.document)
    assert issued.reasons == ()
    assert forecast.rung is OperatorRung.LIVE
    assert forecast.start == NOW.replace(minute=0)
    assert forecast.n_slots == 96
    assert "US-PJM" in forecast.model_id
    assert 200 < forecast.carbon_intensity_mean_g_per_kwh.mean() < 600
    low, middle, high = (forecast.carbon_intensity_g_per_kwh[k] for k in (0, forecast.median, -1))
    assert np.ptp(middle) > 10
    assert (high > low).all()
    assert forecast.ambient_temperature_c is not None
    assert 5 < forecast.ambient_temperature_c[1].mean() < 40
    assert issued.document.direct_g_per_kwh is not None
    assert {"wind", "solar", "coal"} <= set(issued.document.generation_mw)
    assert issued.document.attribution


def test_a_feed_that_lied_for_three_days_moves_a_forecast_no_further_than_one_and_a_half_times_its_past() -> None:
    now = hour_of(NOW) - load_carried("US-PJM").first_hour
    past = replay(None).feed.history(EAST, NOW).history.lifecycle_g_per_kwh[: now - 72]
    bounds = (float(np.nanmin(past)) / 1.5, float(np.nanmax(past)) * 1.5)
    for lie in (0.05, 1.0, 4.0):
        fed = GivenFeed(lambda h, lie=lie: spoil(h, slice(now - 72, None), lambda v: v * lie)).history(EAST, NOW)
        assert envelope_of(fed.history, Scope.LIFECYCLE, NOW) == pytest.approx(bounds)
    said = np.full((3, 96), 1.0) * np.array([[1.0], [300.0], [5000.0]])
    said[:, 1], said[:, 2] = (590.0, 200.0, 160.0), (155.0, 250.0, 400.0)
    document = build(
        zone="east", now=NOW, rung=Rung.LIVE, model_id="m", scope=Scope.LIFECYCLE, carbon=said, mean=said[2],
        share=np.full((3, 96), 0.5), envelope=(150.0, 600.0),
    )  # fmt: skip
    assert document.carbon_g_per_kwh[:, 0].tolist() == [150.0, 300.0, 600.0]
    assert document.carbon_g_per_kwh[:, 1].tolist() == [160.0, 200.0, 590.0], "quantiles in order, hours as they were"
    assert document.carbon_g_per_kwh[:, 2].tolist() == [155.0, 250.0, 400.0]
    assert document.carbon_mean_g_per_kwh.max() == 600.0


def test_a_live_forecast_stays_within_what_the_feed_said_before_its_last_three_days(models: Path) -> None:
    now = hour_of(NOW) - load_carried("US-PJM").first_hour
    past = replay(None).feed.history(EAST, NOW).history.lifecycle_g_per_kwh[: now - 72]
    lied = replay(models, lambda h: spoil(h, slice(now - 72, now), lambda v: v * 4.0)).issue(EAST, NOW).document
    assert lied.rung is Rung.LIVE
    assert np.nanmax(past) < lied.carbon_g_per_kwh.max() <= 1.5 * np.nanmax(past)


def spoil(history: ZoneHistory, hours: slice, how: Callable[[np.ndarray], np.ndarray]) -> ZoneHistory:
    def changed(values: np.ndarray) -> np.ndarray:
        out = values.copy()
        out[hours] = how(out[hours])
        return out

    return replace(
        history,
        lifecycle_g_per_kwh=changed(history.lifecycle_g_per_kwh),
        direct_g_per_kwh=changed(history.direct_g_per_kwh),
        renewable_share=changed(history.renewable_share),
        generation_mw={name: changed(mw) for name, mw in history.generation_mw.items()},
    )


def test_what_happens_after_the_issue_never_changes_it(models: Path) -> None:
    whole = load_carried("US-PJM")
    future = slice(hour_of(NOW) - whole.first_hour, None)
    rewritten = GivenFeed(lambda history: history)
    rewritten._archives["US-PJM"] = spoil(whole, future, lambda values: values * 0.0 + 123.0)
    theirs = Ladder(feed=rewritten, origin=ORIGIN, models=models, settings=TINY).issue(EAST, NOW).document.to_json()
    ours = replay(models).issue(EAST, NOW).document.to_json()
    assert ours == theirs
    assert ours["rung"] == "Live"


@pytest.mark.parametrize(
    ("how", "word"),
    [
        (lambda values: values * np.nan, "h old"),
        (lambda values: values * 0.0 + 400.0, "constant"),
        (lambda values: np.where(np.arange(values.size) % 3 == 2, values, np.nan), "of its last 24 hours"),
    ],
    ids=["silent", "constant", "full of holes"],
)
def test_a_broken_feed_costs_a_rung_and_says_why(
    models: Path, how: Callable[[np.ndarray], np.ndarray], word: str
) -> None:
    def change(history: ZoneHistory) -> ZoneHistory:
        end = hour_of(NOW) - history.first_hour
        return spoil(history, slice(end - 30, end), how)

    issued = replay(models, change).issue(EAST, NOW)
    assert as_operator_reads(issued.document).rung is OperatorRung.CALENDAR
    assert issued.reasons[0].startswith("not Live: ")
    assert word in issued.reasons[0]
    assert issued.document.reasons[0] == issued.reasons[0]


def test_a_silent_feed_falls_back_to_what_is_left_of_the_last_good_forecast(models: Path, tmp_path: Path) -> None:
    good = replay(models).issue(EAST, NOW).document
    write_forecast(tmp_path, good)
    later = NOW + timedelta(hours=20)
    silent = replay(models, lambda _history: None)
    again = silent.issue(EAST, later, tmp_path).document
    assert again.rung is Rung.LAST_GOOD
    assert again.model_id == good.model_id
    assert as_operator_reads(again).start == later.replace(minute=0)
    assert again.carbon_mean_g_per_kwh[0] == pytest.approx(good.carbon_mean_g_per_kwh[20], abs=0.01)
    write_forecast(tmp_path, again)
    too_late = silent.issue(EAST, NOW + timedelta(hours=49), tmp_path)
    assert too_late.document.rung is Rung.CALENDAR
    assert "not LastGood: the last one covers only 47 h more" in too_late.reasons


def test_a_zone_that_was_given_another_grid_is_not_told_the_last_good_forecast_of_the_old_one(
    models: Path, tmp_path: Path
) -> None:
    write_forecast(tmp_path, replay(models).issue(EAST, NOW).document)
    moved = replay(models, lambda _history: None).issue(replace(EAST, grid_region="US-CISO"), NOW, tmp_path)
    assert moved.document.rung is Rung.CLIMATOLOGY
    assert any("the last one is of another grid" in reason for reason in moved.reasons)


def test_without_models_it_answers_from_climatology(tmp_path: Path) -> None:
    fresh = replay(tmp_path)
    usual = as_operator_reads(fresh.issue(EAST, NOW).document)
    assert usual.rung is OperatorRung.CLIMATOLOGY
    assert usual.model_id.rpartition("-until-")[2] <= f"{NOW:%Y%m%dT%HZ}", "a replay knows nothing of what comes"
    assert fresh.needs_training(EAST, NOW)


class GrowingFeed(ReplayFeed):
    """Knows five weeks at first, and years once older history was asked for."""

    days = 35

    def history(self, zone: Zone, now: datetime) -> Fed:
        fed = super().history(EAST, now)
        known = fed.history.since(hour_of(now) - 24 * self.days)
        return replace(fed, history=replace(known, zone=zone.key_of(zone.primary)))

    def backfill(self, zone: Zone, now: datetime) -> bool:  # noqa: ARG002 - the protocol's
        self.days = 800
        return True


def test_what_is_usual_is_known_as_soon_as_older_history_was_fetched() -> None:
    fresh = Ladder(feed=GrowingFeed(), origin=None, models=None, settings=TINY)
    zone = Zone(name="paris", grid_region="FR", primary=SourceSpec(kind="eco2mix"))
    assert fresh.issue(zone, NOW).document.rung is Rung.NEUTRAL
    assert fresh.backfill(zone, NOW)
    assert fresh.issue(zone, NOW).document.rung is Rung.CLIMATOLOGY


def test_nothing_is_trained_on_what_ended_years_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = Zone(name="paris", grid_region="FR", primary=SourceSpec(kind="eco2mix"))
    ladder = Ladder(feed=GrowingFeed(), origin=None, models=None)
    assert ladder.needs_training(zone, NOW)
    feed = GrowingFeed()
    known = feed.history(zone, NOW)
    old = replace(known, history=replace(known.history, first_hour=known.history.first_hour - 3 * 8766))
    monkeypatch.setattr(feed, "history", lambda *_: old)
    assert not Ladder(feed=feed, origin=None, models=None).needs_training(zone, NOW)


def test_years_after_the_carried_data_it_needs_no_feed_no_training_and_no_credential(tmp_path: Path) -> None:
    made = make_ladder(parse_clock("system"), tmp_path)
    now, west = datetime(2026, 11, 21, 9, tzinfo=UTC), Zone(name="west", grid_region="US-CISO")
    assert not made.needs_training(west, now)
    forecast = as_operator_reads(made.issue(west, now).document)
    assert forecast.rung is OperatorRung.CLIMATOLOGY
    assert np.ptp(forecast.carbon_intensity_g_per_kwh[forecast.median]) > 50
    assert forecast.ambient_temperature_c is not None


def test_a_replay_of_other_data_takes_none_of_the_models_that_learnt_from_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = parse_clock("replay:2022-09-05T00:00:00Z,2026-01-01T00:00:00Z,600")
    before = make_ladder(clock, tmp_path)._shelf.folder
    assert make_ladder(clock, tmp_path)._shelf.folder == before
    monkeypatch.setattr(history_files, "manifest", lambda: {"US-PJM": {"sha256": "0" * 64}})
    assert make_ladder(clock, tmp_path)._shelf.folder != before


@pytest.mark.parametrize("region", [None, "FR", "../../etc/passwd", "x" * 500])
def test_a_region_without_data_gets_a_flat_forecast_that_gives_no_reason_to_wait(region: str | None) -> None:
    forecast = as_operator_reads(replay(None).issue(Zone(name="paris", grid_region=region), NOW).document)
    assert forecast.rung is OperatorRung.NEUTRAL
    assert np.ptp(forecast.carbon_intensity_g_per_kwh) == 0
    assert forecast.n_slots == 96


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SourceSpec(kind="eia", area="PJM"), SourceSpec(kind="eia", area="MISO")),
        (SourceSpec(kind="file", path="/a.csv"), SourceSpec(kind="file", path="/b.csv")),
    ],
)
def test_another_area_or_file_is_another_grid_whose_model_is_not_taken(one: SourceSpec, other: SourceSpec) -> None:
    assert EAST.key_of(one) != EAST.key_of(other)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", EAST.key_of(one)), "the registry's names of files"


def test_before_the_carried_data_begin_it_stays_neutral() -> None:
    early = datetime(2010, 1, 1, tzinfo=UTC)
    made = Ladder(feed=ReplayFeed(), origin=early, models=None, settings=TINY)
    assert not made.train(EAST, early)
    assert as_operator_reads(made.issue(EAST, early).document).rung is OperatorRung.NEUTRAL


def test_a_rung_that_breaks_takes_no_other_with_it(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_arguments: object, **_more: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(ladder_module, "issue", explode)
    monkeypatch.setattr(ladder_module, "issue_calendar", explode)
    issued = replay(models).issue(EAST, NOW)
    assert issued.document.rung is Rung.CLIMATOLOGY
    assert issued.reasons[0] == "not Live: RuntimeError: boom"


def test_a_site_that_breaks_costs_its_plants_and_not_the_grid(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_arguments: object) -> Site:
        raise RuntimeError("boom")

    made = replay(models)
    monkeypatch.setattr(made.feed, "site", explode)
    from embellie_forecast.onsite.plants import WindPlant
    from embellie_forecast.zones import OnSite

    hill = OnSite(name="hill", plant=WindPlant(peak_kw=10.0), meter=None)
    document = made.issue(replace(EAST, on_site=(hill,)), NOW).document
    assert document.rung is Rung.LIVE
    assert document.on_site[0].rung is Rung.NEUTRAL
    assert any("boom" in reason for reason in document.reasons)


def clock_at(moment: datetime) -> ForecastClock:
    """A clock that stands still, but for a millionth."""
    return ForecastClock(origin=moment, wall_origin=datetime.now(UTC), factor=1e-6, replay=True)


def service_in(directory: Path, models: Path | None, moment: datetime = NOW) -> Service:
    return Service(directory=directory, clock=clock_at(moment), ladder=replay(models), every=timedelta(hours=1))


def forecasts_of(directory: Path, zone: str) -> list[ForecastDocument]:
    return [parse_document(path.read_text()) for path in sorted((directory / "forecasts" / zone).glob("*.json"))]


def test_the_service_issues_each_zone_once_a_period_and_new_zones_at_once(models: Path, tmp_path: Path) -> None:
    service = service_in(tmp_path, models)
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"}]}')
    assert service.turn() == 1
    assert service.turn() == 0
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"},{"name":"lab"}]}')
    assert service.turn() == 1
    service._clock = clock_at(NOW + timedelta(hours=1))
    assert service.turn() == 2
    assert [document.rung for document in forecasts_of(tmp_path, "east")] == [Rung.LIVE, Rung.LIVE]
    service._clock = clock_at(NOW - timedelta(hours=12))
    assert service.turn() == 2


def test_the_service_answers_from_below_before_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = service_in(tmp_path, tmp_path / "models")
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"}]}')
    assert service.turn() == 2
    said = capsys.readouterr().out
    assert said.index("Climatology") < said.index("models trained") < said.index("Live ")
    assert forecasts_of(tmp_path, "east")[-1].rung is Rung.LIVE


def test_a_training_that_fails_leaves_the_lower_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_arguments: object, **_more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(shelf_module, "train_zone", explode)
    monkeypatch.setattr(shelf_module, "train_calendar", explode)
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"}]}')
    assert service_in(tmp_path, None).turn() == 1
    assert forecasts_of(tmp_path, "east")[-1].rung is Rung.CLIMATOLOGY


@pytest.mark.parametrize(("silent_h", "without_h"), [(0, 2), (20, 3)], ids=["as usual", "in an outage"])
def test_a_model_learns_without_the_hours_that_its_feed_is_usually_late_by_also_when_trained_in_an_outage(
    silent_h: int, without_h: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(GivenFeed):
        def history(self, zone: Zone, now: datetime) -> Fed:
            return replace(super().history(zone, now), usual_delay=timedelta(hours=2, minutes=10))

    def change(history: ZoneHistory) -> ZoneHistory:
        end = hour_of(NOW) - history.first_hour
        return spoil(history, slice(end - max(2, silent_h), end), lambda values: values * np.nan)

    learnt: list[int] = []
    monkeypatch.setattr(shelf_module, "train_calendar", lambda *_, **__: None)
    monkeypatch.setattr(shelf_module, "train_zone", lambda *_, latency_hours, **__: learnt.append(latency_hours))
    Ladder(feed=Late(change), origin=ORIGIN, models=None, settings=TINY).train(EAST, NOW)
    assert learnt == [without_h]


def test_a_source_that_tells_intensity_alone_has_a_live_forecast_that_claims_no_share(tmp_path: Path) -> None:
    def told_alone(known: ZoneHistory) -> ZoneHistory:
        return replace(known, generation_mw={}, renewable_share=np.full(known.renewable_share.size, np.nan))

    ladder = Ladder(feed=GivenFeed(told_alone), origin=ORIGIN, models=tmp_path, settings=TINY)
    ladder.train(EAST, ORIGIN + timedelta(hours=2))
    document = ladder.issue(EAST, NOW).document
    assert document.rung is Rung.LIVE, document.reasons
    assert document.renewable_share is None
    assert document.to_json()["renewableShare"] is None
