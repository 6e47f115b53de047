# SPDX-License-Identifier: Apache-2.0
"""Where a temperature is going, told from what its sensor moves by itself."""

from datetime import timedelta

import numpy as np
import pytest

from embellie.thermal.trend import Trend
from embellie_testbed.views import NOW

HARD_C = 32.0


def rushes(rise_k_per_min: float, noise_k: float, seed: int) -> list[float]:
    """Return the true temperatures at which a sensor of a tenth of a kelvin says that the limit is minutes away.

    It stands at 26 degC for half an hour, and from then on rises to its limit.
    """
    random, trend, found = np.random.default_rng(seed), Trend(), []
    for turn in range(240):
        true_c = 26.0 + rise_k_per_min * max(0, turn - 120) / 4.0
        shown_c = round(true_c + random.normal(0.0, noise_k), 1)
        if max(true_c, shown_c) >= HARD_C:
            break
        trend = trend.felt(NOW + timedelta(seconds=15 * turn), shown_c, HARD_C, 300.0)
        if trend.to_limit_s(HARD_C) <= 300.0:
            found.append(true_c)
    return found


@pytest.mark.parametrize("noise_k", [0.1, 0.5])
def test_what_a_noisy_sensor_moves_by_itself_is_no_rush_to_the_limit(noise_k: float):
    assert sum(len(rushes(0.0, noise_k, seed)) for seed in range(6)) <= 1


@pytest.mark.parametrize("noise_k", [0.1, 0.5])
def test_a_real_rise_is_seen_minutes_before_the_limit_through_a_noisy_sensor_too(noise_k: float):
    for seed in range(6):
        first_c = rushes(2.0, noise_k, seed)[0]
        assert 26.0 < first_c <= HARD_C - 1.5
