# SPDX-License-Identifier: Apache-2.0
"""Energy and emissions that close against the meter, whatever the telemetry does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embellie.accounting import AverageDirect, AverageLifecycle, Marginal, of_kind, total
from embellie.accounting.allocation import GangUse, NodeEnergy, allocate
from embellie.accounting.embodied import carried_hardware, hardware_for
from embellie.accounting.footprint import Footprint
from embellie.accounting.interval import account_interval, repriced
from embellie.accounting.known import Gang, GpuMeter, Machine, Price, Samples, Stay, Tariff, ZoneInterval
from embellie.accounting.meters import counter_steps, power_steps
from embellie.accounting.overhead import OverheadModel, fit_overhead
from embellie.domain.reasons import SignalKind
from embellie.domain.sums import add_tables

T0 = datetime(2026, 7, 1, tzinfo=UTC)
S0 = T0.timestamp()
QUARTER = timedelta(minutes=15)


def edges(*seconds: float) -> np.ndarray:
    return np.array(seconds, dtype=np.float64)


def test_average_and_marginal_can_never_be_summed() -> None:
    average, marginal = AverageLifecycle(grams=1.0, energy_kwh=1.0), Marginal(grams=1.0, energy_kwh=1.0)
    for one, other in ((average, marginal), (average, AverageDirect(grams=1.0, energy_kwh=1.0))):
        with pytest.raises(TypeError, match="cannot be added"):
            one + other  # type: ignore[operator]
        with pytest.raises(TypeError):
            total([one, other])
        with pytest.raises(TypeError):
            one - other  # type: ignore[operator]
    assert (average + average).grams == 2.0
    assert isinstance(of_kind(SignalKind.MARGINAL, grams=1.0, energy_kwh=1.0), Marginal)


def test_a_counter_is_read_at_the_edges_so_that_neighbours_share_them() -> None:
    steps = counter_steps([0, 60, 120, 180], [0, 6000, 12000, 18000], max_w=1000)
    found = steps.between(edges(0, 30, 90, 180))
    assert found.kwh * 3.6e6 == pytest.approx([3000, 6000, 9000])
    assert found.covered_s == pytest.approx([30, 60, 90])


def test_a_counter_reset_loses_no_energy_and_is_marked_as_a_guess() -> None:
    steps = counter_steps([0, 60, 120, 180], [50_000, 56_000, 3000, 9000], max_w=1000)
    assert steps.between(edges(0, 180)).kwh[0] * 3.6e6 == pytest.approx(18_000)
    assert steps.guessed.tolist() == [0.0, 1.0, 0.0]


def test_a_counter_that_runs_backwards_never_gives_negative_energy() -> None:
    found = counter_steps([0, 60, 120], [9000, 6000, 3000], max_w=1000).between(edges(0, 120))
    assert found.kwh[0] == 0.0
    assert found.covered_s[0] == 0.0


def test_missing_scrapes_of_a_counter_lose_nothing() -> None:
    whole = counter_steps(range(0, 901, 60), [100.0 * t for t in range(0, 901, 60)], max_w=1000)
    holes = counter_steps([0, 60, 600, 900], [0.0, 6000.0, 60_000.0, 90_000.0], max_w=1000)
    assert holes.between(edges(0, 900)).kwh == pytest.approx(whole.between(edges(0, 900)).kwh)


def test_a_jump_that_no_gpu_could_draw_is_no_energy_but_time_without_cover() -> None:
    found = counter_steps([0, 60, 120], [0, 6000, 6e9], max_w=1000).between(edges(0, 120))
    assert found.kwh[0] * 3.6e6 == pytest.approx(6000)
    assert found.covered_s[0] == pytest.approx(60)


def test_samples_that_come_twice_or_out_of_order_count_once() -> None:
    plain = counter_steps([0, 60, 120], [0, 6000, 12000], max_w=1000).between(edges(0, 120))
    mixed = counter_steps([120, 0, 60, 60, 0], [12000, 0, 6000, 6000, 0], max_w=1000).between(edges(0, 120))
    assert mixed.kwh == pytest.approx(plain.kwh)


def test_absurd_power_counts_as_missing() -> None:
    found = power_steps([0, 60, 120, 180], [100, -5, float("nan"), 100], max_w=1000).between(edges(0, 180))
    assert found.kwh[0] * 3.6e6 == pytest.approx(18_000)
    assert power_steps([0, 60], [-1, -1], max_w=1000).between(edges(0, 60)).covered_s[0] == 0.0


def node(kwh: float | None, *uses: GangUse) -> NodeEnergy:
    return NodeEnergy(name="n", seconds=3600.0, gpus=8, idle_w=3200.0, gpu_idle_w=140.0, kwh=kwh, uses=uses)


def test_jobs_idle_overhead_and_the_unexplained_are_the_meter() -> None:
    busy = GangUse(gang="a", gpu_seconds=4 * 3600.0, gpu_kwh=2.56)
    found = allocate([node(5.3, busy), node(3.2)], overhead_kwh=1.5, meter_kwh=10.2)
    assert found.jobs_it_kwh + found.idle.it_kwh + found.overhead_kwh + found.unexplained_kwh == pytest.approx(10.2)
    assert found.gangs["a"].dynamic_kwh == pytest.approx(2.1)
    assert found.gangs["a"].idle_kwh == pytest.approx(1.6)
    assert found.unexplained_kwh == pytest.approx(0.2)


def test_power_below_the_idle_figure_is_all_idle_draw() -> None:
    found = allocate([node(2.0, GangUse(gang="a", gpu_seconds=3600.0, gpu_kwh=0.7))], overhead_kwh=0.0, meter_kwh=2.0)
    assert found.gangs["a"].dynamic_kwh == 0.0
    assert found.it_kwh == pytest.approx(2.0)


def test_without_any_telemetry_energy_is_estimated_and_says_so() -> None:
    use = GangUse(gang="a", gpu_seconds=8 * 3600.0, gpu_kwh=4.0, estimated=True)
    found = allocate([node(None, use)], overhead_kwh=0.0, meter_kwh=None)
    assert found.it_kwh == pytest.approx(3.2 + 1.03 * (4.0 - 8 * 0.14))
    assert found.estimated_kwh == pytest.approx(found.it_kwh)
    assert found.unexplained_kwh == 0.0


def zone(**more: object) -> ZoneInterval:
    at = tuple(S0 + k * 60 for k in range(-2, 18))
    gpus = tuple(
        GpuMeter(
            node="n",
            samples=Samples(at_s=at, values=tuple(500.0 * (t - S0 + 1000) for t in at)),
            counter=True,
            holders=tuple({"uid-a": 1.0} for _ in at),
        )
        for _ in range(8)
    )
    gang = Gang(
        uid="uid-a", namespace="ml", name="train", team="vision", watts_per_gpu=600.0,
        stays=(Stay(node="n", gpus=8, start_s=S0 - 600, end_s=S0 + 3600),),
    )  # fmt: skip
    values: dict[str, object] = {
        "zone": "west",
        "start": T0,
        "end": T0 + QUARTER,
        "machines": (
            Machine(
                name="n", gpus=8, idle_w=3200.0, gpu_idle_w=140.0, host_share=0.03, product="NVIDIA-H100-80GB-HBM3",
                power=Samples(at_s=at, values=tuple(6200.0 for _ in at)),
            ),
        ),
        "gpus": gpus,
        "gangs": (gang,),
        "meter": Samples(at_s=at, values=tuple(7440.0 for _ in at)),
        "prices": (
            Price(kind=SignalKind.AVERAGE_LIFECYCLE, g_per_kwh=400.0, quality="estimated", source="nowcast"),
        ),
    }  # fmt: skip
    return ZoneInterval(**{**values, **more})  # type: ignore[arg-type]


def test_an_interval_closes_and_every_number_can_be_redone_by_hand() -> None:
    adds = account_interval(zone())["adds"]
    assert adds["kwh"]["facility"] == pytest.approx(7.44 / 4)
    assert adds["kwh"]["jobs"] == pytest.approx(6.2 / 4)
    assert adds["kwh"]["overhead"] == pytest.approx(0.2 * 6.2 / 4)
    assert adds["kwh"]["unexplained"] == pytest.approx(0.0, abs=1e-9)
    assert adds["grams"]["AverageLifecycle"] == pytest.approx(400 * 7.44 / 4)
    assert adds["workloads"]["uid-a"]["dynamicKwh"] == pytest.approx((6.2 - 3.2) / 4)
    assert adds["teams"]["vision"]["gpuSeconds"] == pytest.approx(8 * 900)
    assert adds["embodiedG"] == pytest.approx(2 * hardware_for("H100").g_per_gpu_hour)


@pytest.mark.parametrize("missing", ["gpus", "node power", "both", "meter"])
def test_telemetry_that_is_not_there_becomes_a_number_and_not_a_gap(missing: str) -> None:
    known = zone()
    if missing in ("gpus", "both"):
        known = replace(known, gpus=())
    if missing in ("node power", "both"):
        known = replace(known, machines=tuple(replace(m, power=Samples()) for m in known.machines))
    if missing == "meter":
        known = replace(known, meter=Samples())
    adds = account_interval(known)["adds"]
    kwh = adds["kwh"]
    assert kwh["jobs"] + kwh["idle"] + kwh["overhead"] + kwh["unexplained"] == pytest.approx(kwh["facility"])
    assert kwh["facility"] == pytest.approx(7.44 / 4, rel=0.15)
    if missing == "both":
        assert kwh["estimated"] == pytest.approx(kwh["jobs"] + kwh["idle"])
    if missing == "meter":
        assert (kwh["metered"], adds["seconds"]["metered"]) == (0.0, 0.0)


def test_on_a_shared_card_every_pod_has_a_part_and_the_card_counts_once() -> None:
    known = zone()
    other = replace(known.gangs[0], uid="uid-b", namespace="other")
    shared = tuple(replace(g, holders=tuple({"uid-a": 3.0, "uid-b": 1.0} for _ in g.holders)) for g in known.gpus)
    adds = account_interval(replace(known, gangs=(known.gangs[0], other), gpus=shared))["adds"]
    rows = adds["workloads"]
    assert rows["uid-a"]["dynamicKwh"] + rows["uid-b"]["dynamicKwh"] == pytest.approx((6.2 - 3.2) / 4)
    assert rows["uid-a"]["dynamicKwh"] > rows["uid-b"]["dynamicKwh"]


def test_late_grid_data_replaces_the_estimate_and_the_difference_is_what_a_revision_adds() -> None:
    first = account_interval(zone())["adds"]
    late = (Price(kind=SignalKind.AVERAGE_LIFECYCLE, g_per_kwh=300.0, quality="measured", source="EIA-930"),)
    second = repriced(first, late, None)
    change = add_tables(second, first, sign=-1.0)
    assert change["grams"]["AverageLifecycle"] == pytest.approx(-100 * 7.44 / 4)
    assert change["kwh"]["facility"] == 0.0
    assert change["seconds"]["estimatedAverageLifecycle"] == pytest.approx(-900)
    assert add_tables(first, change)["grams"] == pytest.approx(second["grams"])
    assert second["workloads"]["uid-a"]["grams"]["AverageLifecycle"] == pytest.approx(300 * 7.44 / 4)


def test_overhead_is_learnt_from_earlier_hours_and_holds_on_later_ones() -> None:
    rng = np.random.default_rng(1)
    it, warm = rng.uniform(20, 60, 600), 15 + 10 * np.sin(np.arange(600) / 24 * 6.28)
    meter = it + 2.0 + it * (0.08 + 0.006 * np.maximum(0, warm - 16))
    model = fit_overhead(it[:300], meter[:300], warm[:300])
    assert model is not None
    predicted = np.array([i + model.kw(i, w) for i, w in zip(it[300:], warm[300:], strict=True)])
    assert abs(predicted.sum() / meter[300:].sum() - 1) < 0.005
    assert fit_overhead(it[:40], meter[:40], warm[:40]) is None
    assert OverheadModel.from_pue(1.2).kw(10.0) == pytest.approx(2.0)


def test_bloom_s_published_table_comes_out_of_its_published_inputs() -> None:
    # Luccioni, Viguier, Ligozat (JMLR 24, 2023): 1,082,990 GPU-hours on A100 at 57 g/kWh.
    embodied_g = 1_082_990 * hardware_for("NVIDIA-A100-SXM4-80GB").g_per_gpu_hour
    bloom = Footprint(
        name="bloom", dynamic_kwh=433_196, idle_kwh=256_646, overhead_kwh=0, estimated_kwh=0, g_per_kwh=57,
        embodied_g=embodied_g, gpu_hours=1_082_990, signal_kind="AverageLifecycle",
    )  # fmt: skip
    assert bloom.dynamic_g / 1e6 == pytest.approx(24.7, rel=0.02)
    assert bloom.idle_g / 1e6 == pytest.approx(14.6, rel=0.02)
    assert bloom.embodied_g / 1e6 == pytest.approx(11.2, rel=0.02)
    assert bloom.total_g / 1e6 == pytest.approx(50.5, rel=0.02)
    for words in ("24.7 t dynamic", "14.6 t idle", "11.2 t embodied", "57 g/kWh", "embellie-account/4"):
        assert words in bloom.line()


def test_every_line_of_the_hardware_table_names_its_source() -> None:
    assert all(len(row.source) > 20 and row.quality for row in carried_hardware())
    assert hardware_for("a GPU from next year").match == "*"


def test_of_two_lines_of_hardware_that_fit_the_more_exact_one_counts() -> None:
    (h100,) = (row for row in carried_hardware() if row.match == "H100")
    table = (h100, replace(h100, match="H100-NVL", gpu_kg=999.0), replace(h100, match="*"))
    assert hardware_for("NVIDIA-H100-NVL", table).gpu_kg == 999.0
    assert hardware_for("NVIDIA-H100-80GB-HBM3", table).gpu_kg == h100.gpu_kg


@pytest.mark.parametrize(("estimated_kwh", "energy"), [(0.0, 0.03), (100.0, 0.50), (50.0, 0.265)])
def test_the_uncertainty_of_a_card_can_be_redone_by_hand(estimated_kwh: float, energy: float) -> None:
    card = Footprint(
        name="x", dynamic_kwh=60, idle_kwh=40, overhead_kwh=0, estimated_kwh=estimated_kwh, g_per_kwh=100,
        embodied_g=2000, gpu_hours=1, signal_kind="AverageLifecycle",
    )  # fmt: skip
    spread = ((10_000 * energy) ** 2 + (10_000 * 0.10) ** 2 + (2000 * 0.5) ** 2) ** 0.5
    assert card.interval_g == (pytest.approx(12_000 - spread), pytest.approx(12_000 + spread))
    # Overhead comes to measured and to assumed energy alike.
    cooled = replace(card, overhead_kwh=50.0, embodied_g=0.0)
    assert cooled.interval_g[1] == pytest.approx(15_000 * (1 + (energy**2 + 0.10**2) ** 0.5))


@pytest.mark.parametrize(("hours", "edges"), [(5 / 60, 0.05), (1.0, 15 / 3600), (1 / 3600, 1.0), (0.0, 1.0)])
def test_of_short_work_a_card_is_less_certain(hours: float, edges: float) -> None:
    card = Footprint(
        name="x", dynamic_kwh=60, idle_kwh=40, overhead_kwh=0, estimated_kwh=0, g_per_kwh=100,
        embodied_g=0, gpu_hours=1, signal_kind="AverageLifecycle", hours=hours,
    )  # fmt: skip
    spread = ((10_000 * 0.03) ** 2 + (6000 * edges) ** 2 + (10_000 * 0.10) ** 2) ** 0.5
    assert card.interval_g[1] == pytest.approx(10_000 + spread)
    assert card.interval_g[0] == pytest.approx(max(0.0, 10_000 - spread))


def test_no_card_reaches_below_nothing() -> None:
    card = Footprint(
        name="x", dynamic_kwh=100, idle_kwh=0, overhead_kwh=0, estimated_kwh=100, g_per_kwh=100,
        embodied_g=0, gpu_hours=1, signal_kind="AverageLifecycle", hours=0.0,
    )  # fmt: skip
    assert card.interval_g[0] == 0.0


def test_a_zone_that_drew_nothing_has_no_overhead() -> None:
    found = allocate([], overhead_kwh=2.0, meter_kwh=None)
    assert (found.overhead_kwh, found.facility_kwh) == (0.0, 0.0)


def test_a_price_in_another_currency_takes_the_place_of_the_first() -> None:
    first = account_interval(zone(tariff=Tariff(per_mwh=50.0, currency="EUR", source="x")))["adds"]
    second = repriced(first, zone().prices, Tariff(per_mwh=60.0, currency="USD", source="y"))
    assert set(second["cost"]) == {"USD"}
    assert "costedEUR" not in second["seconds"]
