# SPDX-License-Identifier: Apache-2.0
"""The price search: raises the Lagrangian bound by supergradient steps.

Adam's steps (Kingma and Ba, ICLR 2015) on prices scaled by each row's capacity, projected on prices >= 0, with a rate
that falls geometrically, and the running mean of the prices tried beside the last ones: the dual of thousands of small
jobs is nearly smooth, and its mean iterate is nearly always better than any single one.

Where far more is wanted than there is, each slot's price swings about a level that rises slowly: work moves from slot
to slot, and what a slot lacks changes its sign from step to step. What a zone's slots lack in the mean does not. So in
a search of many steps the prices of a zone or group also rise and fall together, ever less.

Adam's first step has the full length however small a row's lack is. So a search that begins with the last turn's
prices counts its steps in how far the costs of slots lie apart: in units of the costs themselves one step would undo
what turns have learnt where hours are much alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.dual import Lagrangian
from embellie.planning.solving.inputs import most_wanted_price, no_prices
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.problem import Prices

_FIRST_RATE, _LAST_RATE = 0.3, 0.02
_WARM_FIRST_RATE, _WARM_LAST_RATE = 0.2, 0.05
"""Of how far the costs of slots lie apart."""
_LEAST_SPREAD = 0.01
_TOGETHER, _MANY = 3.0, 100
"""How far all prices of a zone move together at first, in steps of single ones; and of how many steps on. Few steps are
not enough to settle again afterwards."""
_MOMENTUM, _WARM_MOMENTUM, _SECOND = 0.9, 0.5, 0.95
_MEAN_WEIGHT = 0.1
_MEAN_EVERY = 10
_TINY = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The best prices of a search."""

    prices: Prices
    value: float
    iterations: int


class _Adam:
    """Directions of Adam: about 1 long where gradients agree, short where they change their sign."""

    def __init__(self, shape: tuple[int, ...], momentum: float) -> None:
        self._first, self._second, self._momentum, self._done = np.zeros(shape), np.zeros(shape), momentum, 0

    def direction(self, gradient: FloatArray) -> FloatArray:
        self._done += 1
        self._first = self._momentum * self._first + (1 - self._momentum) * gradient
        self._second = _SECOND * self._second + (1 - _SECOND) * gradient * gradient
        first = self._first / (1 - self._momentum**self._done)
        second = self._second / (1 - _SECOND**self._done)
        return np.asarray(first / (np.sqrt(second) + _TINY))


class Search:
    """A price search that can be stopped and continued."""

    def __init__(self, compiled: Compiled, lagrangian: Lagrangian, *, iterations: int, warm: Prices | None) -> None:
        self._lagrangian = lagrangian
        self._planned = max(1, iterations)
        zones = compiled.problem.zones
        blank = no_prices(compiled.problem)
        rows = [blank.gpu, blank.power, blank.heat, blank.wanted]
        self._split = np.cumsum([part.shape[0] for part in rows])[:-1]
        capacity = np.concatenate([zones.gpus, zones.power_kw, zones.heat_kw, zones.wanted_kw])
        # A row without a limit keeps the price 0; one without any capacity counts as the smallest job.
        self._free = np.isfinite(capacity)
        # Wanted power that is short costs so much and no more.
        self._most = np.full(capacity.shape, np.inf)
        self._most[self._split[-1] :] = most_wanted_price(compiled.problem)
        self._scale = np.maximum(np.where(self._free, capacity, 1.0), 1.0)
        self._unit = np.concatenate(
            [
                *(np.full(part.shape, unit) for part, unit in zip(rows[:3], _units(compiled), strict=True)),
                self._most[self._split[-1] :],
            ]
        )
        start = warm if warm is not None else blank
        self._at = np.concatenate([start.gpu, start.power, start.heat, start.wanted])
        self._rates, momentum = (_FIRST_RATE, _LAST_RATE), _MOMENTUM
        if warm is not None:
            self._rates, momentum = (_WARM_FIRST_RATE, _WARM_LAST_RATE), _WARM_MOMENTUM
            self._unit[: self._split[-1]] *= _spread(compiled)
        self._single, self._together = (_Adam(shape, momentum) for shape in (self._at.shape, (self._at.shape[0], 1)))
        self._together_rate = 0.0
        self._mean: FloatArray | None = None
        self.done = 0
        self.best = Found(prices=blank, value=-math.inf, iterations=0)

    def plan_for(self, iterations: int) -> None:
        """Set how many steps are to be made in all; the rate falls accordingly."""
        self._planned = max(1, iterations)
        self._together_rate = _TOGETHER if iterations >= _MANY else 0.0

    def run(self, until: int, stop: Callable[[], bool]) -> None:
        """Go on until so many steps are made in all, or `stop` says so."""
        while self.done < until and not stop():
            self._step()

    def _prices(self, at: FloatArray) -> Prices:
        gpu, power, heat, wanted = np.split(at, self._split)
        return Prices(gpu=gpu, power=power, heat=heat, wanted=wanted)

    def _evaluate(self, at: FloatArray) -> FloatArray:
        outcome = self._lagrangian.evaluate(self._prices(at))
        if outcome.value > self.best.value:
            self.best = Found(prices=self._prices(at.copy()), value=outcome.value, iterations=self.done)
        return np.concatenate([outcome.gpu_over, outcome.power_over, outcome.heat_over, outcome.wanted_short])

    def _step(self) -> None:
        over = np.where(self._free, self._evaluate(self._at), 0.0) / self._scale
        self.done += 1
        n, done = self.done, min(1.0, self.done / self._planned)
        step = self._single.direction(over)
        if self._together_rate > 0.0:
            mean = np.where((self._at > 0.0) | (over > 0.0), over, 0.0).mean(axis=1, keepdims=True)
            step += self._together_rate * (1.0 - done) ** 2 * self._together.direction(mean)
        first_rate, last_rate = self._rates
        rate = first_rate * (last_rate / first_rate) ** done
        self._at = np.clip(self._at + rate * self._unit * step, 0.0, self._most)
        self._mean = (
            self._at.copy() if self._mean is None else ((1 - _MEAN_WEIGHT) * self._mean + _MEAN_WEIGHT * self._at)
        )
        if n % _MEAN_EVERY == 0 or n == self._planned:
            self._evaluate(np.minimum(self._mean, self._most))


def _units(compiled: Compiled) -> tuple[float, float, float]:
    """Return what a GPU, a facility kW and a kW of heat pay for energy in a slot, in the mean: the prices' scale."""
    c = compiled
    if not c.job.size:
        return 1.0, 1.0, 1.0
    rate = float(np.abs(c.rates).mean()) * float(c.hours.mean())
    energy = float(c.power_kw.sum()) * rate
    kw = max(float(c.limit_kw.sum()), 1e-9)
    gpu = energy / max(float(c.gpus.sum()), 1.0)
    return max(gpu, 1e-6), max(energy / kw, 1e-6), max(energy / kw, 1e-6)


def _spread(compiled: Compiled) -> float:
    """Return how far the costs of a zone's slots lie apart, as a part of their mean, in the mean over zones.

    How far zones lie apart does not count: what is bound to one must share its hours all the same.
    """
    mean = np.abs(compiled.rates).mean(axis=-1)
    apart = compiled.rates.std(axis=-1)[mean > 0.0] / mean[mean > 0.0]
    return float(np.clip(apart.mean(), _LEAST_SPREAD, 1.0)) if apart.size else 1.0
