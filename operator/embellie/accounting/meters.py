# SPDX-License-Identifier: Apache-2.0
"""Energy by slot out of samples of counters and of power; pure.

A counter's samples give one cumulative curve, which is read at the edges of slots by linear interpolation.
Neighbouring slots therefore share their edge exactly: whatever is scraped, missed, reset or scraped twice, no joule is
counted twice, and one that cannot be known is not counted but shows as seconds without cover.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray

J_PER_KWH = 3.6e6
LONGEST_GAP_S = 86400.0
"""A counter that was silent for longer tells nothing about when it counted [s]."""


NOTICED_S = 15.0
"""So late the end of work is noticed: a turn [s]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotEnergy:
    """Energy by slot, and for how long of each slot it is known."""

    kwh: FloatArray
    covered_s: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What happened between consecutive samples: instants, energy [J], and (1 or 0) whether it is known or a guess."""

    at_s: FloatArray
    joules: FloatArray
    known: FloatArray
    guessed: FloatArray

    def between(self, edges_s: FloatArray, weight: FloatArray | None = None) -> SlotEnergy:
        """Read the energy between consecutive edges; `weight` scales each step (a share that somebody holds)."""
        part = np.ones_like(self.joules) if weight is None else weight
        length = np.diff(self.at_s)
        return SlotEnergy(
            kwh=self._read(self.joules * part, edges_s) / J_PER_KWH,
            covered_s=self._read(length * self.known * part, edges_s),
        )

    def divided(self, parts: Mapping[int, tuple[Sequence[float], Sequence[float]]]) -> "Steps":
        """Return the same with some steps divided; each part is as well known as its whole.

        Args:
            parts: Step -> instants within it, in order [s], and the energy of each of its parts [J].
        """
        if not parts:
            return self
        at, joules, known, guessed = [self.at_s[:1]], [], [], []
        done = 0
        for k in sorted(parts):
            cuts, found = parts[k]
            ends = np.array([*cuts, self.at_s[k + 1]])
            # A part without length is none.
            lasting = np.diff(np.concatenate(([self.at_s[k]], ends))) > 0.0
            at += [self.at_s[done + 1 : k + 1], ends[lasting]]
            joules += [self.joules[done:k], np.array(found)[lasting]]
            known += [self.known[done:k], np.full(lasting.sum(), self.known[k])]
            guessed += [self.guessed[done:k], np.full(lasting.sum(), self.guessed[k])]
            done = k + 1
        return Steps(
            np.concatenate([*at, self.at_s[done + 1 :]]),
            np.concatenate([*joules, self.joules[done:]]),
            np.concatenate([*known, self.known[done:]]),
            np.concatenate([*guessed, self.guessed[done:]]),
        )

    def _read(self, amounts: FloatArray, edges_s: FloatArray) -> FloatArray:
        if self.at_s.size < 2:
            return np.zeros(edges_s.size - 1)
        cumulative = np.concatenate(([0.0], np.cumsum(amounts)))
        found: FloatArray = np.diff(np.interp(edges_s, self.at_s, cumulative))
        return found


def counter_steps(at_s: Sequence[float], joules: Sequence[float], *, max_w: float) -> Steps:
    """Turn a counter's samples into steps.

    A step backwards is a reset (a driver was reloaded, a node rebooted): what was drawn across it is guessed from the
    power just before and after. A step that would need more than `max_w` is no energy: its time stays without cover.

    Args:
        at_s: Instants of the samples [s], in any order; of two at one instant the later given counts.
        joules: The counter [J].
        max_w: The most that the meter's object can draw [W].
    """
    times, values = _clean(at_s, joules)
    if times.size < 2:
        empty = np.zeros(0)
        return Steps(times, empty, empty, empty)
    length, rise = np.diff(times), np.diff(values)
    known = ((rise >= 0.0) & (rise <= max_w * length) & (length <= LONGEST_GAP_S)).astype(np.float64)
    energy = np.where(known > 0.0, rise, 0.0)
    reset = (rise < 0.0) & (values[1:] >= 0.0) & (length <= LONGEST_GAP_S)
    metered, guessed = known.copy(), np.zeros_like(known)
    for k in np.flatnonzero(reset):
        beside = [j for j in (k - 1, k + 1) if 0 <= j < length.size and metered[j]]
        if beside:
            energy[k] = np.mean([rise[j] / length[j] for j in beside]) * length[k]
            known[k] = guessed[k] = 1.0
    return Steps(times, energy, known, guessed)


def power_steps(
    at_s: Sequence[float],
    watts: Sequence[float],
    *,
    max_w: float,
    longest_s: float = 600.0,
    changes_s: Sequence[float] = (),
) -> Steps:
    """Turn samples of power into steps, straight between samples; absurd samples count as missing.

    Args:
        at_s: Instants of the samples [s].
        watts: Power [W]; negative, not finite or above `max_w` counts as missing.
        max_w: The most that can be true [W].
        longest_s: A longer silence is not bridged [s].
        changes_s: Instants at which work came or went [s]. Power stands still until the first change between two
            samples, and from the last one on: a straight line would give half of a jump to the wrong side of it.
    """
    times, values = _clean(at_s, watts)
    good = (values >= 0.0) & (values <= max_w)
    times, values = times[good], values[good]
    if times.size < 2:
        empty = np.zeros(0)
        return Steps(times, empty, empty, empty)
    length = np.diff(times)
    known = (length <= longest_s).astype(np.float64)
    steps = Steps(times, (values[1:] + values[:-1]) / 2.0 * length * known, known, np.zeros_like(known))
    changes = np.sort(np.asarray(changes_s, dtype=np.float64))
    changes = changes[(changes > times[0]) & (changes <= times[-1])]
    if changes.size == 0:
        return steps
    index = np.searchsorted(times, changes, side="left") - 1
    # An end is noticed some seconds late: the sample just before it may show it already.
    rise = np.abs(np.diff(values))
    early = (index >= 1) & (changes - times[index] <= NOTICED_S) & (rise[index - 1] > rise[index])
    came = (np.maximum(changes - NOTICED_S, times[index - 1]) + times[index]) / 2.0
    changes = np.sort(np.where(early, came, changes))
    # Of each step that work came or went in: its first and its last change.
    index = np.searchsorted(times, changes, side="left") - 1
    changed, first = np.unique(index, return_index=True)
    last = np.append(first[1:], index.size) - 1
    parts = {}
    for k, a, b in zip(changed.tolist(), changes[first].tolist(), changes[last].tolist(), strict=True):
        before, after = values[k] * known[k], values[k + 1] * known[k]
        joules = [before * (a - times[k]), (before + after) / 2.0 * (b - a), after * (times[k + 1] - b)]
        parts[k] = ([a, b], joules)
    return steps.divided(parts)


def _clean(at_s: Sequence[float], values: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    times, found = np.asarray(at_s, dtype=np.float64), np.asarray(values, dtype=np.float64)
    good = np.isfinite(times) & np.isfinite(found)
    times, found = times[good], found[good]
    order = np.argsort(times, kind="stable")
    times, found = times[order], found[order]
    last = np.append(np.diff(times) > 0.0, True) if times.size else np.zeros(0, dtype=bool)
    return times[last], found[last]
