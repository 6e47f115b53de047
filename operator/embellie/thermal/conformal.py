# SPDX-License-Identifier: Apache-2.0
"""How far predictions may be wrong: conformal margins, adapted while they are used.

The margin is the quantile of past scores (measured less predicted) at rank ceil((n + 1)(1 - alpha)) of a sliding
window, split-conformal; alpha moves by alpha <- alpha + gamma (eps - miss), so that misses settle at eps whatever
drifts (Gibbs and Candes, Adaptive Conformal Inference under Distribution Shift, NeurIPS 2021). Until there are 1/eps
scores the margin is Gaussian, and it never falls below a configured floor.
"""

from statistics import NormalDist

import numpy as np

from embellie.domain.forecast import FloatArray


class AdaptiveMargins:
    """`streams` margins side by side, all at one miss rate `eps`. Arrays have shape (streams,)."""

    def __init__(
        self, streams: int, eps: float, *, floor: FloatArray | float = 0.0, window: int = 500, gain: float = 0.02
    ) -> None:
        if not 0.0 < eps < 1.0:
            raise ValueError(f"eps must lie between 0 and 1, got {eps:g}")
        self._eps = eps
        self._floor = np.broadcast_to(np.asarray(floor, dtype=np.float64), (streams,)).copy()
        self.held_scores = np.full((streams, window), np.nan)
        self.counts = np.zeros(streams, dtype=np.int64)
        """How many scores each stream has seen."""
        self.alphas = np.full(streams, eps)
        self._streams = np.arange(streams)
        self._gain = gain
        self._needed = int(np.ceil(1.0 / eps))
        self._quantiles: FloatArray | None = None

    def quantiles(self) -> FloatArray:
        """Return the margins before the floor [unit of the scores]."""
        if self._quantiles is None:
            self._quantiles = self._reckon()
        return self._quantiles

    def _reckon(self) -> FloatArray:
        held = np.minimum(self.counts, self.held_scores.shape[1])
        rank = np.ceil((held + 1) * (1.0 - self.alphas)).astype(np.int64)
        row = np.minimum(np.maximum(rank - 1, 0), np.maximum(held - 1, 0))
        # What is not filled yet sorts to the end.
        found = np.sort(self.held_scores, axis=1)[self._streams, row]
        above = np.maximum(0.0, rank - held) / np.maximum(held, 1)
        if (above > 0.0).any():
            # Beyond the largest score: alpha fell to nothing, so the margin grows with how far it fell.
            found = found + above * self._spread()
        few = held < self._needed
        return np.where(few, self._gaussian(), found) if few.any() else found

    def margins(self) -> FloatArray:
        """Return the margins, never below the floor."""
        found: FloatArray = np.maximum(self._floor, self.quantiles())
        return found

    def observe(self, scores: FloatArray, fresh: np.ndarray | None = None) -> np.ndarray:
        """Take one score for each fresh stream; return which of them the margin (before the floor) missed."""
        seen = np.isfinite(scores) if fresh is None else fresh & np.isfinite(scores)
        missed: np.ndarray = seen & (scores > self.quantiles())
        warm = seen & (self.counts >= self._needed)
        self.alphas = np.where(warm, self.alphas + self._gain * (self._eps - missed), self.alphas)
        # No further out than what one window of misses or hits explains, so that it comes back in time.
        self.alphas = np.clip(self.alphas, -1.0, 0.5)
        rows = np.flatnonzero(seen)
        self.held_scores[rows, self.counts[rows] % self.held_scores.shape[1]] = scores[rows]
        self.counts[rows] += 1
        self._quantiles = None
        return missed

    def observe_together(self, stream: int, scores: FloatArray) -> int:
        """Take scores of one moment (several GPUs) for one stream, all against one margin; return how many missed."""
        scores = scores[np.isfinite(scores)]
        missed = int((scores > self.quantiles()[stream]).sum())
        if self.counts[stream] >= self._needed:
            moved = self.alphas[stream] + self._gain * (scores.size * self._eps - missed)
            self.alphas[stream] = min(max(moved, -1.0), 0.5)
        places = (self.counts[stream] + np.arange(scores.size)) % self.held_scores.shape[1]
        self.held_scores[stream, places] = scores
        self.counts[stream] += scores.size
        self._quantiles = None
        return missed

    def forget(self, streams: np.ndarray) -> None:
        """Begin anew where `streams` is True."""
        self.held_scores[streams] = np.nan
        self.counts[streams] = 0
        self.alphas[streams] = self._eps
        self._quantiles = None

    def adopt(self, other: "AdaptiveMargins", mine: int, theirs: int) -> None:
        """Take over the scores of stream `theirs` of another set into stream `mine`."""
        self.held_scores[mine] = other.held_scores[theirs]
        self.counts[mine] = other.counts[theirs]
        self.alphas[mine] = other.alphas[theirs]
        self._quantiles = None

    def _spread(self) -> FloatArray:
        held = np.minimum(self.counts, self.held_scores.shape[1])
        total = np.sum(self.held_scores**2, axis=1, where=np.isfinite(self.held_scores))
        found: FloatArray = np.sqrt(total / np.maximum(held, 1))
        return found

    def _gaussian(self) -> FloatArray:
        z = NormalDist().inv_cdf(1.0 - self._eps)
        held = np.minimum(self.counts, self.held_scores.shape[1])
        mean = np.sum(self.held_scores, axis=1, where=np.isfinite(self.held_scores)) / np.maximum(held, 1)
        # Few samples know little: their spread counts with its own uncertainty.
        wide = 1.0 + 2.0 / np.sqrt(np.maximum(held, 1))
        variance = np.maximum(0.0, self._spread() ** 2 - mean**2)
        found: FloatArray = np.where(held > 0, np.maximum(mean, 0.0) + z * wide * np.sqrt(variance), 0.0)
        return found
