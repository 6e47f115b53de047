# SPDX-License-Identifier: Apache-2.0
"""Replays behind a site's own sun and wind: the grid supplies what they do not, and plans may count on them."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from two_priced_days import setup

from embellie.cli.replay import replay as command
from embellie.simulation.whatif.onsite import OnSite, Usual, noisy, perfect
from embellie.simulation.whatif.onsite_file import OnSiteHistory, behind, read_on_site
from embellie.simulation.whatif.outlook import Perfect
from embellie.simulation.whatif.page import page
from embellie.simulation.whatif.report import fields, lines
from embellie.simulation.whatif.study import POLICIES, How, Result, Setup, replay

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
SAMPLE = ["--sacct", "docs/samples/sacct.txt", "--carbon", "US-PJM", "--anchor", "2021-03-08T00:00Z"]


def sunny(case: Setup, peak_kw: float, *, wind_kw: float = 0.0) -> Setup:
    """Return a setup behind plants: sun from 8 to 16 o'clock, and wind in the other hours."""
    hour = np.arange(case.case.axis.n_slots) % 24
    day = (hour >= 8) & (hour < 16)
    kw = np.stack([np.where(day, peak_kw, 0.0), np.where(day, 0.0, wind_kw)])
    own = OnSite(plants_kw=kw, past_kw=kw[:, :0], plants_g=np.array([45.0, 11.0]))
    return replace(case, case=replace(case.case, on_site=own))


def run(policy: str, case: Setup, *, told: bool = True) -> Result:
    own = case.case.on_site
    outlook = perfect(case.case.axis, own) if own is not None and told else None
    return replay(How(policy=policy), case, Perfect(case.case.axis), outlook)


def second_by_second(result: Result, case: Setup) -> tuple[float, float]:
    """Return emissions [kg] and what is used of own power [kWh], reckoned from each second's power."""
    first, last = result.span
    site, work, own, axis = case.case.site, case.case.work, case.case.on_site, case.case.axis
    assert own is not None
    assert site.capacity_gpus is not None
    busy, kw = np.zeros(last - first), np.zeros(last - first)
    schedule = result.schedule
    for j, start, end in zip(schedule.job, schedule.start, schedule.end, strict=True):
        busy[start - first : end - first] += work.gpus[j]
        kw[start - first : end - first] += work.power_kw[j]
    draw = site.pue * (kw + (site.capacity_gpus - busy) * site.idle_kw_per_gpu)
    slot = np.arange(first, last) // axis.ticks_per_slot
    again = axis.n_slots - 24 + np.arange(10_000) % 24
    grid, sun, wind = (np.concatenate((row, row[again]))[slot] for row in (axis.values, *own.plants_kw))
    used = np.minimum(draw, sun + wind)
    sun_used = np.divide(used * sun, sun + wind, out=np.zeros(used.size), where=sun + wind > 0)
    grams = grid * (draw - used) + 45.0 * sun_used + 11.0 * (used - sun_used)
    return float(grams.sum()) / 3600.0 / 1000.0, float(used.sum()) / 3600.0


@pytest.mark.parametrize("policy", POLICIES)
def test_emissions_are_those_of_what_the_grid_supplies_second_by_second_and_above_the_bound(policy: str) -> None:
    jobs = [(0.3 + 1.7 * (i % 5), 1.0 + i % 4) for i in range(20)]
    for peak_kw, wind_kw in ((3.0, 0.0), (8.0, 2.0), (500.0, 500.0)):
        case = sunny(setup(*jobs, capacity=8.0, pausable=0.5), peak_kw, wind_kw=wind_kw)
        result = run(policy, case)
        carbon_kg, own_kwh = second_by_second(result, case)
        assert result.outcome.carbon_kg == pytest.approx(carbon_kg, rel=1e-9)
        assert result.outcome.own_kwh == pytest.approx(own_kwh, rel=1e-9)
        for found in (result.outcome.carbon_kg, result.fifo_outcome.carbon_kg):
            assert result.bound_carbon_kg <= found * (1 + 1e-9)
        assert result.outcome.finished == 20


def test_work_takes_the_sun_where_that_emits_less_and_the_bound_is_tight_where_it_takes_nothing_else() -> None:
    # One job of two hours that may pause, GPUs that draw nothing while they idle, and sun for half of its power.
    case = setup((2.0, 1.0), capacity=2.0)
    bare = replace(case, case=replace(case.case, site=replace(case.case.site, idle_kw_per_gpu=0.0)))
    half = 0.9 * 1.2 / 2.0
    result = run("embellie", sunny(bare, half))
    best_kg = 2.0 * 0.9 * 1.2 * 100.0 / 1000.0
    # Clean hours emit less than dirty ones that are half in the sun.
    assert result.outcome.carbon_kg == pytest.approx(best_kg)
    all_sun = run("embellie", sunny(bare, 2.0 * half))
    assert all_sun.outcome.carbon_kg == pytest.approx(2.0 * 0.9 * 1.2 * 45.0 / 1000.0)
    assert all_sun.bound_carbon_kg == pytest.approx(all_sun.outcome.carbon_kg, rel=0.01)


def test_only_embellie_is_told_of_own_power_and_moves_work_into_it() -> None:
    case = sunny(setup(*[(2.0, 2.0)] * 6, capacity=8.0, pausable=0.0), 8.0)
    told, blind = run("embellie", case), run("embellie", case, told=False)
    assert told.outcome.own_kwh > blind.outcome.own_kwh
    assert told.worth is not None
    assert told.outcome.carbon_kg < told.worth.blind_kg < told.worth.policy_kg
    assert told.worth.blind_kg == pytest.approx(second_by_second(replace(blind, span=told.span), case)[0])
    for policy in set(POLICIES) - {"embellie"}:
        both = [run(policy, case, told=knows).schedule for knows in (True, False)]
        assert both[0].start.tolist() == both[1].start.tolist(), policy


def test_sun_is_shared_and_not_counted_for_each() -> None:
    # Sun for one of four gangs beside what idles: the others are better off in the clean hours of the evening.
    case = setup(*[(6.0, 2.0)] * 4, capacity=8.0, pausable=0.0)
    for_one = 1.2 * (8 * 0.4 + 2 * 0.5)
    result = run("embellie", sunny(case, for_one))
    hours = np.sort(result.schedule.start / 3600.0 % 24)
    assert ((hours >= 8) & (hours <= 10)).sum() == 1
    assert ((hours >= 17) & (hours <= 18)).sum() == 3


@pytest.mark.parametrize("policy", POLICIES)
def test_plants_that_deliver_nothing_change_nothing(policy: str) -> None:
    case = setup((3.0, 2.0), (1.5, 4.0), (7.0, 4.0), capacity=8.0)
    without, dark = run(policy, case), run(policy, sunny(case, 0.0))
    assert dark.outcome.carbon_kg == pytest.approx(without.outcome.carbon_kg)
    assert dark.schedule.start.tolist() == without.schedule.start.tolist()
    assert dark.bound_carbon_kg == pytest.approx(without.bound_carbon_kg, rel=1e-3)


def test_where_idle_gpus_use_the_sun_up_as_much_can_be_saved_as_without() -> None:
    case = setup(*[(2.0 + i % 3, 2.0) for i in range(12)], capacity=64.0)
    without, idle = run("fifo", case), run("fifo", sunny(case, 64 * 0.4 * 1.2))
    most = [found.fifo_outcome.carbon_kg - found.bound_carbon_kg for found in (without, idle)]
    assert most[1] == pytest.approx(most[0], rel=0.01)


def test_without_plants_a_report_says_nothing_of_them_and_with_them_what_they_were_worth() -> None:
    case = setup((4.0, 2.0), (2.0, 1.0), capacity=8.0)
    plain = fields(run("embellie", case), 0.1)
    assert not [name for name in plain if "on_site" in name or "grid" in name]
    assert "sun" not in "\n".join(lines(plain))
    behind_plants = sunny(case, 8.0)
    result = run("embellie", behind_plants)
    found = fields(result, 0.1)
    assert found["grid_kwh"] + found["on_site_used_kwh"] == pytest.approx(found["energy_kwh"])
    assert found["carbon_kg"] <= found["carbon_blind_to_on_site_kg"] <= found["carbon_without_on_site_kg"]
    bare = run("fifo", case)
    hours = (result.span[1] - bare.span[1]) / 3600.0
    longer_kg = hours * 8 * 0.4 * 1.2 * float(np.mean(case.case.axis.values)) / 1000.0
    assert found["fifo_carbon_without_on_site_kg"] == pytest.approx(bare.outcome.carbon_kg + longer_kg, rel=0.3)
    text = "\n".join(lines(found))
    assert "own sun and wind" in text
    assert "planned for the grid alone" in text
    assert "The site's own sun and wind" in page(result, behind_plants, found)


# What policies are told.


def plants(values: list[float], *, past: int = 0) -> tuple[Setup, OnSite]:
    case = setup((1.0, 1.0), capacity=8.0)
    kw = np.array([values])
    return case, OnSite(plants_kw=kw[:, past:], past_kw=kw[:, :past], plants_g=np.array([45.0]))


def test_the_past_tells_the_usual_hours_scaled_by_the_last_day_and_nothing_of_what_comes() -> None:
    day = [0.0] * 6 + [10.0] * 12 + [0.0] * 6
    case, own = plants([*day * 14, *[x / 2 for x in day], *day * 10], past=15 * 24)
    told = Usual(case.case.axis, own).ahead(0, 48)
    usual = (13 * 10.0 + 5.0) / 14
    assert told[:6].tolist() == [0.0] * 6
    assert 5.0 < told[6] < told[17] < usual
    assert told[17] < told[30] < usual
    _, other = plants([*day * 14, *[x / 2 for x in day], *[77.0] * 240], past=15 * 24)
    assert Usual(case.case.axis, other).ahead(0, 48).tolist() == told.tolist()


def test_before_a_day_is_known_nothing_is_expected_of_the_plants() -> None:
    case, own = plants([5.0] * 240)
    assert Usual(case.case.axis, own).ahead(23, 24).tolist() == [0.0] * 24
    assert Usual(case.case.axis, own).ahead(24, 24).tolist() == pytest.approx([5.0] * 24)


def test_noise_is_a_share_of_what_is_delivered_never_below_0_and_drawn_by_its_seed() -> None:
    case, own = plants(([0.0] * 12 + [10.0] * 12) * 10)
    told = [noisy(case.case.axis, own, 0.5, seed).ahead(0, 240) for seed in (1, 1, 2)]
    assert told[0].tolist() == told[1].tolist() != told[2].tolist()
    assert np.all(told[0][own.kw == 0.0] == 0.0)
    assert told[0].min() >= 0.0
    assert float(np.std(told[0][own.kw > 0.0])) == pytest.approx(5.0, rel=0.25)


# What is read.


def table(folder: Path, *rows: str, header: str = "utc,solar_kw") -> Path:
    path = folder / "own.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def hourly(count: int, *values: str, begin: datetime = BEGIN) -> list[str]:
    return [f"{begin + timedelta(hours=i):%Y-%m-%dT%H:%MZ},{values[i % len(values)]}" for i in range(count)]


def test_columns_of_kw_are_added_up_and_may_be_chosen(tmp_path: Path) -> None:
    path = table(tmp_path, *hourly(3, "1.5,2", "0,4"), header="utc,pv_roof_kw,wind_kw")
    both = read_on_site(path)
    assert (both.columns, both.kinds, both.kw.tolist()) == (
        ("pv_roof_kw", "wind_kw"), ("Solar", "Wind"), [[1.5, 0.0, 1.5], [2.0, 4.0, 2.0]],
    )  # fmt: skip
    assert read_on_site(path, ["wind_kw"]).kw.tolist() == [[2.0, 4.0, 2.0]]


def test_an_inverter_that_takes_a_little_at_night_delivers_nothing_then(tmp_path: Path) -> None:
    assert read_on_site(table(tmp_path, *hourly(3, "-0.05", "10"))).kw.tolist() == [[0.0, 10.0, 0.0]]


@pytest.mark.parametrize(
    ("header", "rows", "told"),
    [
        ("utc,solar_kw", hourly(3, "1", ""), "line 3 of own.csv: solar_kw is '', no number (1 such rows)"),
        ("utc,solar_kw", hourly(3, "1", "nan"), "solar_kw is 'nan', no number"),
        ("utc,solar_kw", hourly(3, "1", "-1"), "line 3 of own.csv: solar_kw is -1 kW (1 such rows)"),
        ("utc,solar_kw", hourly(3, "0"), "column solar_kw of own.csv is never above 0 kW"),
        ("utc,solar_kw", [*hourly(3, "1"), *hourly(1, "1", begin=BEGIN + timedelta(hours=5))],
         "line 5 of own.csv: 2026-03-01 05:00 UTC comes 3:00:00 after the row before"),
        ("utc,solar_kw", [*hourly(4, "1"), *hourly(1, "1", begin=BEGIN)], "line 6 of own.csv: 2026-03-01 00:00"),
        ("utc,solar_kw", ["2026-03-01T00:00Z,1", "2026-03-01T03:00Z,1"], "own.csv has a row every 3:00:00"),
        ("utc,solar_kw", hourly(1, "1"), "own.csv holds no history"),
        ("utc,solar_mw", hourly(3, "1"), "column solar_mw of own.csv is not in kW: convert it, and call it solar_kw"),
        ("utc,solar_w", hourly(3, "1"), "column solar_w of own.csv is not in kW"),
        ("utc,solar", hourly(3, "1"), "own.csv needs columns in kW, called solar_kw or wind_kw"),
        ("utc,solar_kw,load_kw", hourly(3, "1,2"), "column load_kw of own.csv must say what it is"),
        ("solar_kw", ["1", "2", "3"], "own.csv has no column of times"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(tmp_path: Path, header: str, rows: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        read_on_site(table(tmp_path, *rows, header=header))


def history(kw: float, *, begin: datetime = BEGIN, hours: int = 480, step_min: int = 60) -> OnSiteHistory:
    count = hours * 60 // step_min
    return OnSiteHistory(
        file="own.csv",
        start=begin,
        step=timedelta(minutes=step_min),
        columns=("wind_kw",),
        kinds=("Wind",),
        kw=np.tile(kw * np.linspace(0.5, 1.0, 4), count // 4)[None],
    )


def dated(case: Setup) -> Setup:
    return replace(case, case=replace(case.case, axis=replace(case.case.axis, start=BEGIN)))


def test_a_finer_file_counts_with_the_mean_of_each_slot_and_what_came_before_is_its_past() -> None:
    case = dated(setup((1.0, 1.0), capacity=8.0))
    begin = BEGIN - timedelta(hours=30)
    found = behind(case, history(8.0, begin=begin, step_min=15), direct=False).case.on_site
    assert found is not None
    assert found.kw.tolist() == pytest.approx([6.0] * case.case.axis.n_slots)
    assert (found.past_kw.shape, found.plants_g.tolist()) == ((1, 30), [11.0])
    direct = behind(case, history(8.0), direct=True).case.on_site
    assert direct is not None
    assert direct.plants_g.tolist() == [0.0]


def test_a_file_that_does_not_reach_over_the_work_or_is_in_another_unit_is_refused() -> None:
    case = dated(setup((1.0, 1.0), capacity=8.0))
    with pytest.raises(ValueError, match=r"own.csv covers 2026-03-01 00:00 to 2026-03-01 12:00 UTC, and the work may"):
        behind(case, history(8.0, hours=12), direct=False)
    with pytest.raises(ValueError, match=r"run from 2026-03-01 00:00 to 2026-03-02 01:00"):
        behind(case, history(8.0, begin=BEGIN + timedelta(hours=1)), direct=False)
    with pytest.raises(ValueError, match=r"wind_kw of own.csv: 8,000 kW at its peak, .* is it in W\? It must be in kW"):
        behind(case, history(8000.0), direct=False)
    with pytest.raises(ValueError, match=r"is it in MW"):
        behind(case, history(0.008), direct=False)


def test_work_that_draws_less_than_idle_gpus_is_refused_for_its_bound_would_be_none() -> None:
    """The bound was up to 9 % above what first come, first served emitted."""
    case = dated(setup((20.0, 4.0), capacity=8.0))
    work = case.case.work
    for kw, refused in ((1.6, False), (1.5, True)):
        drawn = replace(case, case=replace(case.case, work=replace(work, power_kw=np.full(1, kw))))
        if refused:
            with pytest.raises(ValueError, match=r"job j0 draws 1.5 kW, and its 4 GPUs 1.6 kW without work"):
                behind(drawn, history(8.0), direct=False)
        else:
            assert behind(drawn, history(8.0), direct=False).case.on_site is not None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--on-site", "{own}"], "--on-site needs --capacity"),
        (["--on-site-column", "solar_kw", "--capacity", "128"], "--on-site-column names columns of a file"),
        (["--on-site", "{own}", "--capacity", "128", "--on-site-column", "sun"], "own.csv has no column 'sun'"),
        (["--on-site", "{own}", "--capacity", "128"], "own.csv covers 2026-03-01"),
        (["--on-site", "nowhere.csv", "--capacity", "128"], "--on-site"),
    ],
)  # fmt: skip
def test_an_option_that_does_not_fit_is_named(tmp_path: Path, options: list[str], told: str) -> None:
    path = table(tmp_path, *hourly(48, "0", "60"))
    found = CliRunner().invoke(command, [*SAMPLE, *[text.format(own=path) for text in options]])
    assert found.exit_code != 0
    assert told in found.output


@pytest.mark.parametrize("forecast", ["perfect", "noise:0.2", "model"])
def test_the_command_tells_what_own_power_would_have_been_worth(tmp_path: Path, forecast: str) -> None:
    begin = datetime(2021, 2, 20, tzinfo=UTC)
    hours = [f"{60.0 * max(0.0, np.sin(np.pi * ((h - 6) % 24) / 12.0)):.1f}" for h in range(24)]
    path = table(tmp_path, *hourly(24 * 40, *hours, begin=begin))
    out = tmp_path / "out.json"
    args = ["--capacity", "128", "--until", "2021-03-10T00:00Z", "--forecast", forecast, "--json", str(out)]
    done = CliRunner().invoke(command, [*SAMPLE, "--on-site", str(path), *args])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert 0.0 < found["on_site_used_kwh"] <= found["on_site_kwh"]
    assert found["carbon_kg"] < found["carbon_without_on_site_kg"]
    assert found["fifo"]["carbon_kg"] < found["fifo_carbon_without_on_site_kg"]
    assert found["bound_carbon_kg"] <= found["carbon_kg"]
