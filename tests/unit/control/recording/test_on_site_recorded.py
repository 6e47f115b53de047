# SPDX-License-Identifier: Apache-2.0
"""On-site energy in the ledger as the operator keeps it: meters of GridZones, revisions, restarts, and the report."""

import json
import math
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ledgers import report
from recorder import HOUR, T0, Desk, Hand, Meters

from embellie.ledger import Kind
from embellie.telemetry.metrics import REGISTRY

GRID = "timestamp_utc,ci_lifecycle_g_per_kwh,ci_direct_g_per_kwh,estimated\n"
ROOF = {"name": "roof", "kind": "Solar", "peakKilowatts": 40, "meter": {"query": "pv", "unit": "Watt"}}
MILL = {"name": "mill", "kind": "Wind", "peakKilowatts": 40, "meter": {"query": "wind", "unit": "Kilowatt"}}
PLACE = {"latitudeMillidegrees": 48900, "longitudeMillidegrees": 2400}


def cloudy(at_s: float) -> float:
    """Deliver 16 kW in the first and third quarter of each hour, and nothing in the others [W]."""
    bright = int((at_s - T0.timestamp()) // 900) % 2 == 0
    return 16_000.0 + 100.0 * math.sin(at_s) if bright else 0.0


def grid_says(folder: Path, g: int, direct: int, estimated: int) -> None:
    path = folder / "intensity" / "west.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(GRID + "".join(f"{(T0 + k * HOUR).isoformat()},{g},{direct},{estimated}\n" for k in range(60)))
    # The folder looks at the time of change only.
    os.utime(path, (g, g))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    grid_says(tmp_path, 400, 350, 1)
    meters = Meters()
    meters.plants["west", "roof"] = cloudy
    desk = Desk(tmp_path, Hand(T0), meters)
    desk.zone = {"onSite": [ROOF], **PLACE}
    yield desk
    desk.stop()


def accounts(desk: Desk) -> list[dict[str, Any]]:
    return desk.entries(Kind.ACCOUNT)


def total(desk: Desk, table: str, kind: str) -> float:
    return sum(a["adds"].get(table, {}).get(kind, 0.0) for a in accounts(desk))


def test_each_interval_uses_its_own_sun_and_none_of_its_neighbours(desk: Desk) -> None:
    desk.turns(8, timedelta(minutes=10))
    bright, dark = accounts(desk)[:2]
    # 7.2 kW are drawn: 1.8 of 4 kWh are used in a bright quarter, and none in the dark one after it.
    assert bright["adds"]["onSite"]["Solar"]["deliveredKwh"] == pytest.approx(4.0, rel=0.05)
    assert bright["adds"]["onSite"]["Solar"]["usedKwh"] == pytest.approx(1.8)
    assert bright["adds"]["grams"]["AverageLifecycle"] == pytest.approx(1.8 * 45)
    assert bright["adds"]["grams"]["AverageDirect"] == pytest.approx(0.0, abs=1e-9)
    assert dark["adds"]["grams"]["AverageLifecycle"] > 1.5 * 400
    assert bright["method"] == "embellie-account/5"


def test_late_grid_data_reprices_what_the_grid_supplied_and_the_chain_holds(desk: Desk, tmp_path: Path) -> None:
    desk.turns(10, timedelta(minutes=10))
    grid_says(tmp_path, 250, 200, 0)
    desk.turn()
    desk.turn()
    drawn = sum(a["adds"].get("kwh", {}).get("facility", 0.0) for a in accounts(desk))
    used = sum(a["adds"].get("onSite", {}).get("Solar", {}).get("usedKwh", 0.0) for a in accounts(desk))
    assert used > 3.0
    for kind, grid, own in (("AverageLifecycle", 250, 45), ("AverageDirect", 200, 0)):
        assert total(desk, "grams", kind) == pytest.approx((drawn - used) * grid + used * own)
        assert total(desk, "sparedGrams", kind) == pytest.approx(used * (grid - own))
    revision = accounts(desk)[-1]
    assert (revision["revision"], revision["method"]) == (1, "embellie-account/5")
    assert "onSite" not in revision["adds"], "what was delivered is no grid data"


def test_a_restart_reprices_intervals_with_sun_and_those_of_before_there_was_a_plant(tmp_path: Path) -> None:
    grid_says(tmp_path, 400, 350, 1)
    clock, meters = Hand(T0), Meters()
    first = Desk(tmp_path, clock, meters)
    first.turns(7, timedelta(minutes=10))
    before = len(accounts(first))
    meters.plants["west", "roof"] = cloudy
    first.zone = {"onSite": [ROOF], **PLACE}
    first.turns(7, timedelta(minutes=10))
    first.stop()
    grid_says(tmp_path, 250, 200, 0)
    second = Desk(tmp_path, clock, meters)
    second.zone = first.zone
    second.turn()
    second.turn()
    found = accounts(second)
    assert {a["method"] for a in found[:before]} == {"embellie-account/4"}
    drawn = sum(a["adds"].get("kwh", {}).get("facility", 0.0) for a in found)
    used = sum(a["adds"].get("onSite", {}).get("Solar", {}).get("usedKwh", 0.0) for a in found)
    assert used > 1.5
    assert total(second, "grams", "AverageLifecycle") == pytest.approx((drawn - used) * 250 + used * 45)
    second.stop()


def test_a_meter_in_kilowatts_is_read_as_such_and_a_plant_without_one_is_named(desk: Desk) -> None:
    desk.zone["onSite"] = [MILL, {"name": "shed", "kind": "Solar", "peakKilowatts": 10}]
    desk.recorder._accountant._metering._source.plants = {("west", "mill"): lambda at: 4.0 + 0.1 * math.sin(at)}  # type: ignore[union-attr]
    desk.turns(3, timedelta(minutes=10))
    (account,) = accounts(desk)
    assert account["adds"]["onSite"]["Wind"]["usedKwh"] == pytest.approx(1.0, rel=0.05)
    assert account["adds"]["onSite"]["Solar"] == {
        "deliveredKwh": 0.0, "usedKwh": 0.0, "seconds": 900.0, "coveredSeconds": 0.0
    }  # fmt: skip
    assert [plant.get("missing") for plant in account["plants"]] == [None, "it has no meter"]


def test_energy_that_two_plants_tell_of_counts_in_neither(desk: Desk) -> None:
    desk.zone["onSite"] = [ROOF, {**ROOF, "name": "roof-2"}]
    desk.turns(3, timedelta(minutes=10))
    (account,) = accounts(desk)
    assert account["adds"]["onSite"]["Solar"]["usedKwh"] == 0.0
    assert {plant["missing"] for plant in account["plants"]} == {"another plant has the same meter"}


def test_a_silent_plant_makes_no_interval_wait_and_counts_as_nothing(desk: Desk) -> None:
    desk.recorder._accountant._metering._source.plants = {}  # type: ignore[union-attr]
    desk.turns(3, timedelta(minutes=10))
    (account,) = accounts(desk)
    assert account["plants"][0]["missing"] == "samples are missing, negative or above its peak"
    assert account["adds"]["grams"]["AverageLifecycle"] == pytest.approx(1.8 * 400)


def test_what_a_report_says_was_measured_is_what_the_accounts_add_up_to_quarter_by_quarter(
    desk: Desk, tmp_path: Path
) -> None:
    desk.turns(40, timedelta(minutes=10))
    result = report(desk.path, "2026-07-01T00:00:00Z", "2026-07-01T06:00:00Z", "--format", "json")
    assert result.exit_code == 0, result.output
    cluster = json.loads(result.output)["cluster"]
    inside = [a for a in accounts(desk) if a["start"] < "2026-07-01T06"]
    grams = sum(a["adds"]["grams"]["AverageLifecycle"] for a in inside)
    # Within the hour as a whole there is sun enough for all that is drawn; quarter by quarter there is not.
    assert cluster["onSite"]["usedKwh"]["Solar"] < 0.6 * 6 * 7.2 < cluster["onSite"]["deliveredKwh"]["Solar"]
    assert cluster["emissionsKg"]["AverageLifecycle"] == pytest.approx(grams / 1000)
    assert cluster["saving"]["measuredKg"] == pytest.approx(grams / 1000)


def test_metrics_count_emissions_with_on_site_energy(desk: Desk) -> None:
    def shown() -> float:
        labels = {"zone": "west", "signal_kind": "AverageDirect"}
        return REGISTRY.get_sample_value("embellie_emissions_grams_total", labels) or 0.0

    before = shown()
    desk.turns(4, timedelta(minutes=10))
    assert shown() - before == pytest.approx(total(desk, "grams", "AverageDirect"))
