# SPDX-License-Identifier: Apache-2.0
"""How warm GPU dies get: far too fast to be controlled from outside, so known in order to be guaranteed.

    T = t0 + r_fast * P + r_slow * F_tau(P) + memory * (previous error),   r >= 0, 0 <= memory < 1

with P the mean power over a step and T the mean temperature over the same step: the fast pole (about a second) is
quasi-static at any scrape interval, the slow one is the heatsink (15 to 30 s). Each position has its own parameters,
because air that passed other GPUs is warmer; few samples fall back on what all positions share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.thermal.recursive import fit_bounded

TAUS_S = (1.0, 8.0, 15.0, 25.0, 45.0, 90.0, 300.0)
LEAST_T0_C = -20.0
"""Nothing colder cools a machine room; powers that hardly move would let the fit believe anything [degC]."""
_SHARED_WEIGHT = 8.0
"""What all positions share counts as so many samples of one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DieRun:
    """One unbroken series of steps of one GPU; arrays of shape (n,)."""

    position: str
    """Which GPU in which mode: what has parameters of its own."""
    kind: str
    """What shares parameters where a position has none."""
    power_w: FloatArray
    temperature_c: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class DieModel:
    """One position's parameters."""

    t0_c: float
    r_fast_k_per_w: float
    r_slow_k_per_w: float
    tau_s: float
    memory: float


class DieModels:
    """The parameters of many positions, fitted together."""

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.positions: dict[str, DieModel] = {}
        self.kinds: dict[str, DieModel] = {}
        self.everywhere: DieModel | None = None

    def fit(self, runs: Sequence[DieRun]) -> None:
        """Fit all positions, each kind, and all together."""
        self.everywhere = _fit(runs, self.step_s, None)
        for kind in sorted({run.kind for run in runs}):
            self.kinds[kind] = _fit([r for r in runs if r.kind == kind], self.step_s, None)
        by_position: dict[str, list[DieRun]] = {}
        for run in runs:
            by_position.setdefault(run.position, []).append(run)
        for position, own in sorted(by_position.items()):
            self.positions[position] = _fit(own, self.step_s, self.kinds[own[0].kind])

    def of(self, run: DieRun) -> DieModel:
        """Return the parameters for a run: its position's, its kind's, or everybody's; raises ValueError unfitted."""
        found = self.positions.get(run.position) or self.kinds.get(run.kind) or self.everywhere
        if found is None:
            raise ValueError("nothing was fitted yet")
        return found

    def one_step(self, run: DieRun) -> FloatArray:
        """Return the prediction of each step but the first from the step before and its own power, shape (n - 1,)."""
        model = self.of(run)
        static = _static(model, run.power_w, self.step_s)
        return np.asarray(static[1:] + model.memory * (run.temperature_c[:-1] - static[:-1]), dtype=np.float64)

    def as_json(self) -> Mapping[str, Mapping[str, float]]:
        """Return the positions' parameters with their units in the names."""
        return {
            name: {
                "t0_c": round(m.t0_c, 2),
                "r_fast_mk_per_w": round(1e3 * m.r_fast_k_per_w, 2),
                "r_slow_mk_per_w": round(1e3 * m.r_slow_k_per_w, 2),
                "tau_s": m.tau_s,
                "memory": round(m.memory, 3),
            }
            for name, m in self.positions.items()
        }


def step_filter(power_w: FloatArray, step_s: float, tau_s: float) -> FloatArray:
    """Return the first-order filtered step powers, settled at the first; shape (n,) [W].

    The mean over a step of an exponential that settles within it: it begins where the last step ended.
    """
    keep = float(np.exp(-step_s / tau_s))
    inside = tau_s / step_s * (1.0 - keep)
    found = np.empty_like(power_w)
    state = power_w[0]
    for k, power in enumerate(power_w):
        found[k] = power + (state - power) * inside
        state = power + (state - power) * keep
    return found


def _static(model: DieModel, power_w: FloatArray, step_s: float) -> FloatArray:
    slow = step_filter(power_w, step_s, model.tau_s)
    return np.asarray(model.t0_c + model.r_fast_k_per_w * power_w + model.r_slow_k_per_w * slow, dtype=np.float64)


def _fit(runs: Sequence[DieRun], step_s: float, shared: DieModel | None) -> DieModel:
    best: tuple[float, DieModel] | None = None
    for tau_s in TAUS_S if shared is None else (shared.tau_s,):
        found = _fit_at(runs, step_s, tau_s, shared)
        if best is None or found[0] < best[0]:
            best = found
    if best is None:
        raise ValueError("no time constant was tried")
    return best[1]


def _fit_at(runs: Sequence[DieRun], step_s: float, tau_s: float, shared: DieModel | None) -> tuple[float, DieModel]:
    """Generalised least squares by turns: parameters with errors that remember, then how much they remember."""
    power = np.concatenate([r.power_w for r in runs])
    slow = np.concatenate([step_filter(r.power_w, step_s, tau_s) for r in runs])
    x = np.stack([np.ones(power.size), power, slow], axis=1)
    y = np.concatenate([r.temperature_c for r in runs])
    # Every step but the first of each run.
    later = np.setdiff1d(np.arange(power.size), np.cumsum([0, *(r.power_w.size for r in runs)]))
    prior = np.zeros(3)
    ridge = np.array([1e-9, 1e-3, 1e-3])
    if shared is not None:
        prior = np.array([shared.t0_c, shared.r_fast_k_per_w, shared.r_slow_k_per_w])
        mean_square = float(np.mean(power**2))
        ridge = _SHARED_WEIGHT * np.array([0.1, mean_square, mean_square]) * 0.1
    memory, theta = 0.0 if shared is None else shared.memory, prior
    for _ in range(4):
        xs, ys = x[later] - memory * x[later - 1], y[later] - memory * y[later - 1]
        theta = prior + fit_bounded(xs, ys - xs @ prior, np.array([LEAST_T0_C, 0.0, 0.0]) - prior, ridge=ridge)
        errors = y - x @ theta
        before, after = errors[later - 1], errors[later]
        memory = float(np.clip(before @ after / max(before @ before, 1e-9), 0.0, 0.98))
    error = float(np.mean((after - memory * before) ** 2))
    model = DieModel(
        t0_c=float(theta[0]),
        r_fast_k_per_w=float(theta[1]),
        r_slow_k_per_w=float(theta[2]),
        tau_s=tau_s,
        memory=memory,
    )
    return error, model
