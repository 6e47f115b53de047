# SPDX-License-Identifier: Apache-2.0
"""Heat exchangers and masses, over arrays: effectiveness by number of transfer units, exact relaxation."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_TINY = 1e-9


def counterflow(ua_kw_per_k: Array, hot_kw_per_k: Array, cold_kw_per_k: Array) -> Array:
    """Return what a counterflow exchanger carries per kelvin between its two inlets [kW/K].

    eps * C_min with eps = (1 - e) / (1 - c e), e = exp(-NTU (1 - c)), c = C_min / C_max (Kays and London, Compact Heat
    Exchangers).
    """
    small = np.maximum(np.minimum(hot_kw_per_k, cold_kw_per_k), _TINY)
    ratio = np.minimum(small / np.maximum(np.maximum(hot_kw_per_k, cold_kw_per_k), _TINY), 0.999)
    decay = np.exp(-ua_kw_per_k / small * (1.0 - ratio))
    return small * (1.0 - decay) / (1.0 - ratio * decay)


def relax(value: Array, target: Array, dt_s: float, time_constant_s: Array) -> Array:
    """Return a value after `dt_s` on its way to a target; stable for any step."""
    return target + (value - target) * np.exp(-dt_s / np.maximum(time_constant_s, _TINY))


def film(ua_kw_per_k: Array, flow_share_a: Array, flow_share_b: Array) -> Array:
    """Return an exchanger's UA at part flow: two films in series, each with the 0.8th power of its flow [kW/K]."""
    a = np.maximum(flow_share_a, 1e-3) ** -0.8
    b = np.maximum(flow_share_b, 1e-3) ** -0.8
    return 2.0 * ua_kw_per_k / (a + b)


def column(values: Iterable[float]) -> Array:
    """Return one number per room."""
    return np.array([float(v) for v in values])
