# SPDX-License-Identifier: Apache-2.0
"""What a forecast's range learns from its errors: how wide it is, how far it may stretch; few errors widen it."""

from dataclasses import replace

import numpy as np
import pytest

from embellie_forecast.models import Settings
from embellie_forecast.models.blend import known_issues
from embellie_forecast.models.conformal import calibrate


def last_range(errors: np.ndarray, rate: float) -> np.ndarray:
    """The quantiles of the last of as many issues, all forecast as 0; shape (levels,)."""
    outcome = np.tile(errors[:, None], (1, 24))
    hours = np.arange(errors.size, dtype=np.int64) * 24
    return calibrate(hours, 0.0 * outcome, outcome, 0, replace(Settings(), adapt_rate=rate))[-1, :, 12]


@pytest.mark.parametrize(("growth", "stretch"), [(1.3, 1.8), (0.7, 0.6)])
def test_a_range_that_missed_lately_stretches_and_one_that_never_does_shrinks_within_limits(
    growth: float, stretch: float
) -> None:
    errors = np.resize([1.0, -1.0], 80) * growth ** np.arange(80)
    np.testing.assert_allclose(last_range(errors, 5.0), stretch * last_range(errors, 0.0))


def test_errors_that_lie_even_make_a_range_that_lies_even() -> None:
    errors = np.append(np.repeat(np.arange(1.0, 21.0), 2) * np.resize([1.0, -1.0], 40), 0.0)
    levels = last_range(errors, 0.0)
    np.testing.assert_allclose(levels, -levels[::-1])


def test_of_the_same_errors_few_make_a_wider_range_than_many() -> None:
    once = np.repeat(np.arange(1.0, 7.0), 2) * np.resize([1.0, -1.0], 12)
    few, many = last_range(np.append(once, 0.0), 0.0), last_range(np.append(np.tile(once, 4), 0.0), 0.0)
    assert (few[[1, -2]] - many[[1, -2]] < 0.0).tolist() == [True, False]
    # The textbook's: of 12 errors nine tenths and a twelfth of them more; each is there for five hours.
    assert few[-2] == pytest.approx(np.quantile(np.repeat(once, 5), 0.9 + 0.9 / 12))


def test_errors_older_than_the_window_are_forgotten() -> None:
    days = Settings().calibration_days
    errors = np.resize([1.0, -1.0], days + 60) * np.where(np.arange(days + 60) < 58, 50.0, 1.0)
    assert np.abs(last_range(errors, 0.0)).max() == pytest.approx(1.0)
    assert np.abs(last_range(errors[:-20], 0.0)).max() > 1.0


def test_an_error_counts_once_its_day_is_over_and_its_readings_have_come() -> None:
    """What is known at an issue of the day before, and of the one before that, by how late readings arrive."""
    hours = np.arange(5, dtype=np.int64) * 24
    for day, latency, known in ((0, 0, 4), (0, 1, 3), (0, 24, 3), (0, 25, 2), (1, 0, 3), (3, 0, 1), (3, 1, 0)):
        assert known_issues(96, day, hours, latency).sum() == known
