# SPDX-License-Identifier: Apache-2.0
"""On-site energy in savings and reports: both schedules use what was measured, and the grid's figure stands beside."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledgers import T0, by_hand, ran, report, run, write, zone_hour

from embellie.accounting import Run, Signal
from embellie.accounting.draws import Uncertainty, Window, intensities
from embellie.accounting.onsite import OnSite
from embellie.accounting.savings import Savings, savings
from embellie.domain.reasons import SignalKind
from embellie.ledger import Draft, Kind, Ledger, LedgerReader, compact, verify
from embellie.simulation import SimCell, SimGridZone, SimSite
from embellie.simulation.counterfactual import Observed, replay_counterfactual
from embellie_testbed.paths import REPOSITORY

HOUR = timedelta(hours=1)
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
CERTAIN = Uncertainty(duration=0.0, job_power=0.0, power_elsewhere=0.0, common_power=0.0, intensity=0.0, on_site=0.0)


def ran_at(job: str, submitted: int, start: int, hours: int) -> Observed:
    found = Run(
        job=job, zone="west", submitted_at=BEGIN + submitted * HOUR, start=BEGIN + start * HOUR,
        end=BEGIN + (start + hours) * HOUR, gpus=8, power_kw=3.0,
    )  # fmt: skip
    return Observed(run=found, cell="west", gpus_per_pod=8)


def saved(delivered_kwh: list[float], uncertainty: Uncertainty = CERTAIN, draws: int = 5) -> Savings:
    """Return the saving of the page's example with a roof that delivers so much in each hour."""
    grid = np.array([600.0, 600.0, 200.0, 200.0])
    signal = Signal(start=BEGIN, step=HOUR, values=grid, kind=SignalKind.AVERAGE_LIFECYCLE)
    site = SimSite(
        cells=(SimCell(name="west", grid_zone="west", nodes=1, pue=1.2),),
        grid_zones=(SimGridZone(name="west", signal=signal),),
    )
    window = Window(start=BEGIN, step=HOUR, slots=4)
    seen = [ran_at("a", 0, 2, 2), ran_at("b", 1, 1, 1)]
    replayed = replay_counterfactual(seen, site, window, uncertainty=uncertainty, draws=draws)
    own = OnSite(kwh=np.array([delivered_kwh]), g_per_kwh=np.full((1, 4), 45.0))
    ci = intensities({"west": signal}, site.zone_powers(), window)
    return savings(replayed.draws, ci, signal.kind, uncertainty=uncertainty, on_site=own)


def test_the_worked_example_of_a_saving_with_a_roof_comes_out_as_the_page_says() -> None:
    page = (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8")
    found = saved([0.0, 2.0, 6.0, 6.0])
    assert found.measured_g == pytest.approx(6774)
    assert found.counterfactual_g == pytest.approx(8548.8)
    assert found.saved_g.value == pytest.approx(1774.8)
    assert "8548.8 - 6774 = **1774.8 g**" in page
    assert found.method == "embellie-savings/6"


def test_sun_that_both_schedules_use_whole_or_not_at_all_changes_no_saving() -> None:
    assert saved([0.0, 0.0, 0.0, 0.0]).saved_g.value == pytest.approx(1440)
    assert saved([3.0, 3.0, 3.0, 3.0]).saved_g.value == pytest.approx(1440)


def test_work_that_left_the_sun_has_lost_and_that_is_said() -> None:
    assert saved([9.0, 9.0, 0.0, 0.0]).saved_g.value < 0


def test_what_the_plants_meters_are_off_by_is_part_of_the_interval() -> None:
    sure, unsure = saved([0.0, 2.0, 6.0, 6.0]), saved([0.0, 2.0, 6.0, 6.0], Uncertainty(
        duration=0.0, job_power=0.0, power_elsewhere=0.0, common_power=0.0, intensity=0.0
    ), draws=50)  # fmt: skip
    assert sure.saved_g.high - sure.saved_g.low == pytest.approx(0.0, abs=1e-6)
    assert unsure.saved_g.low < 1774.8 - 20 < 1774.8 + 20 < unsure.saved_g.high


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def sunny(hours: int, **more: Any) -> list[Draft]:
    """400 g/kWh, and a roof that delivers 10 kW from 8:00 to 16:00; the node draws 3.84 kW, and 8.16 at work."""
    return [zone_hour(k, roof_kw=10.0 if 8 <= k % 24 < 16 else 0.0, **more) for k in range(hours)]


def document(path: Path, last: str = "2026-03-30", *more: str) -> dict[str, Any]:
    result = report(path, "2026-03-28", last, "--format", "json", *more)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.output))


def test_a_report_tells_what_was_delivered_and_used_and_the_grid_alone(path: Path) -> None:
    write(path, [*sunny(48), ran(0), ran(1)])
    told = document(path, "2026-03-30", "--by", "zone")
    (row,) = told["rows"]
    # At work from 6:00 to 18:00: all of the sunny hours, in which 8.16 of 10 kWh are used.
    assert row["onSite"]["deliveredKwh"]["Solar"] == pytest.approx(2 * 8 * 10, rel=0.01)
    assert row["onSite"]["usedKwh"]["Solar"] == pytest.approx(2 * 8 * 8.16)
    assert row["onSite"]["coveragePercent"] == pytest.approx(100)
    grid = 2 * (12 * 8.16 + 12 * 3.84) * 0.4
    assert row["onSite"]["emissionsKgWithout"]["AverageLifecycle"] == pytest.approx(grid)
    assert row["emissionsKg"]["AverageLifecycle"] == pytest.approx(grid - 2 * 8 * 8.16 * 0.355)
    assert row["emissionsKg"]["AverageDirect"] is row["onSite"]["emissionsKgWithout"]["AverageDirect"] is None
    saving = told["cluster"]["saving"]
    # First come, first served it would have run from midnight to noon: 4 of the sunny hours' work in the dark, and four
    # hours more of 4.32 kW in the sun now, none of them dirtier by the grid.
    assert saving["savedKg"]["value"] == pytest.approx(2 * 4 * 4.32 * 0.355, rel=0.1)
    assert saving["withoutOnSite"]["savedKg"]["value"] == pytest.approx(0.0, abs=0.5)
    assert saving["measuredKg"] == pytest.approx(row["emissionsKg"]["AverageLifecycle"])
    assert saving["withoutOnSite"]["measuredKg"] == pytest.approx(grid)
    assert told["method"] == {"accounts": "embellie-account/5", "savings": "embellie-savings/6"}
    assert any("not the world's emissions" in note for note in told["notes"])


@pytest.mark.parametrize("by", ["cluster", "zone", "namespace", "team"])
def test_every_format_tells_both_figures(path: Path, by: str) -> None:
    write(path, [*sunny(24), ran(0)])
    rows = list(csv.DictReader(io.StringIO(
        report(path, "2026-03-28", "2026-03-29", "--by", by, "--format", "csv").output
    )))  # fmt: skip
    for row in rows:
        spared = float(row["emissions_lifecycle_without_on_site_kg"]) - float(row["emissions_lifecycle_kg"])
        assert spared > 1.0
        assert bool(row["on_site_used_kwh"]) is (by in {"cluster", "zone"})
    for form in ("table", "html"):
        text = report(path, "2026-03-28", "2026-03-29", "--by", by, "--format", form).output
        assert "80.0 kWh delivered, 65.3 kWh of them used; without it: 57.6 kg life-cycle" in text


def test_hours_in_which_a_meter_proved_nothing_are_named_with_their_reason(path: Path) -> None:
    drafts = sunny(24)
    for draft in drafts[:6]:
        draft.body["plants"][0] |= {"missing": "its meter stands still", "coveredSeconds": 0.0}
        draft.body["adds"]["onSite"]["Solar"]["coveredSeconds"] = 0.0
    write(path, drafts)
    told = document(path, "2026-03-29")
    assert (
        "What plant roof of zone west delivered counts as nothing for 6.0 hours: its meter stands still."
        in (told["notes"])
    )
    assert told["cluster"]["onSite"]["coveragePercent"] == pytest.approx(75)


def test_accounts_of_before_and_of_zones_without_plants_add_up_with_those_of_after(path: Path) -> None:
    old = [zone_hour(k) for k in range(24)]
    east = [zone_hour(k, zone="east") for k in range(48)]
    write(path, [*old, *east, *sunny(48)[24:], ran(0), ran(1)])
    told = document(path, "2026-03-30", "--by", "zone")
    rows = {row["name"]: row for row in told["rows"]}
    assert "onSite" not in rows["east"]
    assert rows["west"]["onSite"]["usedKwh"]["Solar"] == pytest.approx(8 * 8.16)
    assert told["cluster"]["onSite"]["emissionsKgWithout"]["AverageLifecycle"] == pytest.approx(
        2 * 2 * (12 * 8.16 + 12 * 3.84) * 0.4
    )
    assert told["method"]["accounts"] == "embellie-account/4 and embellie-account/5"


def test_where_energy_is_refused_nothing_is_told_of_its_plants(path: Path) -> None:
    write(path, sunny(48)[:40])
    cluster = document(path)["cluster"]
    assert cluster["energyKwh"] is None
    assert "onSite" not in cluster
    for form in ("table", "csv", "html"):
        result = report(path, "2026-03-28", "2026-03-30", "--format", form)
        assert result.exit_code == 0, result.output
        assert "delivered," not in result.output


def test_daily_accounts_keep_what_the_plants_delivered_and_spared(path: Path) -> None:
    write(path, sunny(48))
    before = document(path)["cluster"]["onSite"]
    with Ledger(path, leader="a", version="1") as ledger:
        assert compact(ledger, T0 + timedelta(days=30), T0 + timedelta(days=30)).removed
    after = document(path)["cluster"]["onSite"]
    assert after.keys() == before.keys()
    for figure in ("deliveredKwh", "usedKwh"):
        assert after[figure] == pytest.approx(before[figure])
    assert after["emissionsKgWithout"]["AverageLifecycle"] == pytest.approx(115.2)


def test_sun_that_was_written_in_afterwards_is_found(path: Path) -> None:
    write(path, sunny(24))
    with by_hand(path) as connection:
        (body,) = connection.execute("select body from records where seq=12").fetchone()
        changed = json.loads(body)
        changed["adds"]["onSite"]["Solar"]["usedKwh"] *= 2
        connection.execute("update records set body=? where seq=12", (json.dumps(changed),))
    with LedgerReader(path) as reader:
        found = verify(reader.entries(), reader.entries(kinds=[Kind.DAILY]))
    assert [finding.seq for finding in found.findings] == [12]
    assert "record 12" in report(path, "2026-03-28", "2026-03-29").output


def test_a_card_tells_the_mean_intensity_with_and_without_the_sites_own_energy(path: Path) -> None:
    write(path, [*sunny(24), ran(0)])
    card = run("card", "job/train", "-n", "ml", "--ledger", str(path))
    assert card.exit_code == 0, card.output
    # Eight of its twelve hours are sunny, with more sun than is drawn.
    assert "mean carbon intensity 163 g/kWh (average life-cycle, location-based, on-site energy counted; 400 g/kWh" in (
        card.output
    )
    told = json.loads(run("card", "job/train", "-n", "ml", "--ledger", str(path), "-o", "json").output)
    assert told["withoutOnSiteGPerKwh"] == pytest.approx(400)
