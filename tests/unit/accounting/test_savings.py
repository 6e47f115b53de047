# SPDX-License-Identifier: Apache-2.0
"""Savings that a person can recompute: the worked example of docs/method.md, and what must hold for all."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embellie.accounting import Run, Signal, footprint, interval
from embellie.accounting.allocation import GangUse, NodeEnergy, allocate
from embellie.accounting.draws import Draws, Uncertainty, Window, intensities
from embellie.accounting.embodied import hardware_for
from embellie.accounting.naive import naive_sum, why_they_differ
from embellie.accounting.ranges import Range, range_of
from embellie.accounting.savings import METHOD as SAVINGS_METHOD
from embellie.accounting.savings import Savings, savings
from embellie.domain.reasons import SignalKind
from embellie.simulation import SimCell, SimGridZone, SimSite
from embellie.simulation.counterfactual import Observed, replay_counterfactual
from embellie_testbed.paths import REPOSITORY

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CERTAIN = Uncertainty(duration=0.0, job_power=0.0, power_elsewhere=0.0, common_power=0.0, intensity=0.0)
PAGE = REPOSITORY / "docs" / "method.md"


def series(*values: float, kind: SignalKind = SignalKind.AVERAGE_LIFECYCLE) -> Signal:
    return Signal(start=T0, step=HOUR, values=np.array(values), kind=kind)


def ran(job: str, submitted: float, start: float, hours: float, *, held: bool = False, kw: float = 3.0) -> Run:
    return Run(
        job=job, zone="west", submitted_at=T0 + submitted * HOUR, start=T0 + start * HOUR,
        end=T0 + (start + hours) * HOUR, gpus=8, power_kw=kw, latest_start=T0 + 6 * HOUR if held else None,
    )  # fmt: skip


def saved(
    runs: list[Run], signal: Signal, slots: int, *, uncertainty: Uncertainty = CERTAIN, nodes: int = 1, draws: int = 5
) -> Savings:
    site = SimSite(
        cells=(SimCell(name="west", grid_zone="west", nodes=nodes, pue=1.2),),
        grid_zones=(SimGridZone(name="west", signal=signal),),
    )
    window = Window(start=T0, step=HOUR, slots=slots)
    seen = [Observed(run=run, cell="west", gpus_per_pod=8) for run in runs]
    replayed = replay_counterfactual(seen, site, window, uncertainty=uncertainty, draws=draws)
    ci = intensities({"west": signal}, site.zone_powers(), window)
    return savings(replayed.draws, ci, signal.kind, uncertainty=uncertainty)


def test_the_page_names_the_methods_that_the_code_writes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for method in (interval.METHOD, SAVINGS_METHOD, footprint.METHOD):
        assert f"**{method}**" in text


EXAMPLE = [ran("a", 0, 2, 2, held=True), ran("b", 1, 1, 1)]
PRICES = series(600, 600, 200, 200)


def numbers_in(section: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    return text.split(f"## {section}", 1)[1].split("\n## ", 1)[0]


def test_the_worked_example_of_a_saving_comes_out_as_the_page_says() -> None:
    page = numbers_in("Worked example: a saving")
    found = saved(EXAMPLE, PRICES, 4)
    naive = naive_sum(EXAMPLE, {"west": 1.2}, {"west": PRICES})
    assert found.saved_g.value == pytest.approx(1440)
    assert naive == pytest.approx(2880)
    assert found.shifted_kwh.value == pytest.approx(3.6)
    assert "5040 - 3600 = **1440 g**" in page
    assert "**2880 g**" in page
    assert found.peak_change_kw["west"].value == pytest.approx(0.0, abs=1e-9)
    assert "empty for every job" in why_they_differ(found, naive)


def test_the_worked_example_of_an_allocation_comes_out_as_the_page_says() -> None:
    page = numbers_in("Worked example: one hour of one node")
    use = GangUse(gang="a", gpu_seconds=4 * 3600.0, gpu_kwh=2.56)
    node = NodeEnergy(name="n", seconds=3600.0, gpus=8, idle_w=3200.0, gpu_idle_w=140.0, kwh=5.3, uses=(use,))
    found = allocate([node], overhead_kwh=1.06, meter_kwh=6.4)
    job = found.gangs["a"]
    said = {
        "dynamic": job.dynamic_kwh,
        "reserved idle": job.idle_kwh,
        "overhead of the job": job.overhead_kwh,
        "unreserved idle": found.idle.it_kwh,
        "overhead of the unreserved idle": found.idle.overhead_kwh,
        "unexplained": found.unexplained_kwh,
    }
    for name, value in said.items():
        assert f"| {name} | {value:.2f} kWh |" in page, name
    assert sum(round(value, 2) for value in said.values()) == pytest.approx(6.4), "the page's own numbers add up"
    assert f"{job.kwh:.2f} kWh x 400 g/kWh = {400 * job.kwh:.0f} g" in page
    rate = hardware_for("H100").g_per_gpu_hour
    assert f"{rate:.2f} g" in page
    assert f"{4 * rate:.1f} g" in page


def test_without_waiting_nothing_is_saved() -> None:
    found = saved([ran("a", 0, 0, 2), ran("b", 0, 2, 1)], PRICES, 4)
    assert found.saved_g.value == pytest.approx(0.0, abs=1e-9)
    assert found.verdict == "about zero"


def test_a_saving_that_went_wrong_is_negative_and_stays_so() -> None:
    found = saved([ran("a", 0, 2, 2, held=True)], series(200, 200, 600, 600), 4)
    assert found.saved_g.value == pytest.approx(-2 * 3.6 * 400)
    assert found.verdict == "more than without"


def test_on_a_saturated_cluster_letting_another_job_go_first_saves_about_nothing() -> None:
    queue = [ran(str(k), 0, k, 1, held=True) for k in (1, 2, 3, 4, 5, 0)]
    found = saved(queue, series(600, 500, 400, 300, 200, 100), 6)
    assert found.saved_g.value == pytest.approx(0.0, abs=1e-6)
    assert naive_sum(queue, {"west": 1.2}, {"west": series(*([600, 500, 400, 300, 200, 100] * 2))}) > 1000


def test_work_that_waits_beyond_the_window_is_owed_and_not_saved() -> None:
    found = saved([ran("a", 0, 4, 2, held=True)], series(400, 400, 400, 400), 4)
    assert found.owed_kwh == pytest.approx(7.2)
    assert found.saved_g.value == pytest.approx(0.0, abs=1e-6)


def test_what_is_owed_is_priced_by_the_last_24_hours_though_the_last_day_has_just_begun() -> None:
    # 26 hours from midnight: the last UTC day is two clean hours long. 7.2 kWh would have met 600 g/kWh; they are owed
    # at 600 in 22 and 200 in 2 of the last 24 hours.
    found = saved([ran("a", 0, 26, 2, held=True)], series(*[600.0] * 24, 200.0, 200.0), 26)
    assert found.saved_g.value == pytest.approx(7.2 * (600 - (22 * 600 + 2 * 200) / 24))


def unfinished(so_far_s: float, until: float, signal: Signal, *, waited: float = 0.0) -> tuple[Savings, Draws]:
    """A job that came at midnight and whose end nobody saw by the end of six hours."""
    site = SimSite(
        cells=(SimCell(name="west", grid_zone="west", nodes=1, pue=1.2),),
        grid_zones=(SimGridZone(name="west", signal=signal),),
    )
    window = Window(start=T0, step=HOUR, slots=6)
    one = Observed(run=ran("a", 0, waited, until - waited, held=True), cell="west", gpus_per_pod=8, so_far_s=so_far_s)
    told = replace(CERTAIN, told_duration=0.3)
    draws = replay_counterfactual([one], site, window, uncertainty=told, draws=400).draws
    return savings(draws, intensities({"west": signal}, site.zone_powers(), window), signal.kind), draws


def test_work_whose_end_nobody_saw_goes_on_as_long_in_both_schedules() -> None:
    # It waited for nothing: however long it runs, nothing is saved and nothing owed.
    found, draws = unfinished(6 * 3600, 12, series(*[400.0] * 6))
    assert np.abs(draws.owed).max() < 1e-6
    assert found.saved_kwh.value == pytest.approx(0.0, abs=1e-6)


def test_how_long_work_goes_on_that_still_runs_is_between_nothing_and_four_times_what_it_has_run() -> None:
    # It waited four hours and has run two: what goes on for more than four hours longer is owed in full.
    _, draws = unfinished(2 * 3600, 8, series(*[400.0] * 6), waited=4)
    hours = draws.owed[:, 0] / 3.6
    assert hours.min() >= -1e-6
    assert hours.max() == pytest.approx(4.0)
    # The whole is 2/u hours, u from 0.2 to 1: four more or longer where u < 1/3.
    assert float(np.mean(hours > 4 - 1e-6)) == pytest.approx((1 / 3 - 0.2) / 0.8, abs=0.05)


def test_how_long_work_takes_that_still_waits_is_only_told() -> None:
    # First come, first served it would have run in the window: all that it takes is owed.
    _, draws = unfinished(0.0, 8, series(*[400.0] * 6), waited=6)
    hours = draws.owed[:, 0] / 3.6
    assert float(np.median(hours)) == pytest.approx(2.0, rel=0.05)
    assert float(np.log(hours / 2.0).std()) == pytest.approx(0.3, rel=0.1)


def test_of_work_that_begins_after_the_window_only_its_run_is_owed() -> None:
    found = saved([ran("a", 0, 7, 2, held=True)], series(400, 400, 400, 400), 4)
    assert found.owed_kwh == pytest.approx(7.2)


def test_an_hour_before_the_grid_s_series_is_not_known() -> None:
    window = Window(start=T0 - HOUR, step=HOUR, slots=3)
    site = SimSite(
        cells=(SimCell(name="west", grid_zone="west", nodes=1),), grid_zones=(SimGridZone(name="west", signal=PRICES),)
    )
    found = intensities({"west": PRICES}, site.zone_powers(), window)
    assert np.isnan(found[0, 0])
    assert found[0, 1:].tolist() == [600, 600]


def test_the_sum_over_jobs_counts_only_work_that_may_wait() -> None:
    rigid = [ran("a", 0, 2, 2), ran("b", 1, 1, 1)]
    assert naive_sum(rigid, {"west": 1.2}, {"west": PRICES}) == 0.0


def test_zones_are_wrong_about_their_intensity_each_for_itself() -> None:
    """What one zone saves the other pays: with one error for both nothing would be uncertain."""
    window = Window(start=T0, step=HOUR, slots=24)
    ours, fifo = np.zeros((200, 2, 24)), np.zeros((200, 2, 24))
    ours[:, 0], fifo[:, 1] = 1.0, 1.0
    draws = Draws(window=window, zones=("a", "b"), ours=ours, fifo=fifo, owed=np.zeros((200, 2)))
    found = savings(draws, np.full((2, 24), 100.0), PRICES.kind, uncertainty=replace(CERTAIN, intensity=0.05))
    spread = 2 * 1.645 * 2400 * 0.05 * 2**0.5
    assert found.saved_g.high - found.saved_g.low == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize(
    ("owed", "grams"),
    [
        ((10.0, 10.0), -10 * 100 - 10 * 300),  # as dirty as it is
        ((-30.0, 30.0), -30 * (300 - 100)),  # to a dirtier zone: paid for at once
        ((30.0, -30.0), 0.0),  # to a cleaner zone: a saving of the period in which it runs
        ((50.0, -30.0), -20 * 200.0),  # net, at the mean of the zones
        ((-10.0, -10.0), 10 * 100 + 10 * 300),  # less left to do than first come first served
    ],
)
def test_that_work_will_run_in_a_cleaner_zone_is_no_saving_before_it_has(
    owed: tuple[float, float], grams: float
) -> None:
    window = Window(start=T0, step=HOUR, slots=24)
    same = np.ones((20, 2, 24))
    draws = Draws(window=window, zones=("clean", "dirty"), ours=same, fifo=same, owed=np.tile(owed, (20, 1)))
    ci = np.stack([np.full(24, 100.0), np.full(24, 300.0)])
    found = savings(draws, ci, PRICES.kind, prices=ci / 1000.0, uncertainty=CERTAIN)
    assert found.saved_g.value == pytest.approx(grams)
    assert sum(zone.saved_g.value for zone in found.by_zone.values()) == pytest.approx(grams)
    assert found.cost_saved is not None
    assert found.cost_saved.value == pytest.approx(grams / 1000.0)
    assert found.saved_kwh.value == pytest.approx(-sum(owed))


def test_work_that_fits_nowhere_any_more_is_left_out_and_counted() -> None:
    site = SimSite(
        cells=(SimCell(name="west", grid_zone="west", nodes=1),), grid_zones=(SimGridZone(name="west", signal=PRICES),)
    )
    window = Window(start=T0, step=HOUR, slots=4)
    large = Observed(run=replace(ran("large", 0, 0, 1), gpus=16), cell="west", gpus_per_pod=16)
    seen = [large, Observed(run=ran("a", 0, 1, 1), cell="west", gpus_per_pod=8)]
    replayed = replay_counterfactual(seen, site, window, uncertainty=CERTAIN, draws=3)
    assert replayed.left_out == 1
    assert [run.job for run in replayed.central] == ["a"]


def test_what_all_jobs_draw_too_much_they_draw_in_every_job_alike() -> None:
    jobs = [ran(str(k), 0, 2, 2, held=True) for k in range(8)]
    alone = saved(jobs, PRICES, 4, uncertainty=replace(CERTAIN, common_power=0.1), nodes=8, draws=200)
    width = (alone.saved_g.high - alone.saved_g.low) / alone.saved_g.value
    assert width == pytest.approx(2 * 1.645 * 0.1, rel=0.2)


def test_a_sum_over_jobs_that_lies_within_the_interval_is_not_explained_away() -> None:
    found = saved(EXAMPLE, PRICES, 4)
    unsure = replace(found, saved_g=Range(value=1440.0, low=-500.0, high=3500.0))
    assert "nobody can tell the two apart" in why_they_differ(unsure, 2880.0)
    assert "empty for every job" in why_they_differ(unsure, 3600.0)


def test_days_and_zones_add_up_to_the_whole() -> None:
    signal = series(*([600.0] * 12 + [200.0] * 36))
    found = saved([ran("a", 0, 14, 20, held=True), ran("b", 1, 30, 4, held=True)], signal, 48)
    assert sum(day.saved_g.value for day in found.by_day) == pytest.approx(found.saved_g.value)
    assert sum(zone.saved_g.value for zone in found.by_zone.values()) == pytest.approx(found.saved_g.value)
    assert [day.day for day in found.by_day] == ["2026-03-01", "2026-03-02"]


def test_uncertainty_widens_the_interval_and_keeps_the_value_inside() -> None:
    wide = saved(EXAMPLE, PRICES, 4, uncertainty=Uncertainty(), draws=40)
    assert wide.saved_g.low < wide.saved_g.value < wide.saved_g.high
    wider = saved(EXAMPLE, PRICES, 4, uncertainty=Uncertainty(duration=0.1, power_elsewhere=0.2), draws=40)
    assert wider.saved_g.high - wider.saved_g.low > 2 * (wide.saved_g.high - wide.saved_g.low)


def test_nine_tenths_of_further_replays_lie_in_the_interval_whatever_their_distribution() -> None:
    rng = np.random.default_rng(7)
    for values in (rng.standard_normal((1000, 31)), rng.exponential(size=(1000, 31))):
        ranges = [range_of(row[:30]) for row in values]
        inside = np.mean([found.low <= row[30] <= found.high for found, row in zip(ranges, values, strict=True)])
        assert inside == pytest.approx(0.9, abs=0.025)


def test_a_hole_in_the_grid_s_series_is_an_error_and_never_a_clean_hour() -> None:
    with pytest.raises(ValueError, match="gaps"):
        saved(EXAMPLE, series(600, float("nan"), 200, 200), 4)


def test_zones_measured_by_two_kinds_of_signal_cannot_be_added_up() -> None:
    window = Window(start=T0, step=HOUR, slots=2)
    site = SimSite(
        cells=(SimCell(name="a", grid_zone="a", nodes=1), SimCell(name="b", grid_zone="b", nodes=1)),
        grid_zones=(
            SimGridZone(name="a", signal=PRICES),
            SimGridZone(name="b", signal=replace(PRICES, kind=SignalKind.MARGINAL)),
        ),
    )
    with pytest.raises(TypeError, match="cannot be added up"):
        intensities({z.name: z.signal for z in site.grid_zones}, site.zone_powers(), window)


def test_peaks_cost_and_energy_of_a_saving_can_be_redone_by_hand() -> None:
    """A waits from hour 0 to hour 3 of four, and has two hours to run: one of them is owed."""
    runs = [ran("a", 0, 3, 2, held=True), ran("b", 0, 0, 4)]
    site = SimSite(
        cells=(SimCell(name="west", grid_zone="west", nodes=2, pue=1.2),),
        grid_zones=(SimGridZone(name="west", signal=PRICES),),
    )
    window = Window(start=T0, step=HOUR, slots=4)
    seen = [Observed(run=run, cell="west", gpus_per_pod=8) for run in runs]
    replayed = replay_counterfactual(seen, site, window, uncertainty=CERTAIN, draws=3)
    ci = intensities({"west": PRICES}, site.zone_powers(), window)
    price = np.array([[0.3, 0.3, 0.1, 0.1]])
    measured = np.array([[10.0, 10.0, 10.0, 13.6]])
    found = savings(replayed.draws, ci, PRICES.kind, measured_kwh=measured, prices=price, uncertainty=CERTAIN)
    # First come first served: A in hours 0 and 1. Ours: 3.6 kWh in hour 3, and 3.6 kWh owed at the mean of the window.
    assert found.saved_g.value == pytest.approx(3.6 * (600 + 600 - 200 - 400))
    assert found.saved_kwh.value == pytest.approx(0.0, abs=1e-9)
    assert found.owed_kwh == pytest.approx(3.6)
    assert found.cost_saved is not None
    assert found.cost_saved.value == pytest.approx(3.6 * (0.3 + 0.3 - 0.1 - 0.2))
    assert found.measured_g == pytest.approx(10 * (600 + 600 + 200) + 13.6 * 200)
    assert found.counterfactual_g == pytest.approx(found.measured_g + found.saved_g.value)
    # The meter's highest hour was 13.6; it would have been 13.6 in the first two hours instead.
    assert found.peak_change_kw["west"].value == pytest.approx(0.0, abs=1e-9)
    lower = savings(
        replayed.draws, ci, PRICES.kind, measured_kwh=np.array([[11.0, 10.0, 10.0, 13.0]]), uncertainty=CERTAIN
    )
    assert lower.peak_change_kw["west"].value == pytest.approx(13.0 - 14.6)


def test_equal_inputs_give_equal_savings() -> None:
    one, other = (saved(EXAMPLE, PRICES, 4, uncertainty=Uncertainty(), draws=10) for _ in range(2))
    assert one == other
