# SPDX-License-Identifier: Apache-2.0
"""The ladder over real sockets: sources are taken away one by one and given back, while the operator reads."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
from ladder_stage import BEGIN, HOUR, ZONE, Stage, health, settle

from embellie.domain.reasons import Rung, SignalKind
from embellie.telemetry.intensity import IntensityFolder
from embellie_forecast.models.targets import WeatherUse
from embellie_testbed.providers import Behaviour, Server, truth_at

WITH_PLANTS = {
    **ZONE,
    "onSite": [
        {"name": "roof", "kind": "Solar", "peakKilowatts": 500, "meter": {"query": "pv", "unit": "Kilowatt"}},
        {"name": "hill", "kind": "Wind", "peakKilowatts": 900},
    ],
}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of a forecaster that has fetched its history and trained, once for all tests."""
    folder, server = tmp_path_factory.mktemp("learned"), Server()
    with pytest.MonkeyPatch.context() as patch:
        settle(server, patch)
        first = Stage(server, folder, folder / "cache")
        assert first.turn().rung is Rung.CLIMATOLOGY, "before anything is learned"
        first.learn()
        assert first.turn().rung is Rung.LIVE
        first.learn()
        shelf = first.ladder._shelf
        assert shelf._entry("US-PJM-electricitymaps-US-MIDA-PJM").model is not None, "the second source's own"
        model = shelf._entry("US-PJM-eia-PJM").model
        assert model is not None
        assert model.weather is WeatherUse.LEADS, "of days 2 to 4 it has learned from forecasts that were as old"
        assert model.history.n_hours > 50 * 24, "it is trained on what was fetched before it, not on the first answer"
    server.close()
    return folder / "cache"


@pytest.fixture
def stage(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learned: Path) -> Stage:
    settle(server, monkeypatch)
    shutil.copytree(learned, tmp_path / "cache")
    return Stage(server, tmp_path, tmp_path / "cache")


def test_sources_are_taken_away_one_by_one_and_given_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.tell(WITH_PLANTS)
    live = stage.turn()
    assert live.rung is Rung.LIVE
    assert live.n_slots == 96
    document = stage.document()
    assert {plant.name for plant in document.on_site} == {"roof", "hill"}
    assert any("EIA-930" in name for name in document.attribution)
    assert any("Open-Meteo" in name for name in document.attribution)
    assert document.reasons == ()

    # The weather goes: the grid's forecast stays, the plants fall back to their usual range.
    stage.down = {"/v1/forecast"}
    stage.at(BEGIN + 1 * HOUR)
    assert stage.turn().rung is Rung.LIVE
    document = stage.document()
    assert {plant.rung.value for plant in document.on_site} == {"Climatology", "Neutral"}
    assert any("no weather" in reason for reason in document.reasons)
    stage.tell(ZONE)

    # The second source goes: said, and no more.
    stage.down = {"/v1/forecast", "/v3/"}
    stage.at(BEGIN + 2 * HOUR)
    assert stage.turn().rung is Rung.LIVE

    # The grid's feed goes: what it has said is fresh for as long as it is usually late.
    stage.down = {"/v1/forecast", "/v3/", "/v2/", "/api/v1"}
    stage.at(BEGIN + 6 * HOUR)
    assert stage.turn().rung is Rung.LIVE
    assert any("503" in reason for reason in stage.document().reasons)
    last_live = stage.document()
    stage.at(BEGIN + 34 * HOUR)
    kept = stage.turn()
    assert kept.rung is Rung.LAST_GOOD
    assert kept.model_id == last_live.model_id
    assert kept.n_slots == 96 - 28
    assert kept.carbon_intensity_mean_g_per_kwh[0] == pytest.approx(last_live.carbon_mean_g_per_kwh[28], abs=0.02)

    # Too old to be good: the calendar.
    stage.at(BEGIN + 60 * HOUR)
    assert stage.turn().rung is Rung.CALENDAR

    # A forecaster that forgot its models and cannot train: climatology.
    def explode(*_arguments: object, **_more: object) -> None:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr("embellie_forecast.shelf.train_zone", explode)
        broken.setattr("embellie_forecast.shelf.train_calendar", explode)
        stage.restart()
        stage.at(BEGIN + 61 * HOUR)
        assert stage.turn().rung is Rung.CLIMATOLOGY

        # A grid of which nothing is known: neutral, and nobody waits.
        stage.tell({"name": "east", "gridRegion": "XX"})
        stage.at(BEGIN + 62 * HOUR)
        neutral = stage.turn()
        assert neutral.rung is Rung.NEUTRAL
        assert np.ptp(neutral.carbon_intensity_g_per_kwh) == 0.0

        # And back, without a hand: the grid is named again,
        stage.tell(ZONE)
        stage.at(BEGIN + 63 * HOUR)
        assert stage.turn().rung is Rung.CLIMATOLOGY

    # training works again (a day later it is tried anew),
    stage.restart()
    stage.at(BEGIN + 64 * HOUR)
    stage.turn()
    stage.at(BEGIN + 65 * HOUR)
    assert stage.turn().rung is Rung.CALENDAR

    # the feeds answer again.
    stage.down = set()
    stage.at(BEGIN + 66 * HOUR)
    stage.turn()
    stage.learn()
    stage.at(BEGIN + 92 * HOUR)
    back = stage.turn()
    assert back.rung is Rung.LIVE
    assert stage.document().reasons == ()


def change_last(hours: int, factor: float) -> Callable[[list[Any]], list[Any]]:
    """The coal of the newest hours is not what it is."""

    def mangle(records: list[Any]) -> list[Any]:
        newest = max((moment for moment, _ in records), default=BEGIN)
        return [
            (m, {**v, "gen_coal_mw": v.get("gen_coal_mw", 0.0) * factor} if m > newest - hours * HOUR else v)
            for m, v in records
        ]

    return mangle


def test_one_poisoned_feed_costs_a_rung_and_moves_no_decision(stage: Stage) -> None:
    honest = stage.turn()
    assert honest.rung is Rung.LIVE
    stage.at(BEGIN + HOUR)
    stage.server.behaviour = Behaviour(mangle=change_last(24, 2.2))
    poisoned = stage.turn()
    # Within all bounds, but the second source does not agree: what was good an hour ago still is.
    assert poisoned.rung is Rung.LAST_GOOD
    assert any("second source contradicts" in reason for reason in stage.document().reasons)
    assert np.allclose(poisoned.carbon_intensity_mean_g_per_kwh, honest.carbon_intensity_mean_g_per_kwh[1:], atol=0.02)
    stage.at(BEGIN + 2 * HOUR)
    stage.server.behaviour = Behaviour()
    assert stage.turn().rung is Rung.LIVE


@pytest.mark.parametrize("off", [timedelta(days=1), timedelta(days=-1)], ids=["ahead", "behind"])
def test_a_clock_that_is_wrong_by_a_day_costs_a_rung_and_is_named(stage: Stage, off: timedelta) -> None:
    assert stage.turn().rung is Rung.LIVE
    stage.at(BEGIN + HOUR)
    stage.now = BEGIN + HOUR + off
    stage.service._clock = stage.clock(stage.now)
    wrong = stage.turn()
    assert wrong.rung in {Rung.LIVE, Rung.LAST_GOOD, Rung.CALENDAR}
    if off > timedelta(0):
        assert any("clock" in reason for reason in stage.document().reasons)
    assert any("clock" in reason or "after now" in reason for reason in stage.document().reasons)
    # Set right again, it climbs by itself.
    stage.at(BEGIN + 2 * HOUR)
    assert stage.turn().rung is Rung.LIVE


def test_a_full_disk_costs_the_archive_and_not_the_forecast(stage: Stage, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache" / "archives")
    (tmp_path / "cache" / "archives").write_text("a file where a folder belongs: every write below it fails")
    stage.restart(tmp_path / "cache")
    stage.at(BEGIN + HOUR)
    assert stage.turn().rung is Rung.LIVE
    assert any("cannot be written" in reason for reason in stage.document().reasons)


def test_a_restart_begins_with_what_was_archived(stage: Stage, tmp_path: Path) -> None:
    stage.down = {"/"}
    stage.restart(tmp_path / "cache")
    stage.at(BEGIN + HOUR)
    assert stage.turn().rung is Rung.LIVE
    assert any("503" in reason for reason in stage.document().reasons)


def test_the_second_source_takes_over_and_gives_back_without_a_hand(stage: Stage) -> None:
    assert stage.turn().rung is Rung.LIVE
    assert "US-PJM-eia" in stage.document().model_id
    stage.down = {"/v2/"}
    stage.at(BEGIN + 32 * HOUR)
    taken_over = stage.turn()
    document = stage.document()
    assert taken_over.rung is Rung.LIVE
    assert "US-PJM-electricitymaps" in document.model_id
    assert document.reasons[0].startswith("electricitymaps stands in for eia: ")
    assert any("503" in reason for reason in document.reasons)
    assert any("Electricity Maps" in name for name in document.attribution)
    assert set(health(stage)) == {"eia", "electricitymaps"}

    # What was measured meanwhile comes from both: each hour from the first source that knows it.
    known = IntensityFolder(stage.folder / "intensity").of("east")
    assert known is not None
    assert known.at(SignalKind.AVERAGE_LIFECYCLE, BEGIN + 29 * HOUR) is not None
    assert known.at(SignalKind.AVERAGE_LIFECYCLE, BEGIN + 33 * HOUR) is None, "nobody has measured the future"

    # Both are gone: what was good is still good.
    stage.down = {"/v2/", "/v3/"}
    stage.at(BEGIN + 40 * HOUR)
    assert stage.turn().rung is Rung.LAST_GOOD
    assert "and the second source" in stage.document().reasons[0]

    stage.down = set()
    stage.at(BEGIN + 41 * HOUR)
    assert stage.turn().rung is Rung.LIVE
    assert "US-PJM-eia" in stage.document().model_id
    assert stage.document().reasons == ()


def test_a_first_source_that_is_frozen_is_replaced_and_contradicts_nobody(stage: Stage) -> None:
    assert stage.turn().rung is Rung.LIVE
    frozen_at = stage.server.truth(BEGIN.replace(minute=0))

    def freeze(records: list[Any]) -> list[Any]:
        path = stage.server.requests[-1][0]
        return [(m, frozen_at if path.startswith("/v2/") and m >= BEGIN else v) for m, v in records]

    stage.server.behaviour = Behaviour(mangle=freeze)
    stage.at(BEGIN + 36 * HOUR)
    assert stage.turn().rung is Rung.LIVE
    document = stage.document()
    assert "US-PJM-electricitymaps" in document.model_id
    assert any("frozen" in reason for reason in document.reasons)
    assert document.carbon_mean_g_per_kwh == pytest.approx(document.carbon_mean_g_per_kwh.clip(150, 700))


def test_a_first_source_that_never_spoke_is_stood_in_for(stage: Stage, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache" / "archives")
    stage.restart(tmp_path / "cache")
    stage.down = {"/v2/"}
    stage.at(BEGIN + HOUR)
    assert stage.turn().rung is Rung.LIVE
    assert "US-PJM-electricitymaps" in stage.document().model_id
    assert stage.document().reasons[0].startswith("electricitymaps stands in for eia: ")
    assert health(stage) == {"eia": False, "electricitymaps": True}


FRANCE: dict[str, Any] = {"name": "east", "gridRegion": "FR", "sources": {"primary": {"kind": "Eco2mix"}}}


def test_where_a_source_tells_quarters_the_forecast_comes_in_quarters_and_steps_down_like_any_other(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(server, monkeypatch)
    stage = Stage(server, tmp_path)
    server.truth = truth_at
    stage.tell(FRANCE)
    stage.turn()
    stage.learn()
    fine = stage.turn()
    assert fine.rung is Rung.LIVE
    assert fine.step == timedelta(minutes=15)
    assert fine.n_slots == 4 * 96
    document = stage.document()
    assert document.model_id.endswith("+within-hour")
    # The quarters of the present hour and of the next are nearer to what comes than their hours' means.
    came = np.array([truth_at(fine.start + k * fine.step)["ci_direct_g_per_kwh"] for k in range(96)])
    said = document.direct_g_per_kwh
    assert said is not None
    flat = np.repeat(said[1].reshape(-1, 4).mean(axis=1), 4)[:96]
    assert np.abs(said[1][:96] - came).mean() < np.abs(flat - came).mean()

    # In hours, for whoever wants them so: the same forecast without the shape.
    stage.ladder._own_step = False
    stage.at(stage.now + timedelta(minutes=1))
    whole = stage.turn()
    assert whole.step == HOUR
    per_hour = fine.carbon_intensity_mean_g_per_kwh.reshape(-1, 4).mean(axis=1)
    assert whole.carbon_intensity_mean_g_per_kwh == pytest.approx(per_hour, rel=0.01)
    stage.ladder._own_step = True

    stage.at(stage.now + HOUR)
    assert stage.turn().n_slots == 4 * 96
    stage.down = {"/"}
    stage.at(stage.now + 20 * HOUR)
    kept = stage.turn()
    assert kept.rung is Rung.LAST_GOOD
    assert kept.step == timedelta(minutes=15)
    assert kept.n_slots == 4 * (96 - 20)
