# SPDX-License-Identifier: Apache-2.0
"""Whose a GPU's energy is: labels of its samples, corrected by when the cluster saw pods come and go; pure.

Samples are a minute apart, and what they are labelled with may be older still. The cluster knows to the second when
a pod came and went. Between two samples that show different holders, the energy is therefore divided at that second,
and by the power that each was seen to draw just before or after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from embellie.accounting.known import Gang, GpuMeter, Stay
from embellie.accounting.meters import Steps, counter_steps, power_steps
from embellie.accounting.unseen import Free, unseen_kwh
from embellie.domain.forecast import FloatArray

GPU_MAX_W = 2500.0
"""More than any GPU can draw: a step of a counter beyond it is no energy [W]."""
LATE_LABEL_S = 120.0
"""A label is taken to lag behind what the cluster saw by at most two scrapes; what contradicts it for longer is not
corrected by it [s]."""


@dataclass(slots=True)
class Used:
    """What the GPUs of one gang drew on one node, by stretch of the interval."""

    kwh: FloatArray
    covered_s: FloatArray
    guessed: bool = False
    """Which of several GPUs were the gang's, no sample says."""


@dataclass(slots=True)
class _Presence:
    """A gang holds a GPU over [start_s, end_s)."""

    uid: str
    weight: float
    start_s: float
    end_s: float
    seen_s: float
    """When a sample first showed it."""
    left_s: float
    """When a sample last showed it."""
    wish_s: float
    """Since when it was there by the cluster's account, at most `LATE_LABEL_S` before a sample showed it."""


def gpu_use(
    gpus: Sequence[GpuMeter],
    gangs: Sequence[Gang],
    *,
    idle_w: Mapping[str, float],
    edges_s: Mapping[str, FloatArray],
    longest_s: float,
) -> dict[tuple[str, str], Used]:
    """Return what each gang's GPUs drew on each node, as far as it was measured.

    Args:
        gpus: Counters or power of the GPUs, with their labels.
        gangs: Whose pods came and went when.
        idle_w: Node -> what one of its GPUs draws without work [W].
        edges_s: Node -> edges of the stretches that are asked for [s].
        longest_s: A power meter's longer silence is not bridged [s].
    """
    used: dict[tuple[str, str], Used] = {}
    stays: dict[str, dict[str, list[Stay]]] = {}
    for gang in gangs:
        for stay in gang.stays:
            stays.setdefault(stay.node, {}).setdefault(gang.uid, []).append(stay)
    metered = [
        (gpu, steps, _presences(gpu, steps, stays.get(gpu.node, {})))
        for gpu in gpus
        if gpu.node in edges_s and (steps := _steps(gpu, longest_s)).joules.size
    ]
    seen = {(one.uid, gpu.node) for gpu, _, found in metered for one in found}
    unseen = {
        node: {uid: mine for uid, mine in of_node.items() if (uid, node) not in seen} for node, of_node in stays.items()
    }
    free: dict[str, list[Free]] = {}
    for gpu, whole, found in metered:
        edges, idle = edges_s[gpu.node], idle_w.get(gpu.node, 0.0)
        missing = unseen.get(gpu.node, {})
        steps = _divided(gpu, whole, found, idle, longest_s, [stay for mine in missing.values() for stay in mine])
        shares = _shares(steps, found)
        if missing:
            free.setdefault(gpu.node, []).extend(_free(steps, shares, idle))
        for uid, share in shares.items():
            part = steps.between(edges, share)
            entry = used.get((uid, gpu.node))
            if entry is None:
                used[uid, gpu.node] = Used(part.kwh, part.covered_s)
            else:
                entry.kwh = entry.kwh + part.kwh
                entry.covered_s = entry.covered_s + part.covered_s
    for node, parts in free.items():
        told = unseen_kwh(parts, unseen[node], edges_s[node], idle_w=idle_w.get(node, 0.0), most_w=GPU_MAX_W)
        used |= {(uid, node): Used(kwh, there_s, guessed=True) for uid, (kwh, there_s) in told.items()}
    return used


def _free(steps: Steps, shares: Mapping[str, FloatArray], idle_w: float) -> list[Free]:
    """Return the stretches in which nobody was seen to hold a GPU."""
    nobody = (sum(shares.values(), np.zeros_like(steps.joules)) <= 0.0) & (steps.known > 0.0) & (steps.guessed <= 0.0)
    first, last = steps.at_s[:-1][nobody], steps.at_s[1:][nobody]
    above = steps.joules[nobody] - idle_w * (last - first)
    return [Free(a, b, j) for a, b, j in zip(first.tolist(), last.tolist(), above.tolist(), strict=True)]


def _steps(gpu: GpuMeter, longest_s: float, changes_s: Sequence[float] = ()) -> Steps:
    samples = gpu.samples
    if gpu.counter:
        # No GPU draws nothing: a counter that stands still all the time is broken, and tells nothing.
        frozen = len(set(samples.values)) == 1 and max(samples.at_s) - min(samples.at_s) > longest_s
        at_s, joules = ((), ()) if frozen else (samples.at_s, samples.values)
        return counter_steps(at_s, joules, max_w=GPU_MAX_W)
    return power_steps(samples.at_s, samples.values, max_w=GPU_MAX_W, longest_s=longest_s, changes_s=changes_s)


def _presences(gpu: GpuMeter, steps: Steps, stays: Mapping[str, Sequence[Stay]]) -> list[_Presence]:
    """Return who held a GPU when; `stays` are those of its node, by gang."""
    by_time = dict(zip(gpu.samples.at_s, gpu.holders, strict=False))
    at_s = steps.at_s.tolist()
    held = [by_time.get(moment_s, {}) for moment_s in at_s]
    found = []
    for uid in {uid: None for holders in held for uid in holders}:
        k = 0
        while k < len(held):
            if uid not in held[k]:
                k += 1
                continue
            first = k
            while k + 1 < len(held) and uid in held[k + 1]:
                k += 1
            found.append(_presence(uid, held[first][uid], at_s, first, k, stays.get(uid, ())))
            k += 1
    for one in found:
        # A late label is put right only over time in which nobody else was there.
        others = [o.end_s for o in found if o.uid != one.uid and o.start_s < one.start_s and o.end_s > one.wish_s]
        one.start_s = min(one.start_s, max([one.wish_s, *others]))
        for other in found:
            # Whoever was gone when this one was first seen left no later than it came: ends are noticed late.
            if other.left_s < one.seen_s:
                other.end_s = min(other.end_s, max(one.start_s, other.left_s))
    return [one for one in found if one.end_s > one.start_s]


def _presence(
    uid: str, weight: float, at_s: Sequence[float], first: int, last: int, stays: Sequence[Stay]
) -> _Presence:
    """Return one stretch in which consecutive samples, from `first` to `last`, show a gang."""
    start = wish = seen = at_s[first]
    end = at_s[last]
    if first > 0:
        before = at_s[first - 1]
        came = [stay.start_s for stay in stays if stay.start_s < seen and stay.end_s > before]
        if came:
            start = max(before, min(came))
            wish = min(came) if before > min(came) >= seen - LATE_LABEL_S else start
        elif not stays:
            start = wish = (before + seen) / 2.0
    gone = [stay.end_s for stay in stays if stay.start_s <= end]
    if gone and end - LATE_LABEL_S <= max(gone) <= end:
        # The label is older than the end.
        end = max(start, *gone)
    elif last + 1 < len(at_s):
        after = at_s[last + 1]
        if not stays:
            end = (end + after) / 2.0
        elif gone:
            end = max(end, min(after, max(gone)))
    return _Presence(uid, weight, start, end, seen, at_s[last], min(start, wish))


def _divided(
    gpu: GpuMeter,
    steps: Steps,
    found: Sequence[_Presence],
    idle_w: float,
    longest_s: float,
    unseen: Sequence[Stay] = (),
) -> Steps:
    """Divide the steps in which somebody came or went at that instant.

    What nobody is seen to hold draws idle power, but where work was on the node that no sample shows.
    """
    times = steps.at_s
    moments = np.unique([moment for one in found for moment in (one.start_s, one.end_s)])
    inside = (moments > times[0]) & (moments < times[-1])
    if not inside.any():
        return steps
    if not gpu.counter:
        return _steps(gpu, longest_s, moments[inside].tolist())
    knots = moments[inside & ~np.isin(moments, times)]
    if knots.size == 0:
        return steps
    index = np.searchsorted(times, knots) - 1
    of_step: dict[int, list[float]] = {}
    for k, knot in zip(index.tolist(), knots.tolist(), strict=True):
        of_step.setdefault(k, []).append(knot)

    def there(first_s: float, last_s: float) -> tuple[str, ...]:
        return tuple(sorted({o.uid for o in found if o.start_s <= first_s and o.end_s >= last_s}))

    def power(k: int) -> tuple[tuple[str, ...], float] | None:
        """Return who held the GPU over a whole undivided step, and what it drew [W]."""
        if not 0 <= k < steps.joules.size or k in of_step or not steps.known[k] or steps.guessed[k]:
            return None
        return there(times[k], times[k + 1]), float(steps.joules[k] / (times[k + 1] - times[k]))

    parts = {}
    for k, cuts in of_step.items():
        bounds = np.array([times[k], *cuts, times[k + 1]])
        known_w = dict(one for one in (power(k - 1), power(k + 1)) if one is not None)
        known_w[()] = idle_w
        who = [there(a, b) for a, b in pairwise(bounds)]
        watts = [
            None if not one and any(stay.start_s < b and stay.end_s > a for stay in unseen) else known_w.get(one)
            for one, (a, b) in zip(who, pairwise(bounds), strict=True)
        ]
        parts[k] = (cuts, _spread(float(steps.joules[k]), np.diff(bounds), watts, who))
    return steps.divided(parts)


def _spread(
    joules: float, length_s: FloatArray, watts: Sequence[float | None], who: Sequence[tuple[str, ...]]
) -> list[float]:
    """Divide a step's energy among its parts.

    What nobody held drew idle power, and who was seen alone before or after draws as much here; the rest is whose
    power is not known. Where all is known, those who held the GPU answer for the difference.
    """
    expected = np.array([0.0 if w is None else w for w in watts]) * length_s
    open_ = np.array([w is None for w in watts])
    if not open_.any():
        open_ = np.array([bool(one) for one in who])
        weight = np.where(open_, np.maximum(expected, 1e-9), 0.0)
    else:
        weight = np.where(open_, length_s, 0.0)
    rest = joules - float(expected[~open_].sum())
    if rest < 0.0 or not weight.sum():
        whole = float(expected.sum())
        return [float(v) for v in (joules * expected / whole if whole > 0.0 else joules * length_s / length_s.sum())]
    return [float(v) for v in np.where(open_, rest * weight / weight.sum(), expected)]


def _shares(steps: Steps, found: Sequence[_Presence]) -> dict[str, FloatArray]:
    """Return by gang which share of the GPU it has in each step: equal on a shared card, or by its slices."""
    middle = (steps.at_s[1:] + steps.at_s[:-1]) / 2.0
    shares: dict[str, FloatArray] = {}
    for one in found:
        inside = np.where((one.start_s <= middle) & (middle < one.end_s), one.weight, 0.0)
        shares[one.uid] = np.maximum(shares[one.uid], inside) if one.uid in shares else inside
    whole = sum(shares.values(), np.zeros_like(middle))
    return {uid: np.divide(part, whole, out=np.zeros_like(part), where=whole > 0.0) for uid, part in shares.items()}
