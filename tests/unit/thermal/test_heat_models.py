# SPDX-License-Identifier: Apache-2.0
"""Heat models learn what a room does from what its sensors show, and say how far they can be trusted."""

from dataclasses import replace

import numpy as np
import pytest

from embellie.thermal.conformal import AdaptiveMargins
from embellie.thermal.die import DieModels, DieRun, step_filter
from embellie.thermal.job_power import MIN_SAMPLES, JobPower, class_of
from embellie.thermal.node_power import fit_node_power
from embellie.thermal.recursive import RecursiveFit, fit_bounded
from embellie.thermal.server import ServerModel
from embellie.thermal.settings import CoolingSettings, LimitSettings, ZoneSettings
from embellie.thermal.weather import PueModel, SiteWeather, SupplyModels, wet_bulb_c
from embellie.thermal.zone_models import ZoneModels

STEP_S = 60.0


def zone(name: str = "row", *, neighbours: tuple[str, ...] = (), rise: float = 0.13, margin: float = 1.0, **cooling):
    return ZoneSettings(
        name=name,
        limits=LimitSettings(inlet_hard_c=32.0, margin_k=margin),
        cooling=CoolingSettings(capacity_kw=120.0, rise_k_per_kw=rise, **cooling),
        neighbours=neighbours,
    )


class Room:
    """A room of another structure than the model's: two masses in a row, noise, and a thermometer that counts in K."""

    def __init__(self, gains: np.ndarray, tau_s: float = 400.0, seed: int = 0) -> None:
        self.gains, self.tau_s = np.atleast_2d(gains), tau_s
        self.random = np.random.default_rng(seed)
        count = len(self.gains)
        self.air, self.rack = np.full(count, 22.0), np.full(count, 22.0)
        self.power = np.full(count, 40.0)
        self.at_s = 0.0

    def step(self, models: ZoneModels, *, fresh: bool = True, moving: bool = True, regime: int | None = None) -> None:
        if moving:
            jumps = self.random.random(self.power.size) < STEP_S / 1800.0
            self.power = np.where(jumps, self.random.uniform(10.0, 110.0, self.power.size), self.power)
        supply = 20.0 + 1.5 * np.sin(2 * np.pi * self.at_s / 86400.0)
        steady = supply + 0.7 + self.gains @ self.power
        self.rack += (steady - self.rack) * (1.0 - np.exp(-STEP_S / self.tau_s))
        self.air += (self.rack - self.air) * (1.0 - np.exp(-STEP_S / 90.0))
        self.at_s += STEP_S
        shown = np.round(self.air + self.random.normal(0.0, 0.2, self.air.size))
        models.observe(
            self.at_s,
            shown if fresh else np.full(shown.size, 99.0),
            np.full(shown.size, supply),
            self.power + self.random.normal(0.0, 0.5, self.power.size),
            np.full(shown.size, fresh),
            None if regime is None else np.full(shown.size, regime),
        )


def test_a_zone_learns_its_gain_through_a_thermometer_that_counts_in_whole_degrees():
    room, models = Room(np.array([[0.08]])), ZoneModels([zone()])
    for _ in range(1500):
        room.step(models)
    learnt = models.heat_models()["row"]
    assert learnt.trusted
    assert learnt.own_k_per_kw == pytest.approx(0.08, rel=0.08)
    assert learnt.tau_s in (240.0, 480.0, 900.0)


def test_heat_that_comes_from_next_door_is_told_from_the_zones_own():
    zones = [zone("a", neighbours=("b",)), zone("b", neighbours=("a",))]
    room, models = Room(np.array([[0.08, 0.03], [0.0, 0.1]])), ZoneModels(zones)
    for _ in range(1800):
        room.step(models)
    learnt = models.heat_models()
    assert learnt["a"].neighbours_k_per_kw["b"] == pytest.approx(0.03, abs=0.012)
    assert learnt["b"].neighbours_k_per_kw.get("a", 0.0) < 0.012


def test_nothing_is_learnt_while_the_power_stands_still():
    room, models = Room(np.array([[0.08]])), ZoneModels([zone()])
    for _ in range(500):
        room.step(models, moving=False)
    learnt = models.heat_models()["row"]
    assert not learnt.trusted
    assert learnt.own_k_per_kw == pytest.approx(0.13)


def test_nothing_is_learnt_from_readings_that_are_not_fresh():
    room, models = Room(np.array([[0.08]])), ZoneModels([zone()])
    for _ in range(300):
        room.step(models, fresh=False)
    assert models.heat_models()["row"].samples == 0.0


def test_parameters_stay_physical_even_where_more_power_seems_to_cool():
    room, models = Room(np.array([[-0.05]])), ZoneModels([zone()])
    for _ in range(800):
        room.step(models)
    learnt = models.heat_models()["row"]
    assert learnt.own_k_per_kw >= 0.0
    assert 0.0 <= np.exp(-STEP_S / learnt.tau_s) < 1.0
    assert not learnt.trusted


def test_a_room_that_changes_is_seen_to_drift_and_then_learnt_anew():
    room, models = Room(np.array([[0.06]])), ZoneModels([zone()])
    for _ in range(1500):
        room.step(models)
    room.gains = np.array([[0.14]])
    drifted = []
    for _ in range(1500):
        room.step(models)
        if room.at_s % 600 < STEP_S:
            drifted.append(models.heat_models()["row"].drifted)
    assert any(drifted[:60])
    assert models.heat_models()["row"].own_k_per_kw == pytest.approx(0.14, rel=0.15)


def test_another_topology_forgets_the_zone_and_the_same_one_keeps_it():
    room, models = Room(np.array([[0.08]])), ZoneModels([zone()])
    for _ in range(1500):
        room.step(models)
    same = ZoneModels([zone(), zone("new")])
    same.transplant(models)
    assert same.heat_models()["row"].samples == pytest.approx(models.heat_models()["row"].samples)
    crowd = ZoneModels([*(zone(f"new-{n}") for n in range(4)), zone()])
    crowd.transplant(models)
    assert crowd.heat_models()["row"].own_k_per_kw == pytest.approx(0.08, rel=0.1)
    assert crowd.heat_models()["new-0"].own_k_per_kw == ZoneModels([zone()]).heat_models()["row"].own_k_per_kw
    other = ZoneModels([ZoneSettings(name="row", limits=LimitSettings(inlet_hard_c=32.0), topology=7)])
    other.transplant(models)
    assert other.heat_models()["row"].samples == 0.0


def test_margins_never_fall_below_the_configured_floor():
    room, models = Room(np.array([[0.08]])), ZoneModels([zone(margin=2.5)])
    for _ in range(600):
        room.step(models)
    assert models.heat_models()["row"].margin_k >= 2.5


@pytest.mark.parametrize("kind", ["steady", "drift", "jump", "season"])
@pytest.mark.parametrize("eps", [0.05, 0.01])
def test_margins_hold_what_they_promise_also_under_drift(kind: str, eps: float):
    count = 4000
    k = np.arange(count)
    noise = np.random.default_rng(3).normal(size=count)
    scores = {
        "steady": noise,
        "drift": noise * (1.0 + k / count) + 2.0 * k / count,
        "jump": noise + 3.0 * (k > count // 2),
        "season": noise + 2.0 * np.sin(2 * np.pi * k / 1440),
    }[kind]
    margins = AdaptiveMargins(1, eps)
    missed = [bool(margins.observe(np.array([score]))[0]) for score in scores]
    assert 1.0 - np.mean(missed[500:]) == pytest.approx(1.0 - eps, abs=0.005)


def test_before_there_are_enough_scores_the_margin_is_gaussian_or_the_floor():
    margins = AdaptiveMargins(2, 0.01, floor=np.array([3.0, 0.0]))
    assert list(margins.margins()) == [3.0, 0.0]
    for score in (0.1, -0.1, 0.2, -0.2):
        margins.observe(np.array([score, score]))
    assert margins.margins()[0] == 3.0
    assert 0.3 < margins.margins()[1] < 1.5


def test_bounded_least_squares_keeps_its_bounds_and_finds_the_rest():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 3))
    y = x @ np.array([2.0, -1.0, 0.5]) + random.normal(0, 0.01, 400)
    found = fit_bounded(x, y, np.array([0.0, 0.0, 0.0]))
    assert found[1] == 0.0
    assert found[0] == pytest.approx(2.0, abs=0.2)


def test_rows_of_a_server_teach_the_same_together_as_one_by_one():
    rng = np.random.default_rng(3)
    utilisation = rng.uniform(0.0, 1.0, 500)
    power_w = 60.0 + 200.0 * utilisation + rng.normal(0.0, 5.0, 500)
    rows = np.stack([utilisation, power_w, 25.0 + 0.12 * power_w + rng.normal(0.0, 1.0, 500)], axis=1)
    contiguous = rng.random(500) > 0.1
    together, alone = ServerModel(), ServerModel()
    expected = together.follow(rows, contiguous)
    one_by_one = [alone.follow(rows[k : k + 1], contiguous[k : k + 1]) for k in range(500)]
    assert expected == pytest.approx(np.concatenate(one_by_one), rel=1e-9)
    assert together.memory == pytest.approx(alone.memory)
    assert together.temperature_parameters()[1] == pytest.approx(0.12, rel=0.1)


def test_recursive_least_squares_forgets_only_where_it_learns():
    fit = RecursiveFit((2,), np.zeros(1), np.full(1, 1e-6), np.full(1, -np.inf), forgetting=0.9)
    for _ in range(50):
        fit.update(np.ones((2, 1)), np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    for _ in range(50):
        fit.update(np.ones((2, 1)), np.array([3.0, 3.0]), np.array([1.0, 0.0]))
    assert fit.solve()[:, 0] == pytest.approx([3.0, 1.0], abs=0.02)


def test_a_node_power_law_finds_base_fans_and_share():
    random = np.random.default_rng(1)
    gpu, rpm, busy = random.uniform(1000, 6000, 500), random.uniform(3000, 11000, 500), random.uniform(0, 1, 500)
    node = 2000 + 1.03 * gpu + 1500 * (rpm / 1e4) ** 2.6 + 40 * busy + random.normal(0, 20, 500)
    law = fit_node_power(gpu, rpm, busy, node)
    assert law.gpu_share == pytest.approx(1.03, abs=0.01)
    assert law.fan_exponent == pytest.approx(2.6, abs=0.2)
    assert law.rmse_w < 25.0


def test_a_node_power_law_needs_no_fans_and_refuses_too_few_rows():
    gpu = np.linspace(100, 3000, 50)
    assert fit_node_power(gpu, None, None, 500 + 1.1 * gpu).predict_w(np.array([1000.0]), None, None) == pytest.approx(
        [1600.0], abs=1.0
    )
    with pytest.raises(ValueError, match="at least 10 rows"):
        fit_node_power(gpu[:5], None, None, gpu[:5])


def test_a_die_is_known_one_step_ahead():
    random = np.random.default_rng(2)
    power = np.repeat(random.uniform(100, 700, 60), 6)
    clean = 30.0 + 0.02 * power + 0.015 * step_filter(power, 15.0, 25.0)
    run = DieRun(position="gpu0", kind="any", power_w=power, temperature_c=clean + random.normal(0, 0.1, power.size))
    models = DieModels(15.0)
    models.fit([run])
    assert np.abs(models.one_step(run) - run.temperature_c[1:]).max() < 0.8
    model = models.of(run)
    assert model.r_fast_k_per_w + model.r_slow_k_per_w == pytest.approx(0.035, rel=0.05)


def test_jobs_of_one_kind_are_one_class_and_count_once_enough_ran():
    power = JobPower()
    for number in range(MIN_SAMPLES):
        assert power.of("research/train-llm") is None
        power.observe(class_of("research", f"train-llm-{number}"), {f"train-llm-{number}": 480.0})
    learnt = power.of("research/train-llm")
    assert learnt is not None
    assert learnt.mean_w == pytest.approx(480.0)
    power.observe("research/train-llm", {"train-llm-1": float("nan"), "train-llm-2": 1e9})
    assert power.of("research/train-llm").mean_w == pytest.approx(480.0)


def test_the_site_learns_how_much_warmer_it_is_than_its_forecast():
    weather = SiteWeather(2)
    for k in range(200):
        weather.observe(k * 600.0, np.array([24.0, np.nan]), np.array([21.0, 21.0]))
    assert weather.adder_k == pytest.approx([3.0, 0.0], abs=0.2)


def test_the_approach_is_learnt_from_hours_in_which_the_setpoint_cannot_be_held():
    supplies = SupplyModels([zone()])
    random = np.random.default_rng(0)
    for k in range(600):
        heat, outdoor = random.uniform(20, 110), 24.0 + 8.0 * np.sin(k / 40.0)
        reach = max(20.0, outdoor + 3.0 + 0.04 * heat)
        supplies.observe(k * 60.0, np.array([reach]), np.array([outdoor]), np.array([heat]))
    setpoint, a0, a1 = supplies.parameters()
    assert setpoint[0] == pytest.approx(20.0, abs=0.5)
    assert a0[0] + 80.0 * a1[0] == pytest.approx(3.0 + 0.04 * 80.0, abs=0.5)
    assert a1[0] >= 0.0


def test_a_setpoint_that_was_stated_too_low_is_not_taken_for_the_air_outside():
    supplies = SupplyModels([zone()])
    stated_a0 = supplies.parameters()[1][0]
    for k in range(24 * 60):
        outdoor = 8.0 + 5.0 * np.sin(k / 240.0)
        supplies.observe(k * 60.0, np.array([22.0]), np.array([outdoor]), np.array([40.0]))
    setpoint, a0, _ = supplies.parameters()
    assert setpoint[0] == pytest.approx(22.0, abs=0.2)
    assert a0[0] == stated_a0


def test_pue_falls_as_the_load_rises_and_rises_with_the_heat():
    pue = PueModel()
    random = np.random.default_rng(0)
    for _ in range(300):
        load, outdoor = random.uniform(100, 500), random.uniform(0, 35)
        facility = 30 + load * 1.1 + 0.05 * load * max(0.0, outdoor - 15.0) / 10.0
        pue.observe(facility, load, outdoor)
    assert pue.trusted
    cold, full, hot = pue.at(np.array([100.0, 500.0, 500.0]), np.array([10.0, 10.0, 35.0]))
    assert cold > full
    assert hot > full
    pue.observe(float("nan"), 100.0, 10.0)
    pue.observe(50.0, 100.0, 10.0)
    assert pue.at(np.array([500.0]), np.array([10.0]))[0] == pytest.approx(full)


def test_wet_bulb_follows_the_published_example():
    assert float(wet_bulb_c(np.array(20.0), np.array(50.0))) == pytest.approx(13.7, abs=0.05)


def test_other_limits_or_another_idle_power_forget_nothing_and_another_topology_does():
    zone = ZoneSettings(name="row", limits=LimitSettings(inlet_hard_c=32.0), cooling=CoolingSettings(capacity_kw=100.0))
    old = ZoneModels([zone])
    old.fit.weight[:] = 500.0
    for change, kept in (
        ({"base_power_kw": 7.0}, True),
        ({"limits": LimitSettings(inlet_hard_c=35.0)}, True),
        ({"start_ramp_kw_per_min": 5.0}, True),
        ({"topology": 1}, False),
        ({"cooling": CoolingSettings(capacity_kw=80.0)}, False),
    ):
        fresh = ZoneModels([replace(zone, **change)])
        fresh.transplant(old)
        assert bool((fresh.fit.weight == 500.0).all()) is kept, change
