# SPDX-License-Identifier: Apache-2.0
"""Random numbers for rooms that advance together: each room has a stream of its own, whatever stands beside it."""

from collections.abc import Sequence

import numpy as np

from embellie.simulation.plant.exchange import Array

_CHUNK = 256


class Noise:
    """Standard normal numbers of shape (rooms, width), one call at a time."""

    def __init__(self, seeds: Sequence[Sequence[int]], width: int) -> None:
        self._streams = [np.random.default_rng(list(seed)) for seed in seeds]
        self._width = width
        self._chunk: Array = np.zeros((0, len(seeds), width))
        self._next = 0

    def __call__(self) -> Array:
        """Return the next numbers."""
        if self._next >= len(self._chunk):
            drawn = [stream.standard_normal((_CHUNK, self._width)) for stream in self._streams]
            self._chunk, self._next = np.stack(drawn, axis=1), 0
        found: Array = self._chunk[self._next]
        self._next += 1
        return found
