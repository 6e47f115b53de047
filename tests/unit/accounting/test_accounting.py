# SPDX-License-Identifier: Apache-2.0
"""Accounts that can be checked by hand, and that refuse to flatter."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embellie.accounting import (
    HeatSite,
    Run,
    Signal,
    ZonePower,
    account,
    add_curves,
    common_window,
    compare,
    delays,
    emissions,
    heat_record,
    power_curve,
    total,
)
from embellie.domain.reasons import SignalKind

T0 = datetime(2026, 7, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ZONE = ZonePower(name="west", idle_kw=10.0, pue=1.2)


def run(start_h: float, end_h: float, kw: float = 5.0, submit_h: float = 0.0, **changes: object) -> Run:
    values: dict[str, object] = {
        "job": "j",
        "zone": "west",
        "submitted_at": T0 + submit_h * HOUR,
        "start": T0 + start_h * HOUR,
        "end": T0 + end_h * HOUR,
        "gpus": 8,
        "power_kw": kw,
    }
    return Run(**{**values, **changes})  # type: ignore[arg-type]


def signal(*values: float, kind: SignalKind = SignalKind.AVERAGE_LIFECYCLE) -> Signal:
    return Signal(start=T0, step=HOUR, values=np.array(values, dtype=np.float64), kind=kind)


def test_idle_nodes_and_overhead_are_always_counted() -> None:
    curve = power_curve([], ZONE, T0, T0 + 2 * HOUR)
    assert curve.energy_kwh == pytest.approx(24.0)
    assert curve.peak_kw == pytest.approx(12.0)


def test_runs_add_up_on_top_of_idle() -> None:
    curve = power_curve([run(0.5, 1.5), run(1.0, 2.0, kw=3.0)], ZONE, T0, T0 + 2 * HOUR)
    assert curve.kw == pytest.approx([12.0, 18.0, 21.6, 15.6])
    assert curve.peak_kw == pytest.approx(21.6)
    assert curve.energy_kwh == pytest.approx(24.0 + 1.2 * 8.0)
    assert curve.seconds_above(16.0) == pytest.approx(3600.0)


def test_a_run_that_follows_at_once_makes_no_peak() -> None:
    assert power_curve([run(0, 1), run(1, 2)], ZONE, T0, T0 + 2 * HOUR).peak_kw == pytest.approx(18.0)


def test_runs_are_clipped_to_the_window() -> None:
    curve = power_curve([run(-1, 0.5), run(1.5, 9), run(-3, -2), run(5, 6)], ZONE, T0, T0 + 2 * HOUR)
    assert curve.energy_kwh == pytest.approx(24.0 + 1.2 * 5.0)


def test_partial_hours_are_exact() -> None:
    curve = power_curve([run(0.25, 1.5)], ZonePower(name="west", idle_kw=0.0, pue=1.0), T0, T0 + 1.75 * HOUR)
    found = emissions(curve, signal(100.0, 400.0))
    assert found.grams == pytest.approx(5.0 * (0.75 * 100 + 0.5 * 400))
    assert found.energy_kwh == pytest.approx(5.0 * 1.25)
    assert found.kind is SignalKind.AVERAGE_LIFECYCLE
    assert found.mean_g_per_kwh == pytest.approx(220.0)


def test_a_window_in_the_middle_of_the_signal_finds_its_hours() -> None:
    curve = power_curve([], ZonePower(name="west", idle_kw=1.0, pue=1.0), T0 + 1.5 * HOUR, T0 + 2.5 * HOUR)
    assert emissions(curve, signal(1.0, 100.0, 300.0, 7.0)).grams == pytest.approx(200.0)


def test_a_missing_hour_is_never_counted_as_a_clean_one() -> None:
    curve = power_curve([], ZONE, T0, T0 + 2 * HOUR)
    with pytest.raises(ValueError, match="covers"):
        emissions(curve, signal(100.0))
    with pytest.raises(ValueError, match="gap"):
        emissions(curve, signal(100.0, float("nan")))


def test_what_lies_before_and_after_a_window_is_no_gap_in_it() -> None:
    unknown = float("nan")
    curve = power_curve([], ZonePower(name="west", idle_kw=1.0, pue=1.0), T0 + 1.5 * HOUR, T0 + 2.5 * HOUR)
    assert emissions(curve, signal(unknown, 100.0, 300.0, unknown)).grams == pytest.approx(200.0)


def test_two_kinds_of_signal_are_never_added_or_compared() -> None:
    curve = power_curve([], ZONE, T0, T0 + HOUR)
    parts = [emissions(curve, signal(1.0)), emissions(curve, signal(1.0, kind=SignalKind.MARGINAL))]
    with pytest.raises(TypeError):
        total(parts)
    accounts = [
        account([], [ZONE], {"west": signal(1.0, kind=kind)}, T0, T0 + HOUR)
        for kind in (SignalKind.AVERAGE_DIRECT, SignalKind.MARGINAL)
    ]
    with pytest.raises(TypeError):
        compare(*accounts)


def test_moving_work_to_a_clean_hour_saves_what_it_moved() -> None:
    signals = {"west": signal(400.0, 400.0, 100.0)}
    start, end = common_window([run(0, 1)], [run(2, 3)], start=T0)
    fifo = account([run(0, 1)], [ZONE], signals, start, end)
    ours = account([run(2, 3)], [ZONE], signals, start, end)
    saved = compare(ours, fifo)
    assert saved.saved_grams == pytest.approx(1.2 * 5 * 300)
    assert ours.emissions.energy_kwh == pytest.approx(fifo.emissions.energy_kwh)
    worse = compare(fifo, ours)
    assert worse.saved_grams == pytest.approx(-1.2 * 5 * 300)
    assert worse.saved_percent < 0


def test_different_windows_are_never_compared() -> None:
    signals = {"west": signal(1.0, 1.0)}
    short = account([], [ZONE], signals, T0, T0 + HOUR)
    long = account([], [ZONE], signals, T0, T0 + 2 * HOUR)
    with pytest.raises(ValueError, match="windows"):
        compare(short, long)


def test_the_common_window_lasts_until_both_have_finished() -> None:
    assert common_window([run(0, 1)], [run(2, 5)], start=T0) == (T0, T0 + 5 * HOUR)


def test_the_clusters_peak_is_the_peak_of_the_sum() -> None:
    east = ZonePower(name="east", idle_kw=0.0, pue=1.0)
    west = ZonePower(name="west", idle_kw=0.0, pue=1.0)
    runs = [run(0, 1, kw=5.0), run(1, 2, kw=4.0, zone="east")]
    found = account(runs, [west, east], {"west": signal(1, 1), "east": signal(1, 1)}, T0, T0 + 2 * HOUR)
    assert found.peak_kw == pytest.approx(5.0)
    assert found.peak_by_zone_kw == {"west": pytest.approx(5.0), "east": pytest.approx(4.0)}
    curves = [power_curve(runs, zone, T0, T0 + 2 * HOUR) for zone in (west, east)]
    assert add_curves(curves).energy_kwh == pytest.approx(9.0)


def test_power_of_an_unknown_zone_is_not_lost_silently() -> None:
    with pytest.raises(ValueError, match="mars"):
        account([run(0, 1, zone="mars")], [ZONE], {"west": signal(1.0)}, T0, T0 + HOUR)


def test_delays_say_mean_worst_and_how_many_were_late() -> None:
    runs = [
        run(0, 1),
        run(3, 4, latest_start=T0 + 3 * HOUR),
        run(6, 7, submit_h=1, latest_start=T0 + 5 * HOUR),
    ]
    found = delays(runs)
    assert (found.mean_s, found.worst_s, found.past_bound) == (pytest.approx(8 * 3600 / 3), 5 * 3600.0, 1)
    assert delays(runs, tolerance_s=3600.0).past_bound == 0
    assert delays([]).worst_s == 0.0


def test_thermal_violations_are_counted_as_spells() -> None:
    idle = ZonePower(name="west", idle_kw=10.0, pue=1.0)
    curve = power_curve([run(0.5, 1.5), run(3, 4)], idle, T0, T0 + 5 * HOUR)
    site = HeatSite(
        start=T0, step=HOUR, supply_c=np.array([20.0, 25, 20, 20, 20]), rise_k_per_kw=0.5, inlet_limit_c=32.0
    )
    found = heat_record(curve, site)
    assert (found.peak_inlet_c, found.violations, found.violation_s) == (pytest.approx(32.5), 1, pytest.approx(1800.0))
    small = HeatSite(
        start=T0, step=HOUR, supply_c=np.full(5, 20.0), rise_k_per_kw=0.0, inlet_limit_c=32.0, capacity_kw=14.0
    )
    assert heat_record(curve, small).violations == 2


def test_a_run_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before"):
        run(2, 1)
