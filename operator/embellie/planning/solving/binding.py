# SPDX-License-Identifier: Apache-2.0
"""What binds each decision, told by the prices: the row that made a job's own cheapest start too dear."""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.dual import limit_prices
from embellie.planning.solving.inputs import no_prices
from embellie.planning.solving.place import Placer
from embellie.planning.solving.problem import Binding, IntArray, Place, Prices
from embellie.planning.solving.room import Room
from embellie.planning.solving.wanted import by_zone, load_kw

_SAME = 1e-6
_CHUNK = 512


def binding_rows(placer: Placer, prices: Prices, places: list[Place | None]) -> IntArray:
    """Return a `Binding` for each job, shape (J,).

    A job that starts at once is bound by nothing. Else its own cheapest place in an empty world tells: where that is
    what it got, it waits for cheaper hours; where not, the row that takes most of the price there is what binds, or
    the wanted power that it draws elsewhere where that is worth more.
    """
    c, problem = placer.c, placer.c.problem
    count = problem.jobs.count
    out = np.full(count, Binding.UNPLACED, dtype=np.int64)
    placer.set_prices(no_prices(problem))
    limit, wanted = limit_prices(prices, c), by_zone(prices.wanted, c)
    empty, costs = Room(c), placer.true_costs(places)
    late = []
    for job, place in enumerate(places):
        if place is None:
            continue
        first = int(place.where.start) if isinstance(place.where, slice) else int(place.where[0])
        if first <= problem.jobs.release[job]:
            out[job] = Binding.NONE
        else:
            late.append(job)
    for begin in range(0, len(late), _CHUNK):
        batch = np.array(late[begin : begin + _CHUNK], dtype=np.int64)
        for job, own in zip(batch.tolist(), placer.choose(empty, batch), strict=True):
            place = places[job]
            if own is None or place is None or own.cost >= costs[job] * (1 - _SAME) - _SAME:
                out[job] = Binding.CHEAPER
                continue
            row, dear = _dearest(placer, prices, limit, own)
            gain = _earned(placer, wanted, place) - _earned(placer, wanted, own)
            out[job] = Binding.WANTED if gain > dear else row
    return out


def _earned(placer: Placer, wanted: FloatArray, place: Place) -> float:
    """Return what a place earns by the prices of wanted power, shape of `wanted`: (Z, T)."""
    return float((wanted[place.zone, place.where] * load_kw(placer.c, place.option, place.where)).sum())


def _dearest(placer: Placer, prices: Prices, limit: FloatArray, own: Place) -> tuple[Binding, float]:
    """Return the row that asks most of a place, and how much."""
    c, zones = placer.c, placer.c.problem.zones
    o, z = own.option, own.zone
    gpu = float(c.gpus[o] * prices.gpu[z][own.where].sum())
    whole = float(c.limit_kw[o] * limit[z][own.limit_where].sum())
    heat_row = zones.heat_group[z]
    heat = float(c.limit_kw[o] * prices.heat[heat_row][own.limit_where].sum()) if heat_row >= 0 else 0.0
    power = whole - heat
    if max(gpu, power, heat) <= 0.0 and zones.ramp_group[z] >= 0:
        return Binding.RAMP, 0.0
    return dearest(gpu, power, heat), max(gpu, power, heat)


def dearest(gpu: float, power: float, heat: float) -> Binding:
    """Return the row that asks most; of equals GPUs, then heat.

    >>> dearest(1.0, 3.0, 2.0)
    <Binding.POWER: 3>
    """
    most = max(gpu, heat, power)
    if most <= 0.0 or most == gpu:
        return Binding.GPUS
    return Binding.HEAT if most == heat else Binding.POWER
