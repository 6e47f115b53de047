# SPDX-License-Identifier: Apache-2.0
"""What an outlook says of a stretch of time, also where it does not reach."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embellie.domain.heat import HeatOutlook

START, HOUR = datetime(2026, 7, 1, 14, tzinfo=UTC), timedelta(hours=1)


@pytest.mark.parametrize(
    ("begins_h", "ends_h", "worst"),
    [
        pytest.param(0.5, 1.5, (40.0, "b"), id="inside"),
        pytest.param(1.0, 2.0, (40.0, "b"), id="an-end-on-an-edge-touches-no-further-slot"),
        pytest.param(2.2, 9.0, (20.0, "c"), id="beyond-its-end-the-last-day-goes-on"),
        pytest.param(5.0, 6.0, (20.0, "c"), id="wholly-beyond"),
        pytest.param(-0.7, 0.5, (60.0, "a"), id="begins-before"),
        pytest.param(-0.7, -0.6, (60.0, "a"), id="wholly-before-as-after-a-clock-was-set-back"),
        pytest.param(-30.0, -29.0, (60.0, "a"), id="long-before"),
    ],
)
def test_the_worst_slot_that_a_run_touches_counts(begins_h: float, ends_h: float, worst: tuple[float, str]) -> None:
    outlook = HeatOutlook(
        start=START, step=HOUR, removable_kw=np.array([60.0, 40.0, 20.0]), pue=np.ones(3), bound=("a", "b", "c")
    )
    assert outlook.worst_kw(START + begins_h * HOUR, START + ends_h * HOUR) == worst
