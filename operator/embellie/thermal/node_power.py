# SPDX-License-Identifier: Apache-2.0
"""What a whole node draws, from its GPUs and fans: a law with physical, non-negative parts, by least squares.

    P_node = base + share * sum(P_gpu) + fans * (rpm / 10^4)^n + busy * activity

Fans follow a power between 2 and 3 of their speed (the affinity law, less than cubic where motors lose), which is
fitted too; `activity` is the mean GPU utilisation (0..1): it says nothing of the GPUs' power, but hosts work while
their GPUs do.
"""

from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.thermal.recursive import fit_bounded

RPM_UNIT = 1e4
EXPONENTS = tuple(np.round(np.arange(2.0, 3.05, 0.1), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePowerLaw:
    """One machine model's law."""

    base_w: float
    gpu_share: float
    fan_w: float
    """What the fans draw at 10^4 rpm [W]; 0 where no fan speed is known."""
    fan_exponent: float
    busy_w: float
    rmse_w: float
    """Of the rows that it was fitted on [W]."""

    def predict_w(self, gpu_w: FloatArray, fan_rpm: FloatArray | None, activity: FloatArray | None) -> FloatArray:
        """Return node power [W] from the sum of GPU powers [W], fan speed [rpm] and activity (0..1), same shape."""
        found = self.base_w + self.gpu_share * gpu_w
        if fan_rpm is not None:
            found = found + self.fan_w * (fan_rpm / RPM_UNIT) ** self.fan_exponent
        if activity is not None:
            found = found + self.busy_w * activity
        return np.asarray(found, dtype=np.float64)


def fit_node_power(
    gpu_w: FloatArray, fan_rpm: FloatArray | None, activity: FloatArray | None, node_w: FloatArray
) -> NodePowerLaw:
    """Fit the law to rows of shape (n,); raises ValueError with fewer than 10 usable rows.

    Args:
        gpu_w: Sum of the node's GPU powers [W].
        fan_rpm: Mean fan speed [rpm]; None where it is not known.
        activity: Mean GPU utilisation (0..1); None where it is not known.
        node_w: Measured node power [W].
    """
    columns = [gpu_w, node_w, *(c for c in (fan_rpm, activity) if c is not None)]
    usable = np.all(np.isfinite(np.stack(columns)), axis=0)
    if usable.sum() < 10:
        raise ValueError(f"a node power law needs at least 10 rows, got {int(usable.sum())}")
    gpu, node = gpu_w[usable], node_w[usable]
    fans = None if fan_rpm is None else fan_rpm[usable]
    busy = np.zeros(gpu.size) if activity is None else activity[usable]
    best: NodePowerLaw | None = None
    for exponent in EXPONENTS if fans is not None else EXPONENTS[:1]:
        fan = np.zeros(gpu.size) if fans is None else (fans / RPM_UNIT) ** exponent
        x = np.stack([np.ones(gpu.size), gpu, fan, busy], axis=1)
        theta = fit_bounded(x, node, np.zeros(4), ridge=np.array([0.0, 0.0, 1e-9, 1e-9]))
        error = node - x @ theta
        law = NodePowerLaw(
            base_w=float(theta[0]),
            gpu_share=float(theta[1]),
            fan_w=float(theta[2]) if fans is not None else 0.0,
            fan_exponent=float(exponent),
            busy_w=float(theta[3]) if activity is not None else 0.0,
            rmse_w=float(np.sqrt(np.mean(error**2))),
        )
        if best is None or law.rmse_w < best.rmse_w:
            best = law
    if best is None:
        raise ValueError("no exponent was tried")
    return best
