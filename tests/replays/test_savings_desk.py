# SPDX-License-Identifier: Apache-2.0
"""The operator's own reports of savings: real processes over a real ledger, shown as metrics."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from ledgers import T0, ran, swinging, write

from embellie.control.recording.savings_desk import WINDOWS, SavingsDesk
from embellie.telemetry.metrics import REGISTRY
from embellie.telemetry.metrics import accounts as told


def shown(window: str, estimate: str) -> float | None:
    labels = {"zone": "_all_", "signal_kind": "AverageLifecycle", "window": window, "estimate": estimate}
    return REGISTRY.get_sample_value("embellie_saved_emissions_grams", labels)


@pytest.mark.timeout(600)
def test_savings_of_a_day_and_a_week_are_shown_and_those_of_a_month_only_when_it_is_covered(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [*swinging(8 * 24), *(ran(day) for day in range(8))])
    told.show_savings([])
    desk = SavingsDesk(path)
    desk._next_at = 0.0
    rounds = 0
    while rounds < len(WINDOWS):
        before = desk._running
        desk.poll(T0 + timedelta(days=8, minutes=20))
        rounds += before is not None and desk._running is None
        time.sleep(0.05)
    for window, days in (("1d", 1), ("7d", 7)):
        low, middle, high = (shown(window, estimate) for estimate in ("low", "expected", "high"))
        assert low is not None
        assert middle is not None
        assert high is not None
        by_hand = 1000 * days * 6 * 3.6 * 1.2 * (600 - 200) / 1000
        assert low < middle < high
        assert middle == pytest.approx(by_hand, rel=0.2)
    assert shown("30d", "expected") is None
    assert list(tmp_path.glob("*.json")) == [], "nothing is left behind"
    told.show_savings([])
