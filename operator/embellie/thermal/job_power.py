# SPDX-License-Identifier: Apache-2.0
"""What jobs of a kind really draw, learnt from what ran: declared watts count only until then.

Utilisation is no power signal, and declared watts are guesses. A class is whatever its key says (a namespace and a
job's name without its number); its power is an exponentially forgotten mean with the spread around it, and its worst
case what it was seen to draw at most, with a margin for what was not seen yet.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

from embellie.thermal.power import WORST_CASE_FACTOR

MIN_SAMPLES = 20
"""Samples before a class's mean is believed."""
WORST_SAMPLES = 120
"""Samples before its worst case is: at one a minute two hours, in which a job has trained, evaluated and saved."""
PROVEN_RUNS = 3
"""So many runs must have been seen before the next one, which may be different, is reckoned with their worst case."""
MEMORY = 500.0
"""Samples that a class remembers."""
SEEN_FACTOR = 1.05
"""A run's worst case over the most that was seen, once it was seen long enough itself; any other gets the margin of
ratings. On six research servers over three years the mean of a busy hour passed 1.05 times what two hours had shown in
0.26 % of the hours, and 1.1 times in 0.22 % (`tests/bench/bench_thermal_models.py`)."""
_RUNS_KEPT = 1024
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
    runs: Mapping[str, int] = field(compare=False)
    """Which runs were seen of late, and how often."""

    def worst_w(self, run: str = "") -> float | None:
        """Return what a GPU may draw at worst [W]; None while too little was seen to say less than its rating does.

        Args:
            run: Which run it is about; one that was not seen yet needs others that were.
        """
        if self.samples < WORST_SAMPLES or not (run in self.runs or len(self.runs) >= PROVEN_RUNS):
            return None
        factor = SEEN_FACTOR if self.runs.get(run, 0) >= WORST_SAMPLES else WORST_CASE_FACTOR
        return factor * max(self.mean_w + _SIGMAS * self.sd_w, self.peak_w)


@dataclass(slots=True)
class Moments:
    """Mean, spread and peak of what comes one by one, exponentially forgotten."""

    weight: float = 0.0
    mean: float = 0.0
    square: float = 0.0
    peak: float = -math.inf

    def take(self, value: float) -> None:
        """Take one value."""
        self.weight = min(self.weight, MEMORY - 1.0) + 1.0
        share = 1.0 / self.weight
        away = value - self.mean
        self.mean += share * away
        self.square = (1.0 - share) * (self.square + share * away * away)
        self.peak = max(value, self.peak - share * (self.peak - self.mean))

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.square)


@dataclass(slots=True)
class _Class:
    power: Moments = field(default_factory=Moments)
    runs: dict[str, int] = field(default_factory=dict)
    """By run, how often it was seen, the last one last."""


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

    def observe(self, key: str, watts_per_gpu: float, run: str = "") -> None:
        """Take the mean power of one job's GPUs now [W]; `run` tells its runs apart."""
        if not math.isfinite(watts_per_gpu) or not 10.0 <= watts_per_gpu <= 5000.0:
            return
        found = self._classes.setdefault(key, _Class())
        found.power.take(watts_per_gpu)
        found.runs[run] = found.runs.pop(run, 0) + 1
        if len(found.runs) > _RUNS_KEPT:
            del found.runs[next(iter(found.runs))]

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
            runs=MappingProxyType(found.runs),
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
