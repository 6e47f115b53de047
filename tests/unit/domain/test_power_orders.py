# SPDX-License-Identifier: Apache-2.0
"""How much a zone may draw: the least of its contract and of the orders that hold, each until the instant it ends."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embellie.domain.power_orders import PowerOrder, least_limits_kw, limit_at

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def order(begins_min: int, ends_min: int, kw: float) -> PowerOrder:
    return PowerOrder(begins=NOW + begins_min * MINUTE, ends=NOW + ends_min * MINUTE, power_kw=kw)


@pytest.mark.parametrize(
    ("minute", "kw"), [(-1, 300.0), (0, 196.0), (119, 196.0), (120, 300.0), (150, 300.0), (180, 0.0), (181, 300.0)]
)
def test_an_order_holds_from_its_first_instant_until_just_before_its_end(minute: int, kw: float):
    orders = (order(0, 120, 196.0), order(180, 181, 0.0))
    assert limit_at(300.0, orders, NOW + minute * MINUTE) == kw


def test_of_orders_that_overlap_and_the_contract_the_least_counts():
    orders = (order(0, 60, 200.0), order(30, 90, 250.0), order(40, 50, 400.0))
    at = [limit_at(300.0, orders, NOW + minute * MINUTE) for minute in (10, 45, 70, 95)]
    assert at == [200.0, 200.0, 250.0, 300.0]


def test_without_a_contract_an_order_is_the_only_limit_in_its_hours():
    assert limit_at(None, (order(0, 60, 200.0),), NOW) == 200.0
    assert limit_at(None, (order(0, 60, 200.0),), NOW + 60 * MINUTE) == np.inf
    assert limit_at(None, (), NOW) == np.inf


def test_an_interval_has_the_least_limit_of_any_of_its_instants_and_its_end_is_none_of_them():
    orders = (order(0, 60, 200.0),)
    spans = [(-60, 0), (-60, 1), (10, 20), (59, 120), (60, 120), (-60, 120)]
    begins, ends = np.array(spans).T * 60.0
    found = least_limits_kw(300.0, orders, NOW, begins, ends)
    assert found.tolist() == [300.0, 200.0, 200.0, 200.0, 300.0, 200.0]


minutes = st.integers(-300, 300)
drawn = st.builds(
    lambda begin, length, kw: order(begin, begin + length, kw), minutes, st.integers(1, 200), st.sampled_from(range(9))
)


@given(st.none() | st.integers(1, 9), st.lists(drawn, max_size=5), st.lists(st.tuples(minutes, st.integers(0, 90))))
def test_an_interval_allows_what_its_tightest_minute_allows(
    contract_kw: float | None, orders: list[PowerOrder], spans: list[tuple[int, int]]
):
    begins, ends = np.array([a for a, _ in spans]) * 60.0, np.array([a + b for a, b in spans]) * 60.0
    found = least_limits_kw(contract_kw, orders, NOW, begins, ends)
    for (begin, length), kw in zip(spans, found, strict=True):
        each = [limit_at(contract_kw, orders, NOW + (begin + m) * MINUTE) for m in range(max(1, length))]
        assert kw == min(each)
