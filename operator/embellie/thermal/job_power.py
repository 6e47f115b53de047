# SPDX-License-Identifier: Apache-2.0
"""What jobs of a kind really draw, learnt from what ran: declared watts count only until then.

Utilisation is no power signal, and declared watts are guesses. A class is whatever its key says (a namespace and a
job's name without its number); its power is an exponentially forgotten mean with the spread around it, and its worst
case what it was seen to draw at most, with the margin that ratings get too.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean
from typing import Protocol

from embellie.thermal.power import WORST_CASE_FACTOR

MIN_SAMPLES = 20
"""Samples before a class's mean is believed."""
WORST_SAMPLES = 120
"""Samples before its worst case is: at one a minute two hours, in which a job has trained, evaluated and saved.

What a class's pods show at one moment is one sample: a gang of hundreds that loads its data has shown nothing yet."""
PROVEN_RUNS = 3
"""So many runs must have been seen before the next one, which may be different, is reckoned with their worst case."""
MEMORY = 500.0
"""Samples that a class remembers."""
_SIGMAS = 3.0
_NUMBERED = re.compile(r"([-_.]([0-9]+|[bcdfghjklmnpqrstvwxz2456789]{5}))+$")
"""Numbers, and the endings that Kubernetes generates (without vowels, so that no word is one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPower:
    """What one GPU of a class draws [W]."""

    mean_w: float
    sd_w: float
    samples: float
    peak_w: float
    """Highest mean of a job's GPUs that was seen, slowly forgotten."""
    runs: int
    """How many runs were seen, at most `PROVEN_RUNS`."""
    pods: frozenset[str]
    """The pods of these runs."""

    def worst_w(self, pod: str = "") -> float | None:
        """Return what a GPU may draw at worst [W]; None while too little was seen to say less than its rating does.

        Args:
            pod: Which pod it is about; one that was not seen yet needs runs of others that were.
        """
        if self.samples < WORST_SAMPLES or not (pod in self.pods or self.runs >= PROVEN_RUNS):
            return None
        return WORST_CASE_FACTOR * max(self.mean_w + _SIGMAS * self.sd_w, self.peak_w)


@dataclass(slots=True)
class Moments:
    """Mean, spread and peak of what comes one by one, exponentially forgotten."""

    weight: float = 0.0
    mean: float = 0.0
    square: float = 0.0
    peak: float = -math.inf

    def take(self, value: float, *, variance: float = 0.0, peak: float = -math.inf) -> None:
        """Take one value, or the mean of several with their variance and the highest of them."""
        self.weight = min(self.weight, MEMORY - 1.0) + 1.0
        share = 1.0 / self.weight
        away = value - self.mean
        self.mean += share * away
        self.square = (1.0 - share) * (self.square + share * away * away) + share * variance
        self.peak = max(value, peak, self.peak - share * (self.peak - self.mean))

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.square)


@dataclass(slots=True)
class _Class:
    power: Moments = field(default_factory=Moments)
    runs: int = 0
    pods: set[str] = field(default_factory=set)


@lru_cache(maxsize=65_536)
def class_of(namespace: str, name: str) -> str:
    """Return the class of a pod or job: names that differ only in numbers or generated endings are one.

    >>> class_of("research", "train-llm-17"), class_of("research", "train-llm-18-x7k2p")
    ('research/train-llm', 'research/train-llm')
    """
    short = _NUMBERED.sub("", name)
    return f"{namespace}/{short or name}"


class JobPower:
    """The classes; grows with the number of classes, not of jobs."""

    def __init__(self) -> None:
        self._classes: dict[str, _Class] = {}

    def observe(self, key: str, watts_per_gpu: Mapping[str, float]) -> None:
        """Take the mean power of the GPUs of each of a class's pods at one moment [W]; those seen first now are a run.

        What no GPU draws is left out.
        """
        told = {pod: watts for pod, watts in watts_per_gpu.items() if 10.0 <= watts <= 5000.0}
        if not told:
            return
        found, watts = self._classes.setdefault(key, _Class()), list(told.values())
        mean_w = fmean(watts)
        variance = math.fsum((w - mean_w) ** 2 for w in watts) / len(watts)
        found.power.take(mean_w, variance=variance, peak=max(watts))
        if found.runs < PROVEN_RUNS and not told.keys() <= found.pods:
            found.runs += 1
            found.pods |= told.keys()

    def of(self, key: str) -> ClassPower | None:
        """Return a class's power; None while too little ran."""
        found = self._classes.get(key)
        if found is None or found.power.weight < MIN_SAMPLES:
            return None
        power = found.power
        return ClassPower(
            mean_w=power.mean,
            sd_w=power.spread,
            samples=power.weight,
            peak_w=power.peak,
            runs=found.runs,
            pods=frozenset(found.pods),
        )


class LearntPower(Protocol):
    """What was learnt of the power of nodes and jobs; None where too little was seen."""

    def class_power(self, namespace: str, name: str) -> ClassPower | None:
        """Return what a GPU of jobs of this name draws."""
        ...

    def idle_watts(self, node: str) -> float | None:
        """Return what a node draws without work, on the safe side [W]."""
        ...


class NothingLearnt:
    """What is known of power before anything ran."""

    def class_power(self, namespace: str, name: str) -> ClassPower | None:  # noqa: ARG002
        """Return None: declared watts count."""
        return None

    def idle_watts(self, node: str) -> float | None:  # noqa: ARG002
        """Return None: what the GridZone says counts."""
        return None
