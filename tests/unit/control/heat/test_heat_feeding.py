# SPDX-License-Identifier: Apache-2.0
"""What is learnt of regimes and of PUE, and from the past."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from told_power import told

from embellie.control.heat.heat_desk import HeatDesk
from embellie.control.heat.power import PowerBook
from embellie.control.heat.pue import PueBook
from embellie.domain.snapshot import Quality, Reading
from embellie.telemetry.tables import QueryError, TooLongError
from embellie.thermal.regime import Regimes


def test_fans_that_follow_the_load_are_one_regime_and_fans_that_change_gear_alone_are_another():
    regimes = Regimes()
    for rpm, watts in ((5000, 1000), (7500, 4000), (5100, 1050), (5200, 1040)):
        regimes.observe("a", rpm, watts)
    assert regimes.of(["a"]) == 0
    regimes.observe("a", 9000, 1040)
    assert regimes.of(["a"]) > 0
    assert regimes.of(["a", "unknown"]) == regimes.of(["a"])
    regimes.observe("a", float("nan"), 1040)
    assert regimes.of([]) == 0


def test_gpus_that_heat_slows_down_are_a_regime_until_they_run_free_again():
    regimes = Regimes()
    seen = []
    for throttle_s in (10.0, 10.0, 40.0, 70.0, 70.0, 0.0):
        regimes.observe("a", float("nan"), 1000.0, throttle_s)
        seen.append(regimes.of(["a"]))
    assert seen == [0, 0, 2, 2, 4, 4]


def test_one_node_of_many_is_no_other_regime_of_the_zone():
    regimes = Regimes()
    names_ = [f"n{i}" for i in range(8)]
    for name in names_:
        regimes.observe(name, 5000, 1000)
    regimes.observe("n0", 9000, 1000)
    assert regimes.of(names_) == 0
    for name in names_[1:5]:
        regimes.observe(name, 9000, 1000)
    assert regimes.of(names_) == 1


def test_pue_is_learnt_from_the_meters_and_holds_only_where_the_weather_was_seen():
    book, power = PueBook(), PowerBook()
    random = np.random.default_rng(0)
    said = np.array([1.5, 1.5, 1.5])
    ahead = np.array([8.0, 35.0, np.nan])
    for _ in range(400):
        it_kw, outdoor = random.uniform(40, 60), random.uniform(5, 12)
        power.take([told("node_power", 1000.0 * it_kw, "a")])
        meter = {"west": Reading(value=1.1 * it_kw, age_s=1.0, quality=Quality.FRESH)}
        for _ in range(3):
            # Turns come faster than the nodes are read.
            book.observe(meter, power, {"west": ("a",)}, {"west": outdoor})
    assert book.ahead("west", ahead, said) == pytest.approx([1.1, 1.5, 1.5], abs=0.02)
    assert list(book.ahead("east", ahead, said)) == list(said)
    power.take([told("node_power", 50_000.0, "a")])
    book.observe({"east": replace(meter["west"], quality=Quality.STALE)}, power, {"east": ("a",)}, {})
    assert list(book.ahead("east", ahead, said)) == list(said)


@pytest.mark.parametrize(("error", "asked"), [(TooLongError("64 MiB"), 1), (QueryError("it is away"), 3)])
def test_a_past_that_is_too_long_to_be_read_is_asked_for_once(error: QueryError, asked: int):
    asks: list[float] = []

    class Tables:
        def series(self, *_: object) -> tuple[()]:
            return ()

    def learn(now_s: float) -> None:
        asks.append(now_s)
        raise error

    heat: Any = HeatDesk(Tables())  # type: ignore[arg-type]  # it is asked for no range
    ends = iter([False, False, False, True])
    heat.learn, heat._stop = learn, SimpleNamespace(wait=lambda _seconds: next(ends))
    heat._run()
    assert len(asks) == asked
