# SPDX-License-Identifier: Apache-2.0
"""Reports that refuse what their inputs do not cover, and cards that can be recomputed."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from ledgers import HOUR, T0, by_hand, ran, report, run, swinging, write, zone_hour

from embellie.accounting.embodied import hardware_for
from embellie.accounting.footprint import Footprint
from embellie.accounting.interval import account_interval
from embellie.accounting.known import NO_ZONE, Machine, Tariff, ZoneInterval
from embellie.accounting.overhead import OverheadModel
from embellie.cli.main import cli
from embellie.cli.reporting.page import zone_style
from embellie.cli.reporting.period import ReportError, parse_period
from embellie.ledger import Draft, Kind
from embellie_testbed.paths import REPOSITORY

NOW = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_a_report_adds_up_and_shows_the_saving_with_its_interval_beside_the_sum_over_jobs(path: Path) -> None:
    write(path, [*swinging(96), *(ran(day) for day in range(4))])
    result = report(path, "2026-03-28", "2026-04-01", "--by", "zone", "--format", "json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.output)
    row, saving = document["rows"][0], document["cluster"]["saving"]
    assert row["energyKwh"]["total"] == pytest.approx(4 * (12 * 6.8 + 12 * 3.2) * 1.2)
    assert row["coveragePercent"]["accounts"] == pytest.approx(100)
    # By hand: without waiting 6 of the 12 hours of 3.6 kW x 1.2 would have met 600 instead of 200 g/kWh, four times.
    expected = 4 * 6 * 3.6 * 1.2 * (600 - 200) / 1000
    assert saving["savedKg"]["low"] < expected < saving["savedKg"]["high"]
    assert saving["savedKg"]["value"] == pytest.approx(expected, rel=0.15)
    assert saving["naiveKg"] == pytest.approx(expected, rel=0.01)
    assert saving["verdict"] == "saved"
    assert saving["whyTheyDiffer"]
    assert saving["gpuHoursDelayed"] == pytest.approx(4 * 6 * 8)
    assert document["cluster"]["delay"]["meanHours"] == pytest.approx(6)
    assert document["method"] == {"accounts": "embellie-account/4", "savings": "embellie-savings/5"}


@pytest.mark.parametrize("form", ["table", "csv"])
@pytest.mark.parametrize("by", ["cluster", "zone", "namespace", "team"])
def test_every_format_and_grouping_is_written(path: Path, form: str, by: str) -> None:
    write(path, [*swinging(24), ran(0)])
    result = report(path, "2026-03-28", "2026-03-29", "--by", by, "--format", form)
    assert result.exit_code == 0, result.output
    if form == "csv":
        assert len(list(csv.reader(io.StringIO(result.output)))) == 2


def test_a_figure_whose_inputs_cover_less_than_95_percent_of_the_hours_is_refused_and_says_what_is_missing(
    path: Path,
) -> None:
    write(path, [draft for k, draft in enumerate(swinging(48)) if k % 10])
    result = report(path, "2026-03-28", "2026-03-30", "--format", "json")
    row = json.loads(result.output)["cluster"]
    assert row["energyKwh"] is None
    assert "accounts cover 89.6 % of the hours (5.0 zone-hours are missing)" in row["refused"]["energy"]


def test_a_day_that_accounts_do_not_cover_has_no_energy_of_its_own(path: Path) -> None:
    write(path, [draft for k, draft in enumerate(swinging(48)) if k < 24 or k % 2])
    result = report(path, "2026-03-28", "2026-03-30", "--tz", "UTC", "--format", "json")
    first, second = json.loads(result.output)["days"]
    assert first["energyKwh"]["facility"] == pytest.approx((12 * 6.8 + 12 * 3.2) * 1.2)
    assert (second["energyKwh"], second["emissionsKg"], second["zoneHours"]) == (None, {}, 12)
    page = report(path, "2026-03-28", "2026-03-30", "--format", "html")
    assert page.exit_code == 0, page.output


def test_no_two_zones_of_a_chart_look_alike() -> None:
    assert len({tuple(zone_style(z).items()) for z in range(32)}) == 32


def test_without_a_meter_nothing_is_said_of_what_no_part_explains(path: Path) -> None:
    write(path, swinging(24))
    said = report(path, "2026-03-28", "2026-03-29").output
    assert "No zone's meter told anything" in said
    assert "- %" not in said


def test_what_was_lost_by_the_end_is_told_as_nothing_where_it_is_nothing(path: Path) -> None:
    write(path, [*swinging(48), ran(0), ran(1)])
    assert (
        "and by the end as much had been worked as first come, first served."
        in report(path, "2026-03-28", "2026-03-30").output
    )


def test_without_intensity_energy_is_told_and_emissions_are_refused(path: Path) -> None:
    write(path, [zone_hour(k, priced=k > 5) for k in range(48)])
    result = report(path, "2026-03-28", "2026-03-30")
    assert result.exit_code == 0, result.output
    assert (
        "Refused: life-cycle emissions of cluster: the average life-cycle carbon intensity is known for 87.5 %"
        in result.output
    )
    assert "Refused: saving of cluster" in result.output


def test_a_marginal_signal_has_no_column_in_an_inventory(path: Path) -> None:
    drafts = [zone_hour(k) for k in range(24)]
    for draft in drafts:
        grams = draft.body["adds"]["grams"]
        grams["Marginal"] = grams.pop("AverageLifecycle")
    write(path, drafts)
    document = json.loads(report(path, "2026-03-28", "2026-03-29", "--format", "json").output)
    assert set(document["cluster"]["emissionsKg"]) == {"AverageLifecycle", "AverageDirect"}


def test_a_report_over_no_data_says_what_there_is(path: Path) -> None:
    write(path, swinging(24))
    result = report(path, "2026-05-01", "2026-05-02")
    assert result.exit_code == 1
    assert "it has some from 2026-03-28 00:00 to 2026-03-29 00:00 UTC" in result.output


def test_a_report_over_the_future_is_refused_and_one_into_it_ends_now() -> None:
    with pytest.raises(ReportError, match="lies in the future"):
        parse_period("2027-01-01", "2027-02-01", "UTC", NOW)
    assert parse_period("2026-06-01", "2026-08-01", "UTC", NOW).end == NOW


@pytest.mark.parametrize(
    ("first", "last", "hours"), [("2026-03-29", "2026-03-30", 23), ("2026-10-25", "2026-10-26", 25)]
)
def test_a_day_on_which_the_clocks_change_has_its_own_length(first: str, last: str, hours: int) -> None:
    period = parse_period(first, last, "Europe/Paris", datetime(2027, 1, 1, tzinfo=UTC))
    assert period.hours == hours


def test_a_report_over_a_change_of_the_clocks_covers_every_hour_once(path: Path) -> None:
    write(path, [*swinging(72), ran(0)])
    result = report(path, "2026-03-29", "2026-03-30", "--tz", "Europe/Paris", "--format", "json")
    document = json.loads(result.output)
    assert document["period"]["hours"] == 23
    assert document["cluster"]["coveragePercent"]["accounts"] == pytest.approx(100)
    assert [day["zoneHours"] for day in document["days"]] == [23]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("yesterday", "2026-04-01", "UTC"), "--from 'yesterday' is no date"),
        (("2026-04-01", "2026-03-01", "UTC"), "must lie after"),
        (("2026-04-01", "2026-05-01", "Mars/Base"), "is no time zone"),
    ],
)
def test_a_period_that_is_none_says_how_to_write_it(arguments: tuple[str, str, str], words: str) -> None:
    with pytest.raises(ReportError, match=words):
        parse_period(*arguments, NOW)


def test_a_zone_that_was_renamed_is_told_and_can_be_joined(path: Path) -> None:
    write(path, [zone_hour(k, zone="west" if k < 24 else "west-1") for k in range(48)])
    apart = report(path, "2026-03-28", "2026-03-30", "--by", "zone")
    assert "--rename OLD=NEW" in apart.output
    assert "Refused" in apart.output
    joined = report(path, "2026-03-28", "2026-03-30", "--by", "zone", "--rename", "west=west-1")
    assert "Refused: energy" not in joined.output
    assert "100 %" in joined.output


def stray_hour(k: int, gpus: int = 8) -> Draft:
    start = T0 + k * HOUR
    known = ZoneInterval(
        zone=NO_ZONE, start=start, end=start + HOUR, gpus=(), gangs=(), overhead=OverheadModel.from_pue(1.0),
        machines=(Machine(name="lost-7", gpus=gpus, idle_w=400.0 * gpus, gpu_idle_w=140.0, host_share=0.03),),
    )  # fmt: skip
    body = account_interval(known) | {"nodes": {"count": 1, "names": ["lost-7"]}}
    return Draft(kind=Kind.ACCOUNT, at=start + HOUR, body=body)


def test_a_node_without_a_zone_has_a_line_of_its_own_and_too_much_of_it_refuses_the_emissions(path: Path) -> None:
    write(path, [*swinging(48), *(stray_hour(k) for k in range(48)), ran(0), ran(1)])
    result = report(path, "2026-03-28", "2026-03-30", "--by", "zone")
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if line.startswith("(no zone)"))
    assert "153.6" in line, "48 h of 3.2 kW"
    assert "Nodes (lost-7) belong to no GridZone: their 153.6 kWh" in result.output
    assert "Refused: life-cycle emissions of (no zone): these nodes belong to no GridZone" in result.output
    whole = json.loads(report(path, "2026-03-28", "2026-03-30", "--format", "json").output)["cluster"]
    assert whole["energyKwh"]["total"] == pytest.approx(2 * (12 * 6.8 + 12 * 3.2) * 1.2 + 153.6)
    assert whole["coveragePercent"]["accounts"] == pytest.approx(100)
    assert whole["emissionsKg"]["AverageLifecycle"] is None
    assert "belong to no GridZone" in whole["refused"]["AverageLifecycle"]


def test_a_cost_that_leaves_out_much_of_the_energy_is_refused(path: Path) -> None:
    write(path, [*(zone_hour(k, tariff=eur(50.0)) for k in range(48)), *(stray_hour(k) for k in range(48))])
    whole = json.loads(report(path, "2026-03-28", "2026-03-30", "--format", "json").output)["cluster"]
    assert whole["cost"] is None
    assert "belong to no GridZone" in whole["refused"]["cost"]
    by_zone = json.loads(report(path, "2026-03-28", "2026-03-30", "--format", "json", "--by", "zone").output)["rows"]
    assert {row["name"]: row["cost"] is not None for row in by_zone} == {"west": True, "(no zone)": False}


def test_a_few_kilowatt_hours_without_a_zone_refuse_nothing(path: Path) -> None:
    write(path, [*swinging(48), *(stray_hour(k) for k in range(3))])
    whole = json.loads(report(path, "2026-03-28", "2026-03-30", "--format", "json").output)
    assert whole["cluster"]["emissionsKg"]["AverageLifecycle"] is not None
    assert whole["cluster"]["refused"].keys() == {"AverageDirect", "saving"}
    assert any("lost-7" in note for note in whole["notes"])


def test_a_cluster_without_any_grid_zone_is_told_its_energy(path: Path) -> None:
    write(path, [stray_hour(k) for k in range(48)])
    whole = json.loads(report(path, "2026-03-28", "2026-03-30", "--format", "json").output)["cluster"]
    assert whole["energyKwh"]["total"] == pytest.approx(153.6)
    assert whole["refused"].keys() == {"AverageLifecycle", "AverageDirect", "saving"}


def test_a_card_is_a_line_for_a_paper(path: Path) -> None:
    write(path, swinging(24))
    result = run("card", "job/train", "-n", "ml", "--ledger", str(path))
    assert result.exit_code == 0, result.output
    for words in ("GPU-hours", "90 % interval", "dynamic", "idle", "embodied", "g/kWh"):
        assert words in result.output
    assert "(53 % of it estimated) over 96 GPU-hours" in result.output, "no GPU was metered"
    assert "methods embellie-account/4, embellie-card/2." in result.output
    document = json.loads(run("card", "job/train", "-n", "ml", "--ledger", str(path), "-o", "json").output)
    assert document["method"] == {"accounts": "embellie-account/4", "card": "embellie-card/2"}
    assert document["energyKwh"]["dynamic"] == pytest.approx(12 * 3.6)
    assert document["emissionsG"]["total"] == pytest.approx(
        sum(document["emissionsG"][k] for k in ("dynamic", "idle", "embodied"))
    )


@pytest.mark.parametrize("bent", ["replace(body, '6', '7')", "CAST(X'7BB3' AS TEXT)"], ids=["a digit", "no text"])
def test_nothing_is_told_from_a_ledger_of_which_a_record_was_changed(path: Path, bent: str) -> None:
    write(path, [*swinging(48), ran(0), ran(1)])
    with by_hand(path) as connection:
        connection.execute(f"UPDATE records SET body = {bent} WHERE seq = 5")  # noqa: S608 - our own words
    card = run("card", "job/train", "-n", "ml", "--uid", "u0", "--ledger", str(path))
    for done in (report(path, "2026-03-28", "2026-03-30"), card):
        assert done.exit_code == 1
        assert "Error: record 5 (account, 2026-03-28T04:00:00.000000Z) was changed after it was written" in done.output


def test_the_card_of_the_docs_is_the_one_that_the_code_writes() -> None:
    page = (REPOSITORY / "docs" / "reports.md").read_text(encoding="utf-8")
    gpu_hours = 9216.0
    written = Footprint(
        name="vision/job/train-7b", dynamic_kwh=2780.0, idle_kwh=815.0, overhead_kwh=717.0, estimated_kwh=0.0,
        g_per_kwh=306.0, embodied_g=gpu_hours * hardware_for("NVIDIA-H100-80GB-HBM3").g_per_gpu_hour,
        gpu_hours=gpu_hours, signal_kind="AverageLifecycle", hours=144.0,
    )  # fmt: skip
    assert written.line() in " ".join(page.split())


def test_after_an_upgrade_within_a_period_both_methods_are_named(path: Path) -> None:
    older = [replace(draft, body={**draft.body, "method": "embellie-account/1"}) for draft in swinging(12)]
    write(path, [*older, *swinging(24)[12:]])
    both = "embellie-account/1 and embellie-account/4"
    assert both in report(path, "2026-03-28", "2026-03-29").output
    assert f"methods {both}, embellie-card/2." in run("card", "job/train", "-n", "ml", "--ledger", str(path)).output


def test_a_card_says_how_long_the_work_ran_as_far_as_it_is_known(path: Path) -> None:
    write(path, [*swinging(24), ran(0)])
    command = ("card", "job/train", "-n", "ml", "--ledger", str(path), "-o", "json")
    assert json.loads(run(*command).output)["hours"] == pytest.approx(12)


def test_a_card_without_a_record_of_the_run_takes_the_shortest_that_its_accounts_allow(path: Path) -> None:
    write(path, swinging(24))
    document = json.loads(run("card", "job/train", "-n", "ml", "--ledger", str(path), "-o", "json").output)
    assert document["hours"] == pytest.approx(10)


def test_a_card_of_unknown_or_ambiguous_work_says_what_to_do(path: Path) -> None:
    write(path, swinging(48))
    assert (
        "the ledger has no account of job 'absent'"
        in run("card", "job/absent", "-n", "ml", "--ledger", str(path)).output
    )
    assert "choose one with --uid" in run("card", "job/train", "-n", "ml", "--ledger", str(path)).output
    assert run("card", "job/train", "-n", "ml", "--uid", "u1", "--ledger", str(path)).exit_code == 0


def eur(per_mwh: float) -> Tariff:
    return Tariff(per_mwh=per_mwh, currency="EUR", source="west.csv")


def test_with_a_price_of_electricity_a_report_has_its_cost_and_that_of_the_counterfactual(path: Path) -> None:
    hours = [zone_hour(k, tariff=eur(90.0 if k % 24 < 6 else 30.0)) for k in range(96)]
    write(path, [*hours, *(ran(day) for day in range(4))])
    result = report(path, "2026-03-28", "2026-04-01", "--by", "namespace", "--format", "json")
    document = json.loads(result.output)
    # By hand, each day: 3.2 kW idle x 1.2 for 6 h at 90 and 6 h at 30, and 6.8 kW x 1.2 for 12 h at 30 per MWh.
    paid = 4 * (3.84 * 6 * 90 + 3.84 * 6 * 30 + 8.16 * 12 * 30) / 1000
    assert document["cluster"]["cost"] == {"currency": "EUR", "total": pytest.approx(paid)}
    cost = document["cluster"]["saving"]["cost"]
    # Without waiting 6 of the 12 hours of 3.6 kW x 1.2 would have met 90 instead of 30 per MWh.
    less = 4 * 6 * 3.6 * 1.2 * (90 - 30) / 1000
    assert cost["saved"]["low"] < less < cost["saved"]["high"]
    assert cost["counterfactual"] == pytest.approx(cost["measured"] + cost["saved"]["value"])
    assert cost["measured"] == pytest.approx(paid)
    assert document["rows"][0]["cost"]["total"] < paid
    table = report(path, "2026-03-28", "2026-04-01").output
    assert f"{paid:,.2f} EUR" in table
    assert "first come, first served it would have cost" in table


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Asia/Kathmandu", "America/Los_Angeles"])
def test_savings_by_day_are_those_of_the_days_of_the_reports_time_zone(path: Path, zone: str) -> None:
    write(path, [*swinging(96), *(ran(day) for day in range(4))])
    told = json.loads(report(path, "2026-03-29", "2026-03-31", "--tz", zone, "--format", "json").output)
    days = [part["savedKg"]["value"] for day in told["days"] for part in day["saving"]]
    saving = told["cluster"]["saving"]
    edges = sum(saving["broughtKg"].values()) - sum(saving["owedKg"].values())
    assert [day["day"] for day in told["days"]] == ["2026-03-29", "2026-03-30"]
    assert len(days) == 2
    assert sum(days) + edges == pytest.approx(saving["savedKg"]["value"])


def test_a_report_names_the_ledger_that_it_was_made_of(path: Path) -> None:
    write(path, [zone_hour(k) for k in range(24)])
    told = json.loads(report(path, "2026-03-28", "2026-03-29", "--format", "json").output)
    checked = CliRunner().invoke(cli, ["ledger", "verify", "--ledger", str(path), "--head", told["ledger"]["head"]])
    assert checked.exit_code == 0
    assert told["ledger"]["head"] in report(path, "2026-03-28", "2026-03-29").output


def test_without_prices_no_cost_is_given_and_the_report_says_why(path: Path) -> None:
    write(path, [*swinging(48), ran(0), ran(1)])
    result = report(path, "2026-03-28", "2026-03-30")
    assert "No cost is given: no account knows a price of electricity" in result.output
    assert "EUR" not in result.output


def test_a_cost_with_too_few_prices_or_in_two_currencies_is_refused(path: Path, tmp_path: Path) -> None:
    write(path, [zone_hour(k, tariff=eur(50.0) if k > 5 else None) for k in range(48)])
    found = json.loads(report(path, "2026-03-28", "2026-03-30", "--format", "json").output)["cluster"]
    assert found["cost"] is None
    assert "known for 87.5 % of the hours" in found["refused"]["cost"]
    two = tmp_path / "two.sqlite"
    dollars = Tariff(per_mwh=40.0, currency="USD", source="east.csv")
    east = [zone_hour(k, zone="east", tariff=dollars) for k in range(24)]
    write(two, [*(zone_hour(k, tariff=eur(50.0)) for k in range(24)), *east])
    whole = json.loads(report(two, "2026-03-28", "2026-03-29", "--format", "json", "--by", "zone").output)
    assert "EUR and USD, which cannot be added" in whole["cluster"]["refused"]["cost"]
    assert {row["name"]: row["cost"]["currency"] for row in whole["rows"]} == {"east": "USD", "west": "EUR"}


def test_late_grid_data_shows_in_a_report(path: Path) -> None:
    first = zone_hour(0)
    change = {**first.body, "revision": 1, "adds": {"grams": {"AverageLifecycle": -500.0}}}
    write(path, [first, Draft(kind=Kind.ACCOUNT, at=first.at, body=change)])
    result = report(path, "2026-03-28T00:00:00Z", "2026-03-28T01:00:00Z")
    was = first.body["adds"]["grams"]["AverageLifecycle"] / 1000
    words = "Late grid data changed the life-cycle emissions of the hours that had an intensity at first"
    assert f"{words} from {was:.1f} to {was - 0.5:.1f} kg." in result.output
    assert "came only later" not in result.output


def test_hours_that_were_priced_only_later_are_no_change_of_what_was_told_before(path: Path) -> None:
    first = zone_hour(0, priced=False)
    change = {**first.body, "revision": 1, "adds": {"grams": {"AverageDirect": 900.0}}}
    write(path, [first, Draft(kind=Kind.ACCOUNT, at=first.at, body=change)])
    result = report(path, "2026-03-28T00:00:00Z", "2026-03-28T01:00:00Z")
    assert "0.9 kg of direct emissions belong to hours whose intensity came only later." in result.output
    assert "Late grid data changed" not in result.output


def test_a_table_says_what_was_estimated_what_its_rows_leave_out_and_what_a_saving_does_not_say(path: Path) -> None:
    write(path, [*swinging(48), ran(0), ran(1)])
    result = report(path, "2026-03-28", "2026-03-30", "--by", "namespace")
    for words in (
        "GPU telemetry covers 0.0 % of the reserved GPU time.",
        "nodes' own meters 100.0 %",
        "; average life-cycle intensity)",
        # Two nights and two evenings of 3.2 kW idle, and their overhead.
        f"{24 * 3.2 * 1.2:,.1f} kWh are in no row",
        "nothing of what the grid would have emitted otherwise",
    ):
        assert words in result.output
    assert "in no row" not in report(path, "2026-03-28", "2026-03-30").output
