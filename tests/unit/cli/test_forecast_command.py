# SPDX-License-Identifier: Apache-2.0
"""`embellie forecast`: a picture of the next 96 hours, without a cluster and without a network."""

import io
import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from embellie.api.gridzone import GridZone
from embellie.cli.forecast_plot import draw
from embellie.cli.main import cli
from embellie.telemetry.forecasts import parse_forecast, zone_entry
from embellie_forecast.documents import build, neutral
from embellie_forecast.exchange import (
    FORECAST_LEVELS,
    OnSiteForecast,
    Rung,
    newest_document,
    parse_document,
    write_forecast,
)
from embellie_forecast.factors import Scope
from embellie_forecast.onsite.plants import SolarPlant
from embellie_forecast.sources.base import Fault, SourceError
from embellie_forecast.sources.files import FileSource
from embellie_forecast.sources.frame import Readings
from embellie_forecast.zones import parse_zones

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and no cache of this machine."""

    def refuse(*_arguments: object, **_more: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("EMBELLIE_CACHE", str(tmp_path / "cache"))


def run(*arguments: str, folder: Path) -> Result:
    return CliRunner().invoke(cli, ["forecast", "--utc", "--dir", str(folder), *arguments])


def test_with_no_network_it_draws_prints_and_writes_the_forecast(tmp_path: Path) -> None:
    png, out = tmp_path / "f.png", tmp_path / "f.json"
    done = run("US-CISO", "--png", str(png), "--json", str(out), folder=tmp_path)
    assert done.exit_code == 0, done.output
    assert "rung Climatology" in done.output
    assert "Best window: " in done.output
    assert "not Live: no live feed is named" in done.output
    assert "EIA" in done.output
    assert done.output.count("█") >= 90
    assert png.read_bytes().startswith(b"\x89PNG")
    assert parse_forecast(json.loads(out.read_text())).n_slots == 96


def test_json_on_the_terminal_is_nothing_but_json(tmp_path: Path) -> None:
    done = run("US-PJM", "--json", "-", folder=tmp_path)
    assert parse_document(done.output).zone == "us-pjm"


def served(folder: Path) -> None:
    hours = np.arange(96)
    middle = 300.0 - 100.0 * np.sin(2 * np.pi * (hours - 6) / 24)
    made = build(
        zone="west",
        now=NOW,
        rung=Rung.LIVE,
        model_id="m",
        scope=Scope.DIRECT,
        carbon=np.stack([middle - 30, middle, middle + 30]),
        mean=middle,
        share=np.full((3, 96), 0.5),
        skill=21,
    )
    sun = np.maximum(0.0, np.sin(2 * np.pi * (hours - 6) / 24)) * 80
    plant = OnSiteForecast(name="roof", kind="Solar", rung=Rung.LIVE, power_kw=np.stack([sun * 0.8, sun, sun * 1.1]))
    from dataclasses import replace

    write_forecast(folder, replace(made, on_site=(plant,), attribution=("Somebody",)))


def test_a_forecast_that_is_served_is_shown_as_it_is(tmp_path: Path) -> None:
    served(tmp_path)
    done = run("west", "--png", str(tmp_path / "f.png"), folder=tmp_path)
    assert done.exit_code == 0, done.output
    assert "west  rung Live" in done.output
    assert "direct average" in done.output
    assert "21 % smaller" in done.output
    assert "roof" in done.output
    assert "Data: Somebody" in done.output


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_of_the_picture_is_wider_than_the_terminal(width: int, tmp_path: Path) -> None:
    served(tmp_path)
    document = newest_document(tmp_path, "west", rungs=frozenset(Rung), not_after=NOW)
    assert document is not None
    console = Console(file=io.StringIO(), width=400, record=True)
    console.print(draw(document, width=width, zone=UTC))
    said = console.export_text()
    assert "renewable share, 0-100 %" in said
    assert "roof: solar, 0-88 kW" in said
    drawn = [line.rstrip() for line in said.splitlines() if set(line) & set("█▒─▄")]
    assert len(drawn) > 12
    assert max(map(len, drawn)) <= width


def test_a_flat_forecast_says_that_nothing_has_a_reason_to_wait(tmp_path: Path) -> None:
    write_forecast(tmp_path, neutral("flat", NOW))
    assert "nothing has a reason to wait" in run("flat", folder=tmp_path).output


@pytest.mark.parametrize("zone", ["XX", "../../etc", "west"])
def test_a_zone_of_which_nothing_is_known_is_one_clear_error(zone: str, tmp_path: Path) -> None:
    done = run(zone, folder=tmp_path)
    assert done.exit_code == 1
    assert "US-CISO, US-PJM" in done.output


def test_of_a_misspelt_zone_the_near_name_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"west-2"}]}')
    assert "'us-ciso' (did you mean US-CISO?)" in run("us-ciso", folder=tmp_path).output
    assert "'west-1' (did you mean west-2?)" in run("west-1", folder=tmp_path).output
    assert "did you mean" not in run("FR", folder=tmp_path).output


@pytest.mark.parametrize("flag", ["--json", "--png"])
def test_a_full_disk_is_one_clear_error(flag: str, tmp_path: Path) -> None:
    done = run("US-CISO", flag, "/dev/full", folder=tmp_path)
    assert done.exit_code == 1
    assert "/dev/full cannot be written: No space left on device" in done.output


@pytest.mark.parametrize("source", ["eia", "oracle", "eia:area=../x", "bundle:area=a", "eia:key=1"])
def test_a_source_that_cannot_be_meant_is_one_clear_error(source: str, tmp_path: Path) -> None:
    done = run("US-CISO", "--source", source, folder=tmp_path)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")


def test_what_the_operator_tells_of_a_zone_is_what_the_forecaster_understands() -> None:
    zone = GridZone.parse(
        {
            "metadata": {"name": "paris"},
            "spec": {
                "nodeSelector": {"zone": "a"},
                "gridRegion": "FR",
                "latitudeMillidegrees": 48_900,
                "longitudeMillidegrees": 2_400,
                "sources": {
                    "primary": {"kind": "Eco2mix"},
                    "crossCheck": {"kind": "ENTSOE", "area": "FR"},
                    "weather": "OpenMeteo",
                },
                "onSite": [
                    {
                        "name": "roof",
                        "kind": "Solar",
                        "peakKilowatts": 400,
                        "tiltDegrees": 15,
                        "meter": {"query": "sum(pv)", "unit": "Watt"},
                    },
                    {"name": "hill", "kind": "Wind", "peakKilowatts": 2000, "hubHeightMeters": 120},
                ],
            },
        }
    )
    (told,), skipped = parse_zones(json.dumps({"zones": [zone_entry(zone)]}))
    assert skipped == []
    assert told.primary is not None
    assert (told.primary.kind, told.cross_check and told.cross_check.area) == ("eco2mix", "FR")
    assert told.weather is not None
    roof, hill = told.on_site
    assert isinstance(roof.plant, SolarPlant)
    assert (roof.plant.tilt_deg, roof.plant.azimuth_deg, roof.plant.latitude) == (15.0, 180.0, 48.9)
    assert roof.meter is not None
    assert roof.meter.unit == "W"
    assert hill.meter is None


@pytest.mark.parametrize(
    "entry",
    [
        {"sources": {"primary": {"kind": "EIA"}}},
        {"sources": {"primary": {"kind": "Oracle", "area": "x"}}},
        {"sources": {"primary": {"kind": "EIA", "area": "../../x"}}},
        {"sources": {"weather": "Frogs"}},
        {"onSite": [{"name": "roof", "kind": "Coal", "peakKilowatts": 1}]},
        {"onSite": [{"name": "roof", "kind": "Solar", "peakKilowatts": 1}]},
        {"onSite": [{"name": "roof", "kind": "Wind", "peakKilowatts": float("inf")}]},
        {"onSite": [7]},
    ],
)
def test_what_cannot_be_meant_is_left_out_of_its_zone_and_said(entry: dict[str, object]) -> None:
    (zone,), skipped = parse_zones(json.dumps({"zones": [{"name": "a", "gridRegion": "FR", **entry}]}))
    assert len(skipped) == 1
    assert zone.grid_region == "FR"
    assert zone.primary is None
    assert zone.on_site == ()


def test_the_levels_that_are_written_are_those_that_the_format_names() -> None:
    assert neutral("a", NOW + timedelta(hours=1)).quantile_levels == FORECAST_LEVELS == (0.1, 0.5, 0.9)


@pytest.mark.parametrize("share", [True, False], ids=["with a share", "intensities alone"])
def test_a_file_that_ended_years_ago_still_tells_what_is_usual(share: bool, tmp_path: Path) -> None:
    rows = ["timestamp_utc,ci_lifecycle_g_per_kwh" + (",re_pct" if share else "")]
    for k in range(366 * 24):
        moment = datetime(2019, 3, 1, tzinfo=UTC) + timedelta(hours=k)
        if moment.day > 20:
            continue
        usual = 400 if moment.hour < 12 else 200 + k % 7
        rows.append(f"{moment:%Y-%m-%dT%H:%M:%SZ},{usual}" + (",30" if share else ""))
    file = tmp_path / "grid.csv"
    file.write_text("\n".join(rows))
    done = run("XX", "--source", f"file:path={file}", "--json", "-", folder=tmp_path)
    document = parse_document(done.output)
    assert document.rung is Rung.CLIMATOLOGY
    by_hour = {(document.start.hour + k) % 24: g for k, g in enumerate(document.carbon_mean_g_per_kwh[:24])}
    assert all((g > 300) == (hour < 12) for hour, g in by_hour.items())
    assert any("its newest believable hour is" in reason for reason in document.reasons)


def test_a_feed_is_asked_once_for_a_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(_source: FileSource, begin: datetime, _end: datetime, *, now: datetime) -> Readings:
        asked.append((begin, now))
        raise SourceError(Fault.UNAVAILABLE, "away")

    monkeypatch.setattr(FileSource, "read", read)
    done = run("XX", "--source", f"file:path={tmp_path / 'grid.csv'}", folder=tmp_path)
    assert done.exit_code == 0, done.output
    assert len(asked) == 1
