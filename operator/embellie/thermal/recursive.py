# SPDX-License-Identifier: Apache-2.0
"""Many small linear regressions at once, each learnt sample by sample: recursive least squares in information form.

Instead of the covariance S the information H = sum lam^k w x x' and the moment h = sum lam^k w x y are kept, which is
the same recursion (S = H^-1, Ljung, System Identification, ch. 11) without its wind-up: a prior enters when the
parameters are asked for, so directions that nobody excited stay at the prior, and bounds are met by projection.
"""

import numpy as np

from embellie.domain.forecast import FloatArray


class RecursiveFit:
    """`shape` regressions with p parameters each. All arrays have shape (*shape, p), (*shape,) or broadcast to it."""

    def __init__(
        self,
        shape: tuple[int, ...],
        prior: FloatArray,
        prior_weight: FloatArray,
        lower: FloatArray,
        forgetting: float = 1.0,
    ) -> None:
        p = int(np.shape(prior)[-1])
        self._forgetting = forgetting
        self._prior = np.broadcast_to(np.asarray(prior, dtype=np.float64), (*shape, p)).copy()
        self._prior_weight = np.broadcast_to(np.asarray(prior_weight, dtype=np.float64), (*shape, p)).copy()
        self._lower = np.broadcast_to(np.asarray(lower, dtype=np.float64), (*shape, p)).copy()
        self.information = np.zeros((*shape, p, p))
        self.moment = np.zeros((*shape, p))
        self.energy = np.zeros(shape)
        self.weight = np.zeros(shape)
        """Effective number of samples."""

    def update(self, x: FloatArray, y: FloatArray, weight: FloatArray) -> None:
        """Take one sample for each regression; where the weight is 0 nothing is learnt and nothing is forgotten."""
        seen = weight > 0
        keep = np.where(seen, self._forgetting, 1.0)
        x = np.where(seen[..., None], x, 0.0)
        y = np.where(seen, y, 0.0)
        wx = x * weight[..., None]
        self.information = self.information * keep[..., None, None] + wx[..., :, None] * x[..., None, :]
        self.moment = self.moment * keep[..., None] + wx * y[..., None]
        self.energy = self.energy * keep + weight * y * y
        self.weight = self.weight * keep + weight

    def update_in_turn(self, x: FloatArray, y: FloatArray) -> None:
        """Take n samples of weight 1 for each regression, the newest last: x of shape (*shape, n, p), y (*shape, n)."""
        n = y.shape[-1]
        weight = self._forgetting ** np.arange(n - 1, -1, -1)
        keep = self._forgetting**n
        wx = x * weight[:, None]
        self.information = self.information * keep + wx.swapaxes(-1, -2) @ x
        self.moment = self.moment * keep + (wx * y[..., None]).sum(axis=-2)
        self.energy = self.energy * keep + (weight * y * y).sum(axis=-1)
        self.weight = self.weight * keep + weight.sum()

    def forget(self, share: FloatArray) -> None:
        """Keep only this share (0..1) of what each regression knows."""
        self.information = self.information * share[..., None, None]
        self.moment = self.moment * share[..., None]
        self.energy = self.energy * share
        self.weight = self.weight * share

    @property
    def width(self) -> int:
        """How many parameters each regression has."""
        return int(self._prior.shape[-1])

    def adopt(self, other: "RecursiveFit", mine: int, theirs: int) -> None:
        """Take over what another fit knows of column `theirs` into column `mine` (the last axis of `shape`)."""
        for name in ("information", "moment", "energy", "weight"):
            getattr(self, name)[:, mine] = getattr(other, name)[:, theirs]

    def solve(self) -> FloatArray:
        """Return the parameters, at or above their lower bounds, shape (*shape, p)."""
        h = self._posterior()
        m: FloatArray = self.moment + self._prior_weight * self._prior
        theta = np.asarray(np.linalg.solve(h, m[..., None])[..., 0], dtype=np.float64)
        below = theta < self._lower - 1e-12
        if not below.any():
            return theta
        rows = below.any(axis=-1)
        theta[rows] = _bounded(h[rows], m[rows], self._lower[rows], theta[rows])
        return theta

    def variance(self, theta: FloatArray) -> FloatArray:
        """Return the residual variance at the parameters, shape (*shape,)."""
        quadratic = np.einsum("...i,...ij,...j->...", theta, self.information, theta)
        linear = np.einsum("...i,...i->...", theta, self.moment)
        left = self.energy - 2.0 * linear + quadratic
        spare = np.maximum(self.weight - theta.shape[-1], 1.0)
        found: FloatArray = np.maximum(left, 0.0) / spare
        return found

    def standard_errors(self, theta: FloatArray) -> FloatArray:
        """Return the parameters' standard errors if residuals were independent, shape (*shape, p)."""
        covariance = np.linalg.inv(self._posterior())
        diagonal = np.einsum("...ii->...i", covariance)
        found: FloatArray = np.sqrt(np.maximum(diagonal, 0.0) * self.variance(theta)[..., None])
        return found

    def _posterior(self) -> FloatArray:
        p = self._prior.shape[-1]
        weights = np.maximum(self._prior_weight, 1e-9)
        found: FloatArray = self.information + weights[..., :, None] * np.eye(p)
        return found


def fit_bounded(
    x: FloatArray, y: FloatArray, lower: FloatArray, ridge: FloatArray | None = None, weight: FloatArray | None = None
) -> FloatArray:
    """Return the least-squares parameters of y = x'th with th >= lower; a batch of one of the above.

    Args:
        x: Regressors, shape (n, p).
        y: Targets, shape (n,).
        lower: Bounds, shape (p,); -inf for none.
        ridge: Weight of a prior at 0 for each parameter, shape (p,).
        weight: Weight of each sample, shape (n,).
    """
    p = x.shape[1]
    w = np.ones(len(y)) if weight is None else weight
    scale = np.sqrt(np.maximum((w[:, None] * x * x).sum(axis=0), 1e-30))
    xs = x / scale
    h = (xs * w[:, None]).T @ xs + np.diag((np.zeros(p) if ridge is None else ridge) / scale**2 + 1e-10)
    m = (xs * w[:, None]).T @ y
    theta = np.linalg.solve(h, m)
    bound = np.where(np.isfinite(lower), lower * scale, -np.inf)
    if (theta < bound).any():
        theta = _bounded(h[None], m[None], bound[None], theta[None])[0]
    found: FloatArray = theta / scale
    return found


def _bounded(h: FloatArray, m: FloatArray, lower: FloatArray, theta: FloatArray) -> FloatArray:
    """Minimise 1/2 th'H th - m'th over th >= lower, for many problems at once, from where nothing bounds them.

    By active sets: what falls below its bound is fixed there, and freed where it wants to rise again. Exact, where
    descent is slow: few parameters, and strongly correlated ones.
    """
    p = m.shape[-1]
    fixed, found = theta < lower, theta
    for _ in range(4 * p):
        held = np.where(fixed, lower, 0.0)
        free = ~fixed
        system = np.where(free[:, :, None] & free[:, None, :], h, np.eye(p))
        right = np.where(fixed, held, m - np.einsum("nij,nj->ni", h, held))
        found = np.linalg.solve(system, right[..., None])[..., 0]
        gradient = np.einsum("nij,nj->ni", h, found) - m
        below, rising = free & (found < lower - 1e-12), fixed & (gradient < -1e-9)
        wrong = below.any(axis=-1)
        frees = np.flatnonzero(~wrong & rising.any(axis=-1))
        if not frees.size and not wrong.any():
            break
        fixed = fixed | below
        fixed[frees, np.argmin(np.where(rising, gradient, np.inf), axis=-1)[frees]] = False
    return np.asarray(np.maximum(found, lower))
