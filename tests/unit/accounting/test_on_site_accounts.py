# SPDX-License-Identifier: Apache-2.0
"""On-site energy in an interval's account: what its meter proves is used first, and nothing else is claimed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embellie.accounting.interval import account_interval, repriced
from embellie.accounting.known import Gang, Machine, Plant, Price, Samples, Stay, ZoneInterval
from embellie.accounting.onsite import NO_DRAW, NO_GOOD_SAMPLES, NO_METER, STANDS_STILL
from embellie.domain.onsite import G_PER_KWH
from embellie.domain.reasons import SignalKind
from embellie.ledger.records import encode
from embellie_forecast.factors import DIRECT_EIA, LIFECYCLE_AR5
from embellie_testbed.paths import REPOSITORY

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
AT = tuple(T0.timestamp() + 60.0 * k for k in range(-4, 20))
LIFE, DIRECT, MARGINAL = SignalKind.AVERAGE_LIFECYCLE, SignalKind.AVERAGE_DIRECT, SignalKind.MARGINAL


def plant(says: Callable[[int], float], *, name: str = "roof", kind: str = "Solar", peak_kw: float = 40.0) -> Plant:
    """Return a plant whose meter says so much in minute k [W]."""
    samples = Samples(at_s=AT, values=tuple(says(k) for k in range(-4, 20)))
    return Plant(name=name, kind=kind, peak_kw=peak_kw, meter=samples)


def sun(kw: float) -> Callable[[int], float]:
    """Return a sun that gives so much on the mean, and never the same twice running."""
    return lambda k: 1000.0 * kw + (50.0 if k % 2 else -50.0)


def price(kind: SignalKind, g: float) -> Price:
    return Price(kind=kind, g_per_kwh=g, quality="measured", source="x")


PRICES = (price(LIFE, 400.0), price(DIRECT, 350.0), price(MARGINAL, 700.0))


def interval(*plants: Plant, meter_w: float = 25_600.0, prices: tuple[Price, ...] = PRICES) -> ZoneInterval:
    """A quarter of an hour of the page's node: 25.6 kW at the zone's meter, of which a job has a part."""
    stay = Stay(node="n", gpus=4, start_s=AT[0], end_s=AT[-1])
    return ZoneInterval(
        zone="west", start=T0, end=T0 + QUARTER, prices=prices, plants=plants, gpus=(),
        machines=(Machine(
            name="n", gpus=8, idle_w=3200.0, gpu_idle_w=140.0, host_share=0.03,
            power=Samples(at_s=AT, values=(21_200.0,) * len(AT)),
        ),),
        gangs=(Gang(uid="a", namespace="ml", name="a", team="t", stays=(stay,), watts_per_gpu=600.0),),
        meter=Samples(at_s=AT, values=(meter_w,) * len(AT)),
    )  # fmt: skip


def adds(known: ZoneInterval) -> dict[str, Any]:
    return dict(account_interval(known)["adds"])


def test_the_worked_example_comes_out_as_the_page_says() -> None:
    page = (
        (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8").split("## Worked example: a sunny quarter")[1]
    )
    body = account_interval(interval(plant(sun(16.0))))
    found = body["adds"]
    assert body["method"] == "embellie-account/5"
    assert found["kwh"]["facility"] == pytest.approx(6.4)
    assert found["onSite"] == {
        "Solar": {
            "deliveredKwh": pytest.approx(4.0), "usedKwh": pytest.approx(4.0), "seconds": 900.0, "coveredSeconds": 900.0
        }
    }  # fmt: skip
    assert found["grams"][LIFE] == pytest.approx(1140)
    assert "2.40 x 400 + 4.00 x 45 = **1140 g**" in page
    assert found["grams"][LIFE] + found["sparedGrams"][LIFE] == pytest.approx(2560)
    assert "6.40 x 400 = 2560 g" in page
    assert found["grams"][DIRECT] == pytest.approx(2.4 * 350)
    assert "2.40 x 350 = 840 g" in page
    row = found["workloads"]["a"]
    kwh = row["dynamicKwh"] + row["idleKwh"] + row["overheadKwh"]
    assert row["grams"][LIFE] / kwh == pytest.approx(1140 / 6.4)
    assert f"{1140 / 6.4:.1f} g/kWh" in page


def test_more_sun_than_is_drawn_leaves_nothing_of_the_grid_and_is_not_all_used() -> None:
    found = adds(interval(plant(sun(38.0)), plant(sun(12.8), name="mill", kind="Wind")))
    used = {kind: row["usedKwh"] for kind, row in found["onSite"].items()}
    assert sum(used.values()) == pytest.approx(6.4)
    assert used["Solar"] / used["Wind"] == pytest.approx(38.0 / 12.8), "each plant's energy is used for the same share"
    assert found["grams"][LIFE] == pytest.approx(used["Solar"] * 45 + used["Wind"] * 11)
    assert found["grams"][DIRECT] == 0.0
    assert found["namespaces"]["ml"]["grams"][DIRECT] >= 0.0, "rounding makes no emissions below zero"


def test_a_marginal_signal_is_not_touched() -> None:
    found = adds(interval(plant(sun(16.0))))
    assert found["grams"][MARGINAL] == pytest.approx(6.4 * 700)
    assert MARGINAL not in found["sparedGrams"]


def test_on_a_grid_cleaner_than_panels_their_use_adds_to_the_emissions() -> None:
    found = adds(interval(plant(sun(16.0)), prices=(price(LIFE, 20.0),)))
    assert found["grams"][LIFE] == pytest.approx(2.4 * 20 + 4.0 * 45)
    assert found["sparedGrams"][LIFE] == pytest.approx(-4.0 * 25)


def test_without_a_metered_plant_the_record_is_the_same_to_the_byte() -> None:
    unread = Plant(name="roof", kind="Solar", peak_kw=40.0, unread=NO_METER)
    assert encode(account_interval(interval(unread))) == encode(account_interval(interval()))


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (lambda _: 16_000.0, STANDS_STILL),
        (lambda k: -16_000.0 + k, NO_GOOD_SAMPLES),
        (lambda k: -800.0 + k, NO_GOOD_SAMPLES),
        (lambda k: 16_000_000.0 + k, NO_GOOD_SAMPLES),
        (lambda k: 41_000.0 + k, NO_GOOD_SAMPLES),
    ],
    ids=["frozen", "negative", "below rest", "in another unit", "above its peak"],
)
def test_what_a_bad_meter_says_counts_as_nothing_and_is_told(says: Callable[[int], float], why: str) -> None:
    body = account_interval(interval(plant(says)))
    (told,) = body["plants"]
    assert (told["deliveredKwh"], told["coveredSeconds"], told["missing"]) == (0.0, 0.0, why)
    assert body["adds"]["grams"] == adds(interval())["grams"]
    assert body["adds"]["onSite"]["Solar"]["seconds"] == 900.0


def test_seconds_without_good_samples_count_as_nothing() -> None:
    def until_minute_five(k: int) -> float:
        return sun(16.0)(k) if k <= 5 else float("nan")

    body = account_interval(interval(plant(until_minute_five)))
    (told,) = body["plants"]
    assert told["coveredSeconds"] == pytest.approx(300)
    assert told["deliveredKwh"] == pytest.approx(16.0 * 5 / 60)
    assert told["missing"] == NO_GOOD_SAMPLES


@pytest.mark.parametrize(("silent", "covered_s"), [(range(5, 9), 900.0), (range(5, 12), 420.0)])
def test_a_silence_of_five_minutes_is_bridged_and_a_longer_one_counts_as_nothing(
    silent: range, covered_s: float
) -> None:
    whole = plant(sun(16.0))
    heard = [(at, w) for k, at, w in zip(range(-4, 20), AT, whole.meter.values, strict=True) if k not in silent]
    at_s, values = zip(*heard, strict=True)
    (told,) = account_interval(interval(replace(whole, meter=Samples(at_s=at_s, values=values))))["plants"]
    assert told["coveredSeconds"] == pytest.approx(covered_s)
    assert told["deliveredKwh"] == pytest.approx(16.0 * covered_s / 3600.0, rel=0.01)


def test_an_inverter_that_draws_a_little_at_night_is_read_and_delivers_nothing() -> None:
    body = account_interval(interval(plant(lambda k: -20.0 - k % 2)))
    assert body["plants"] == [{"name": "roof", "kind": "Solar", "deliveredKwh": 0.0, "coveredSeconds": 900.0}]


def test_a_meter_that_is_told_anew_only_every_quarter_of_an_hour_counts() -> None:
    body = account_interval(interval(plant(lambda k: 16_000.0 if k < 15 else 15_000.0)))
    assert body["adds"]["onSite"]["Solar"]["deliveredKwh"] == pytest.approx(4.0, rel=0.01)


def test_where_the_power_sensor_leaves_out_what_the_plants_supply_nothing_counts_twice() -> None:
    body = account_interval(interval(plant(sun(16.0)), meter_w=9_600.0))
    assert body["plants"][0]["missing"] == NO_DRAW
    assert body["adds"]["grams"][LIFE] == pytest.approx(2.4 * 400)
    for part, missing in ((0.89, NO_DRAW), (0.91, None)):
        (told,) = account_interval(interval(plant(sun(16.0)), meter_w=part * 21_200.0))["plants"]
        assert told.get("missing") == missing


def test_other_prices_come_to_what_they_would_have_come_to_at_first() -> None:
    known = interval(plant(sun(30.0)), plant(sun(4.0), name="mill", kind="Wind"))
    later = (price(LIFE, 250.0), price(DIRECT, 0.0))
    first = adds(interval(*known.plants, prices=later))
    again = repriced(adds(known), later, None)
    for table in ("grams", "sparedGrams"):
        assert again[table] == pytest.approx(first[table])
        assert again["workloads"]["a"][table] == pytest.approx(first["workloads"]["a"][table])


def test_the_plants_factors_are_those_that_a_grids_mix_is_reckoned_by() -> None:
    for kind, factors in ((LIFE, LIFECYCLE_AR5), (DIRECT, DIRECT_EIA)):
        assert G_PER_KWH[kind] == {name: factors.grams_per_kwh[name.lower()] for name in ("Solar", "Wind")}
