# SPDX-License-Identifier: Apache-2.0
"""What jobs of a kind really draw, learnt from what ran: declared watts count only until then.

Utilisation is no power signal, and declared watts are guesses. A class is whatever its key says (a namespace and a
job's name without its number); its power is an exponentially forgotten mean with the spread around it.
"""

import math
import re
from dataclasses import dataclass

MIN_SAMPLES = 20
"""Samples before a class is believed."""
MEMORY = 500.0
"""Samples that a class remembers."""
_NUMBERED = re.compile(r"([-_.]([0-9]+|[bcdfghjklmnpqrstvwxz2456789]{5}))+$")
"""Numbers, and the endings that Kubernetes generates (without vowels, so that no word is one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPower:
    """What one GPU of a class draws [W]."""

    mean_w: float
    sd_w: float
    samples: float


@dataclass(slots=True)
class _Moments:
    weight: float = 0.0
    mean: float = 0.0
    square: float = 0.0


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
        self._classes: dict[str, _Moments] = {}

    def observe(self, key: str, watts_per_gpu: float) -> None:
        """Take the mean power of one job's GPUs now [W]."""
        if not math.isfinite(watts_per_gpu) or not 10.0 <= watts_per_gpu <= 5000.0:
            return
        found = self._classes.setdefault(key, _Moments())
        found.weight = min(found.weight, MEMORY - 1.0) + 1.0
        share = 1.0 / found.weight
        away = watts_per_gpu - found.mean
        found.mean += share * away
        found.square = (1.0 - share) * (found.square + share * away * away)

    def of(self, key: str) -> ClassPower | None:
        """Return a class's power; None while too little ran."""
        found = self._classes.get(key)
        if found is None or found.weight < MIN_SAMPLES:
            return None
        return ClassPower(mean_w=found.mean, sd_w=math.sqrt(found.square), samples=found.weight)
