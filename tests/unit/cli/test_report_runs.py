# SPDX-License-Identifier: Apache-2.0
"""Which work a report's counterfactual replays: all that held GPUs, whoever saw it begin or end, and nothing else."""

import csv
import io
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ledgers import HOUR, T0, ran, report, run, swinging, write, zone_hour

from embellie.cli.reporting.text import savings_lines
from embellie.ledger import Draft, Kind, Ledger, compact

DAY = timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def document(path: Path, first: str, last: str, *more: str) -> dict[str, Any]:
    result = report(path, first, last, "--format", "json", *more)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def two_nodes(drafts: list[Draft]) -> list[Draft]:
    """The same accounts of a cluster with two nodes: room for two gangs."""
    for draft in drafts:
        draft.body["cells"][0]["nodes"] = 2  # type: ignore[index]
    return drafts


def decision(uid: str, at: datetime, state: str = "Held", *, bound: timedelta = timedelta(hours=12)) -> Draft:
    body = {
        "workload": {"namespace": "ml", "kind": "Job", "name": "wish", "uid": uid, "gpus": 8},
        "state": state,
        "reason": "CleanerWindow",
        "choice": {"cell": "west", "zone": "west", "plannedStart": at + HOUR, "latestStart": at + bound},
        "expects": {"submitted": at, "durationP50S": 7200.0, "addedKw": 3.6, "gpusPerPod": 8},
        "overriddenBy": "ada" if state == "Released" else None,
    }
    return Draft(kind=Kind.DECISION, at=at, body=body)


def test_a_run_of_weeks_holds_its_gpus_in_the_counterfactual_too(path: Path) -> None:
    """One node is taken by a run that began twelve days before the period: work that comes must wait for the other."""
    hours = two_nodes(swinging(15 * 24))
    old = ran(
        0, uid="old", flex="rigid", submitted=T0, start=T0, end=T0 + 20 * DAY, latestStart=None, running=False,
    )  # fmt: skip
    first = ran(12, uid="first", submitted=T0 + 12 * DAY, start=T0 + 12 * DAY, end=T0 + 12 * DAY + 6 * HOUR)
    second = ran(12, uid="second", submitted=T0 + 12 * DAY, start=T0 + 12 * DAY + 6 * HOUR, end=T0 + 13 * DAY)
    write(path, [*hours, first, second, old])
    found = document(path, "2026-04-09", "2026-04-10")["cluster"]["saving"]
    # Without the old run the second would have started at midnight, in six dirty hours.
    claimed = 6 * 3.6 * 1.2 * (600 - 200) / 1000
    assert found["savedKg"]["value"] < 0.3 * claimed
    assert found["gpuHoursDelayed"] < 1


def test_a_run_whose_end_nobody_saw_ended_with_the_last_account_that_names_it(path: Path) -> None:
    hours = swinging(72)
    # Day 0's work ran from 6:00 to 18:00 by the accounts; its leader died before it could write the end.
    unseen = ran(0, end=T0 + 6 * HOUR, running=True)
    write(path, [*hours, unseen, ran(1), ran(2)])
    found = document(path, "2026-03-28", "2026-03-31")["cluster"]["saving"]
    assert found["owedKwh"] == pytest.approx(0.0, abs=1.0)
    expected = 3 * 6 * 3.6 * 1.2 * (600 - 200) / 1000
    assert found["savedKg"]["value"] == pytest.approx(expected, rel=0.15)


def test_a_run_that_accounts_still_name_goes_on_about_as_long_again(path: Path) -> None:
    write(path, [*swinging(14), ran(0, start=T0 + 6 * HOUR, end=T0 + 6 * HOUR, running=True)])
    found = document(path, "2026-03-28T00:00:00Z", "2026-03-28T14:00:00Z")["cluster"]["saving"]
    # 8 hours ran, the whole takes 8/u hours, u anything from 0.2 to 1. First come first served began six hours before:
    # owed are 8/u - 8 hours, at most 6; on the mean (6 * (8/14 - 0.2) + 8 * (ln(14/8) - 6/14)) / 0.8 = 4.10.
    assert found["owedKwh"] == pytest.approx(4.10 * 3.6 * 1.2, rel=0.2)


def test_work_that_was_deleted_while_it_waited_is_in_neither_schedule(path: Path) -> None:
    held = decision("gone", T0 + HOUR)
    after = decision("gone", T0 + 2 * HOUR, "Deleted")
    write(path, [*swinging(24), ran(0), held, after])
    apart = document(path, "2026-03-28", "2026-03-29")["cluster"]["saving"]
    assert apart["owedKwh"] == pytest.approx(0.0, abs=0.5)


def test_work_that_waits_beyond_the_period_is_owed_until_nothing_can_hold_it_any_more(path: Path) -> None:
    write(path, [*swinging(120), ran(0), ran(4), decision("waits", T0 + 20 * HOUR)])
    now = document(path, "2026-03-28", "2026-03-29")["cluster"]["saving"]
    assert now["owedKwh"] == pytest.approx(2 * 3.6 * 1.2, rel=0.1)
    # Three days later nobody has heard of it, and no hold lasts so long.
    later = document(path, "2026-04-01", "2026-04-02")["cluster"]["saving"]
    assert later["owedKwh"] == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("state", ["Released", "Shadow"])
def test_work_that_was_let_go_and_waits_for_gpus_is_owed_too(path: Path, state: str) -> None:
    after = decision("waits", T0 + 21 * HOUR, state)
    del after.body["expects"]  # type: ignore[attr-defined]
    write(path, [*swinging(24), ran(0), decision("waits", T0 + 20 * HOUR), after])
    now = document(path, "2026-03-28", "2026-03-29")["cluster"]["saving"]
    # First come, first served it would have run in the period, in the evening.
    assert now["owedKwh"] == pytest.approx(2 * 3.6 * 1.2, rel=0.1)


def test_of_work_that_still_waits_the_length_is_only_told(path: Path) -> None:
    write(path, [*swinging(24), decision("waits", T0 + 20 * HOUR)])
    found = document(path, "2026-03-28", "2026-03-29")["cluster"]["saving"]["savedKg"]
    # Two hours at 200 g/kWh are owed at the mean of 300; power and intensity alone make a tenth of it uncertain.
    assert found["value"] == pytest.approx(-2 * 3.6 * 1.2 * 0.1, rel=0.2)
    assert found["high"] - found["low"] > 0.6 * abs(found["value"])


def test_work_that_was_let_go_a_day_ago_and_of_which_no_run_is_known_waits_no_more(path: Path) -> None:
    after = decision("ran unseen", T0 + 21 * HOUR, "Released")
    write(path, [*swinging(72), ran(0), ran(1), decision("ran unseen", T0 + 20 * HOUR), after])
    for first, last in (("2026-03-28", "2026-03-29"), ("2026-03-28", "2026-03-30")):
        # Of either period: the ledger, or the period itself, went on for a day without it.
        assert document(path, first, last)["cluster"]["saving"]["owedKwh"] == pytest.approx(0.0, abs=0.5)


def test_a_report_made_later_says_of_an_old_period_what_became_of_work_that_still_waited(path: Path) -> None:
    waits = decision("late", T0 + 20 * HOUR)
    write(path, [*swinging(24), ran(0), waits])
    then = document(path, "2026-03-28", "2026-03-29")["cluster"]["saving"]
    ended = ran(
        1, uid="late", submitted=T0 + 20 * HOUR, start=T0 + 30 * HOUR, end=T0 + 32 * HOUR, latestStart=T0 + 32 * HOUR
    )
    write(path, [*swinging(48)[24:], ended])
    later = document(path, "2026-03-28", "2026-03-29")["cluster"]["saving"]
    assert later["owedKwh"] == pytest.approx(then["owedKwh"], rel=0.1)
    assert later["savedKg"]["value"] == pytest.approx(then["savedKg"]["value"], rel=0.1)


def test_gpu_hours_of_delay_of_two_days_add_up_to_those_of_both(path: Path) -> None:
    write(path, [*swinging(96), *(ran(day) for day in range(4))])
    whole = document(path, "2026-03-29", "2026-03-31")["cluster"]["saving"]["gpuHoursDelayed"]
    parts = [
        document(path, f"2026-03-{day}", f"2026-03-{day + 1}")["cluster"]["saving"]["gpuHoursDelayed"]
        for day in (29, 30)
    ]
    assert whole == pytest.approx(sum(parts))
    assert whole == pytest.approx(2 * 6 * 8)


def test_the_delay_imposed_stands_in_every_row_and_the_gpu_hours_lost_beside_every_saving(path: Path) -> None:
    hours = [zone_hour(k, g=600.0 if k % 24 < 6 else 200.0, team="vision") for k in range(48)]
    write(path, [*hours, ran(0), ran(1)])
    for by in ("cluster", "zone", "namespace", "team"):
        (row,) = document(path, "2026-03-28", "2026-03-30", "--by", by)["rows"]
        assert row["delay"]["meanHours"] == pytest.approx(6), by
    table = report(path, "2026-03-28", "2026-03-30", "--by", "zone").output
    assert "GPU-h lost" in table
    (line,) = csv.DictReader(io.StringIO(report(path, "2026-03-28", "2026-03-30", "--format", "csv").output))
    assert float(line["gpu_hours_lost"]) == pytest.approx(0.0, abs=0.1)
    assert line["saved_kg"]


def test_an_override_counts_once_however_often_it_is_told(path: Path) -> None:
    told = [decision("u0", T0 + k * HOUR, "Released") for k in (1, 2, 3)]
    write(path, [*swinging(24), ran(0), *told])
    assert document(path, "2026-03-28", "2026-03-29")["ledger"]["overrides"] == 1


def test_what_was_revised_after_its_interval_was_compacted_is_still_in_the_sums(path: Path) -> None:
    with Ledger(path, leader="a", version="1") as ledger:
        ledger.append(swinging(24))
        compact(ledger, T0 + 26 * HOUR, T0 + 26 * HOUR)
        first = zone_hour(3)
        change = {"grams": {"AverageLifecycle": -500.0}, "workloads": {}}
        late = {**first.body, "revision": 1, "adds": change}
        ledger.append([Draft(kind=Kind.ACCOUNT, at=T0 + 27 * HOUR, body=late), *swinging(48)[24:]])
    found = document(path, "2026-03-28", "2026-03-30")
    kwh = (12 * 6.8 + 12 * 3.2) * 1.2
    assert found["cluster"]["energyKwh"]["total"] == pytest.approx(2 * kwh)
    grams = sum((600 if k % 24 < 6 else 200) * (6.8 if 6 <= k % 24 < 18 else 3.2) * 1.2 for k in range(48))
    assert found["cluster"]["emissionsKg"]["AverageLifecycle"] == pytest.approx((grams - 500) / 1000)


def test_days_that_were_compacted_still_tell_by_which_method_they_were_accounted(path: Path) -> None:
    write(path, swinging(48))
    with Ledger(path, leader="a", version="1") as ledger:
        compact(ledger, T0 + 3 * DAY, T0 + 3 * DAY)
    assert document(path, "2026-03-28", "2026-03-30")["method"]["accounts"] == "embellie-account/4"


def test_names_with_line_breaks_and_terminal_codes_stay_on_their_line(path: Path) -> None:
    write(path, [zone_hour(k, namespace='a"\n\x1b[2Jb') for k in range(24)])
    table = report(path, "2026-03-28", "2026-03-29", "--by", "namespace").output
    assert "\x1b" not in table
    assert any(line.startswith('a"\N{REPLACEMENT CHARACTER}') for line in table.splitlines())


def test_no_saving_is_claimed_for_a_period_of_which_too_little_is_accounted(path: Path) -> None:
    write(path, [*swinging(24), ran(0)])
    assert document(path, "2026-03-28", "2026-03-29")["cluster"]["saving"] is not None
    row = document(path, "2026-03-28", "2026-03-31")["cluster"]
    assert row["saving"] is None
    assert "accounts cover 33.3 % of the hours" in row["refused"]["saving"]
    for by in ("zone", "namespace"):
        told = report(path, "2026-03-28", "2026-03-31", "--by", by).output
        assert "Refused: saving of cluster: accounts cover 33.3 % of the hours" in told


def test_zones_that_end_with_the_ledger_were_not_renamed(path: Path) -> None:
    write(path, [zone_hour(k, zone=zone) for k in range(24) for zone in ("east", "west")])
    assert "--rename" not in report(path, "2026-03-28", "2026-03-30").output


def test_what_is_missing_is_told_and_not_made_up(path: Path) -> None:
    write(path, [zone_hour(k) for k in range(48) if k != 30])
    result = report(path, "2026-03-28", "2026-03-30")
    assert "Figures are sums over the 47.0 zone-hours that have accounts" in result.output
    assert "Refused: energy" not in result.output


def test_a_card_is_refused_where_its_hours_or_intensities_are_not_known(path: Path, tmp_path: Path) -> None:
    write(path, [zone_hour(k, priced=k > 8) for k in range(24)])
    half = run("card", "job/train", "-n", "ml", "--ledger", str(path))
    assert half.exit_code == 1
    assert "the carbon intensity is known for 75.0 % of the energy of ml/job/train; 95 % are needed" in half.output
    holed = tmp_path / "holed.sqlite"
    write(holed, [*(zone_hour(k) for k in range(24) if not 9 <= k < 12), ran(0)])
    result = run("card", "job/train", "-n", "ml", "--ledger", str(holed))
    assert result.exit_code == 1
    assert "accounts cover 75.0 % of the hours in which ml/job/train ran" in result.output


def test_a_card_of_work_that_still_runs_says_so(path: Path) -> None:
    write(path, [*(zone_hour(k) for k in range(14)), ran(0, end=T0 + 6 * HOUR, running=True)])
    result = run("card", "job/train", "-n", "ml", "--ledger", str(path))
    assert "It still runs: this is what it came to until 2026-03-28 14:00 UTC." in result.output


def test_work_that_ran_before_its_zone_was_renamed_is_compared_like_the_other(path: Path) -> None:
    hours = [zone_hour(k, zone="west" if k < 48 else "west-1", g=600.0 if k % 24 < 6 else 200.0) for k in range(96)]
    names = ["west", "west", "west-1", "west-1"]
    write(path, [*hours, *(ran(day, cell=names[day], cells=[names[day]]) for day in range(4))])
    joined = document(path, "2026-03-28", "2026-04-01", "--rename", "west=west-1")["cluster"]
    assert joined["delay"]["workloads"] == 4
    assert joined["saving"]["naiveKg"] == pytest.approx(4 * 6 * 3.6 * 1.2 * (600 - 200) / 1000, rel=0.01)
    assert joined["coveragePercent"]["accounts"] == pytest.approx(100)


def test_a_period_before_its_zone_was_renamed_says_the_same_under_the_new_name(path: Path) -> None:
    hours = [zone_hour(k, zone="west", g=600.0 if k % 24 < 6 else 200.0) for k in range(48)]
    write(path, [*hours, *(ran(day, cell="west", cells=["west"]) for day in range(2))])
    old = document(path, "2026-03-28", "2026-03-30")["cluster"]
    new = document(path, "2026-03-28", "2026-03-30", "--rename", "west=west-1")["cluster"]
    assert (new["saving"]["savedKg"], new["delay"]) == (old["saving"]["savedKg"], old["delay"])


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        ("west=east", "east and west both have accounts of 2026-03-28 00:00 UTC: they are two zones"),
        ("wets=east", "no account is of a zone wets; known: east, west"),
    ],
)
def test_two_zones_cannot_be_joined_into_one_and_a_mistyped_name_is_told(path: Path, renamed: str, words: str) -> None:
    """Their hours would count twice, and the work of both would be replayed on the nodes of one."""
    write(path, [zone_hour(k, zone=zone) for k in range(24) for zone in ("east", "west")])
    result = report(path, "2026-03-28", "2026-03-29", "--rename", renamed)
    assert result.exit_code == 1
    assert words in result.output


def test_days_are_told_in_the_time_zone_that_was_asked_for(path: Path) -> None:
    write(path, swinging(72))
    for form in ("table", "html"):
        text = report(path, "2026-03-29", "2026-03-30", "--tz", "Europe/Paris", "--format", form).output
        assert "From 2026-03-29 00:00 to 2026-03-30 00:00, Europe/Paris (23.0 hours)" in text
    assert "<h1>Energy and emissions, 2026-03-29 to 2026-03-30</h1>" in text


def test_what_is_refused_of_many_rows_for_one_reason_is_said_once(path: Path) -> None:
    write(path, [zone_hour(k, namespace=f"n{k % 12}") for k in range(24)])
    told = report(path, "2026-03-28", "2026-03-30", "--by", "namespace").output
    lines = [line for line in told.splitlines() if line.startswith("Refused: energy")]
    assert len(lines) == 1
    assert lines[0].startswith("Refused: energy of n0, n1, n10 and 9 more rows: accounts cover 50.0 % of the hours")


@pytest.mark.parametrize(
    ("clean", "dirty", "words"),
    [
        (200.0, 600.0, "\nSaved 2"),
        (600.0, 200.0, "\nNothing was saved: it emitted 2"),
        (400.0, 400.0, "Saved about zero"),
    ],
)
def test_a_verdict_never_calls_a_number_a_saving_whose_sign_nobody_knows(
    path: Path, clean: float, dirty: float, words: str
) -> None:
    write(path, [*(zone_hour(k, g=dirty if k % 24 < 6 else clean) for k in range(48)), ran(0), ran(1)])
    told = report(path, "2026-03-28", "2026-03-30").output
    assert words in told
    if "zero" in words:
        assert "holds zero, so that nobody can tell a saving from a loss" in told


def test_work_that_waits_over_the_edge_of_two_periods_is_charged_to_one_of_them(path: Path) -> None:
    """The grid is even, so that waiting neither saves nor costs, in no period."""
    came = T0 + 12 * HOUR
    waited = ran(0, submitted=came, start=came + 12 * HOUR, end=came + 24 * HOUR, latestStart=came + 14 * HOUR)
    write(path, [*(zone_hour(k) for k in range(96)), waited])
    first, then, both = (
        document(path, *days)["cluster"]["saving"]
        for days in (("2026-03-28", "2026-03-29"), ("2026-03-29", "2026-03-30"), ("2026-03-28", "2026-03-30"))
    )
    assert first["owedKwh"] == pytest.approx(12 * 3.6 * 1.2, rel=0.1)
    assert then["broughtKwh"] == pytest.approx(12 * 3.6 * 1.2, rel=0.1)
    assert both["owedKwh"] == both["broughtKwh"] == pytest.approx(0.0, abs=0.5)
    for one in (first, then, both):
        assert one["verdict"] == "about zero"
        assert one["savedKg"]["value"] == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize(
    ("kg", "words"),
    [
        (30.0, "will emit 30.0 kg more than what first come, first served would have left (-20 kWh over all zones)"),
        (-30.0, "will emit 30.0 kg less than what first come, first served would have left (-20 kWh over all zones)"),
    ],
)
def test_less_energy_that_is_owed_in_a_dirtier_zone_is_more_emissions(path: Path, kg: float, words: str) -> None:
    write(path, [*swinging(72), ran(0), ran(1), ran(2)])
    cluster = document(path, "2026-03-28", "2026-03-31")["cluster"]
    cluster["saving"] |= {"owedKwh": -20.0, "owedKg": {"clean": kg - 40.0, "dirty": 40.0}}
    assert words in " ".join(savings_lines(cluster))


def test_an_export_gives_the_same_report_and_card_as_its_ledger(path: Path, tmp_path: Path) -> None:
    write(path, [*swinging(48), ran(0), ran(1)])
    export = tmp_path / "ledger.jsonl"
    assert run("ledger", "export", "--ledger", str(path), "--out", str(export)).exit_code == 0
    told = report(path, "2026-03-28", "2026-03-30")
    assert told.exit_code == 0
    assert report(export, "2026-03-28", "2026-03-30").output == told.output
    card = ("card", "job/train", "-n", "ml", "--uid", "u0", "--ledger")
    assert run(*card, str(export)).output == run(*card, str(path)).output
    twice = tmp_path / "twice.jsonl"
    twice.write_text(2 * export.read_text())
    assert "several exports in one file" in report(twice, "2026-03-28", "2026-03-30").output
    export.write_text(export.read_text().replace("u0", "u9", 1))
    assert "was changed after it was written" in report(export, "2026-03-28", "2026-03-30").output
