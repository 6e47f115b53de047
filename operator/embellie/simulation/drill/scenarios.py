# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in each drill, and when. Everything is drawn from the seed.

A drill begins at 05:00 local time of a warm day and lasts 26 hours, so that it holds an afternoon and a night; the
month holds one of each kind of trouble, a few days apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from embellie.simulation.drill.commission import Wrong
from embellie.simulation.drill.survey import Wear
from embellie.simulation.plant.weather import REGIONS, Weather, hottest_days, regional

HOUR_S = 3600.0
DAY_HOURS = 26
MONTH_HOURS = 30 * 24
BEGIN_HOUR_UTC = 12
_AFTERNOON_H = 8.5
"""From the beginning to the hottest hour."""


class Kind(StrEnum):
    """What can go wrong with a room, its sensors or its contract."""

    WEAR = "cooling"
    STUCK = "stuck"
    LIE = "lie"
    SILENT = "silent"
    DELAY = "delay"
    GANG = "gang"
    CEILING = "ceiling"
    CONTRACT = "contract"
    ORDER = "order"


PHYSICAL = frozenset({Kind.WEAR, Kind.CONTRACT})
"""Troubles that strike what already runs: only what is started after their onset can be laid at our door."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that goes wrong from `begin_s` to `end_s`."""

    kind: Kind
    begin_s: float
    end_s: float
    wear: Wear = field(default_factory=Wear)
    signals: tuple[str, ...] = ()
    """Sensors that are concerned; a trailing `*` matches any ending."""
    amount: float = 0.0
    """Kelvin of a lie, seconds of a delay, GPUs of a gang, share of the contract or ceiling that is left."""
    notice_s: float = 0.0

    def active(self, now_s: float) -> bool:
        """Tell whether it goes wrong now."""
        return self.begin_s <= now_s < self.end_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """A scenario with everything drawn."""

    name: str
    seed: int
    hours: int
    weather: Weather
    troubles: tuple[Trouble, ...]
    wrong: Wrong = field(default_factory=Wrong)
    utilisation: float = 0.92

    @property
    def span_s(self) -> float:
        """Length [s]."""
        return self.hours * HOUR_S


_Draw = Callable[[np.random.Generator, float], tuple[Trouble, ...]]
"""From the seed's generator and the time of the hottest hour [s] to the troubles."""


def _none(_rng: np.random.Generator, _noon: float) -> tuple[Trouble, ...]:
    return ()


def _at(rng: np.random.Generator, noon_s: float, before_h: float = 3.0, after_h: float = 1.0) -> float:
    return noon_s + HOUR_S * float(rng.uniform(-before_h, after_h))


def _crac(rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    begin = _at(rng, noon)
    # What is left is not always what the nameplate says: filters clog, belts slip.
    wear = Wear(crac_lost=1, crac_share=float(rng.uniform(0.5, 0.9)))
    return (Trouble(kind=Kind.WEAR, begin_s=begin, end_s=begin + HOUR_S * float(rng.uniform(2, 6)), wear=wear),)


def _pump(rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    begin = _at(rng, noon)
    wear = Wear(flow_share=float(rng.uniform(0.15, 0.6)))
    return (Trouble(kind=Kind.WEAR, begin_s=begin, end_s=begin + HOUR_S * float(rng.uniform(1, 5)), wear=wear),)


def _frozen(rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    begin = _at(rng, noon, 6.0, 0.0)
    signals = ("row-*", "loop/supply", "loop/return") if rng.random() < 0.5 else ("row-a/inlet", "loop/supply")
    return (Trouble(kind=Kind.STUCK, begin_s=begin, end_s=begin + 6 * HOUR_S, signals=signals),)


def _lying(rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    begin = _at(rng, noon, 6.0, 0.0)
    signals = ("row-*", "hall/*", "loop/*") if rng.random() < 0.5 else ("row-*", "loop/supply")
    return (Trouble(kind=Kind.LIE, begin_s=begin, end_s=begin + 12 * HOUR_S, signals=signals, amount=-5.0),)


def _silent(rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    begin = _at(rng, noon)
    return (Trouble(kind=Kind.SILENT, begin_s=begin, end_s=begin + 1800.0, signals=("*",)),)


def _delay(_rng: np.random.Generator, _noon: float) -> tuple[Trouble, ...]:
    return (Trouble(kind=Kind.DELAY, begin_s=0.0, end_s=np.inf, amount=60.0),)


def _gang(rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    begin = _at(rng, noon, 5.0, 0.0)
    return (Trouble(kind=Kind.GANG, begin_s=begin, end_s=begin + 1.0, amount=512),)


def _network(rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    begin = _at(rng, noon)
    return (
        Trouble(
            kind=Kind.WEAR,
            begin_s=begin,
            end_s=begin + HOUR_S * float(rng.uniform(3, 8)),
            wear=Wear(network=False),
        ),
    )


def _night(rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    # 22:00 to 06:00 local time; the begin of a drill is 05:00.
    begin = noon - _AFTERNOON_H * HOUR_S + 17 * HOUR_S
    left = float(rng.uniform(0.3, 0.45))
    return (Trouble(kind=Kind.CEILING, begin_s=begin, end_s=begin + 8 * HOUR_S, amount=left),)


def _contract(rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    begin = _at(rng, noon)
    return (
        Trouble(
            kind=Kind.CONTRACT,
            begin_s=begin,
            end_s=begin + HOUR_S * float(rng.uniform(2, 5)),
            amount=0.7,
            notice_s=float(rng.choice((900.0, 1800.0, 3600.0))),
        ),
    )


def _order(_rng: np.random.Generator, noon: float) -> tuple[Trouble, ...]:
    # 18:00 to 21:00 local time.
    begin = noon - _AFTERNOON_H * HOUR_S + 13 * HOUR_S
    return (Trouble(kind=Kind.ORDER, begin_s=begin, end_s=begin + 3 * HOUR_S, amount=0.7, notice_s=6 * HOUR_S),)


_DRAWS: dict[str, _Draw] = {
    "heatwave": _none,
    "loss-of-crac": _crac,
    "loss-of-cdu-pump": _pump,
    "frozen-sensor": _frozen,
    "lying-sensor": _lying,
    "no-telemetry": _silent,
    "delay-60s": _delay,
    "model-wrong": _none,
    "gang-512": _gang,
    "heat-network-trip": _network,
    "night-ceiling": _night,
    "contract-lowered": _contract,
}
MONTH = "month"
SCENARIOS = (*_DRAWS, MONTH)
"""What `all` means."""
ORDER = "order-ahead"
NAMES = (*SCENARIOS, ORDER)
"""All that can be asked for; a scenario's place seeds what is drawn for it."""
_EXTRA_HEAT_K = {
    "heatwave": 12.0,
    "frozen-sensor": 11.0,
    "lying-sensor": 11.0,
    "no-telemetry": 11.0,
    "delay-60s": 11.0,
    "model-wrong": 11.0,
    "gang-512": 9.0,
    "heat-network-trip": 9.0,
}
"""How much hotter the site is than the region it lies in; a trouble shows only where there is little room."""
_WARM_K = 4.0


def course(name: str, seed: int) -> Course:
    """Draw a scenario."""
    if name not in NAMES:
        raise ValueError(f"unknown scenario {name!r}: one of {', '.join(NAMES)}, or all")
    rng = np.random.default_rng([seed, NAMES.index(name)])
    region = REGIONS[seed % len(REGIONS)]
    days = hottest_days(region, 24)
    hours = MONTH_HOURS if name == MONTH else DAY_HOURS
    first = days[int(rng.integers(0, 6 if name == "heatwave" else len(days)))] + BEGIN_HOUR_UTC
    if name == MONTH:
        first -= 24 * 10
    weather = regional(region).window(first, hours + 72).hotter(_EXTRA_HEAT_K.get(name, _WARM_K))
    wrong = Wrong()
    troubles: tuple[Trouble, ...]
    if name == MONTH:
        found: list[Trouble] = []
        for k, draw in enumerate(d for n, d in _DRAWS.items() if n not in ("heatwave", "model-wrong", "delay-60s")):
            found += draw(rng, (3 * k + 1) * 24 * HOUR_S + _AFTERNOON_H * HOUR_S)
        late = 28 * 24 * HOUR_S
        found.append(Trouble(kind=Kind.DELAY, begin_s=late, end_s=late + 24 * HOUR_S, amount=60.0))
        troubles = tuple(found)
    else:
        draw = _order if name == ORDER else _DRAWS[name]
        troubles = draw(rng, _AFTERNOON_H * HOUR_S)
    if name in ("model-wrong", MONTH):
        wrong = Wrong(
            rise=float(rng.choice((0.8, 1.2))),
            tau=float(rng.choice((0.8, 1.2))),
            approach=float(rng.choice((0.8, 1.2))),
        )
    return Course(name=name, seed=seed, hours=hours, weather=weather, troubles=troubles, wrong=wrong)
