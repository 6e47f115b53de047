# SPDX-License-Identifier: Apache-2.0
"""When a live forecast can be built on a feed: the limits that docs/forecaster.md states."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from embellie_forecast.documents import RungUnavailable
from embellie_forecast.feed_checks import check_feed
from embellie_forecast.feeds import Fed
from embellie_forecast.history import ZoneHistory, hour_of

NOW = datetime(2026, 6, 20, 12, 10, tzinfo=UTC)


def fed(*, late_h: int = 2, holes: int = 0, contradicted: int = 0) -> Fed:
    """A feed that is usually two hours late, and lacks some hours of its last day."""
    index = pd.date_range(end=pd.Timestamp(NOW).floor("h") - pd.Timedelta(hours=late_h + 1), periods=72, freq="h")
    values = 300.0 + np.arange(72.0) % 5
    values[-1 - holes : -1] = np.nan
    history = ZoneHistory.from_frame(pd.DataFrame({"ci_lifecycle_g_per_kwh": values}, index=index), zone="x")
    return Fed(history=history, usual_delay=timedelta(hours=2), contradicted_hours=contradicted)


def test_a_feed_at_its_limits_is_built_on_and_its_newest_hour_is_known() -> None:
    for case in (fed(), fed(late_h=5), fed(holes=6), fed(contradicted=6)):
        assert check_feed(case, NOW) == case.history.end_hour
    assert check_feed(fed(late_h=5), NOW) == hour_of(NOW) - 5


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (fed(late_h=6), "newest believable hour is 6 h old"),
        (fed(holes=7), "only 17 of its last 24 hours"),
        (fed(contradicted=7), "contradicts it in 7 of the last 24 h"),
    ],
)
def test_a_feed_beyond_its_limits_is_not_built_on(case: Fed, why: str) -> None:
    with pytest.raises(RungUnavailable, match=why):
        check_feed(case, NOW)


def test_why_a_feed_is_not_built_on_names_the_first_of_what_was_not_believed() -> None:
    noted = replace(fed(holes=7), notes=("the feed is frozen", "more"))
    with pytest.raises(RungUnavailable, match=r"can be believed \(the feed is frozen\)$"):
        check_feed(noted, NOW)


def test_a_feed_of_marginal_intensity_alone_is_told_what_it_lacks() -> None:
    known = fed().history
    frame = pd.DataFrame(
        {"ci_marginal_g_per_kwh": known.lifecycle_g_per_kwh},
        index=pd.date_range(end=pd.Timestamp(NOW).floor("h"), periods=72, freq="h"),
    )
    only = Fed(history=ZoneHistory.from_frame(frame, zone="x"), usual_delay=timedelta(hours=2))
    with pytest.raises(RungUnavailable, match="tells marginal intensity only"):
        check_feed(only, NOW)
