# SPDX-License-Identifier: Apache-2.0
"""Whatever a feed says, what is written is a valid forecast."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embellie_forecast.exchange import ExchangeError, parse_document
from embellie_forecast.feeds import Fed, FeedError, ReplayFeed
from embellie_forecast.history import HistoryError, ZoneHistory, hour_of
from embellie_forecast.ladder import Ladder
from embellie_forecast.models import Settings
from embellie_forecast.models.targets import Kernel
from embellie_forecast.zones import Zone, parse_zones

TINY = Settings(
    kernels=(Kernel(gamma=0.005, alpha=0.1),), max_training_days=60, refit_days=90, warm_up_days=10, calibration_days=8
)
NOW = datetime(2021, 7, 2, 6, 20, tzinfo=UTC)
EAST = Zone(name="east", grid_region="US-PJM")
HOURS = 24 * 3
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True, width=64)
PLAUSIBLE = st.floats(min_value=1.0, max_value=5e4)


class GivenFeed(ReplayFeed):
    """Says what it is told to say."""

    said: ZoneHistory | None = None

    def history(self, zone: Zone, now: datetime) -> Fed:  # noqa: ARG002
        if self.said is None:
            raise FeedError("silent")
        return Fed(history=self.said, usual_delay=timedelta(hours=1))


@pytest.fixture(scope="module")
def feed() -> GivenFeed:
    return GivenFeed()


@pytest.fixture(scope="module")
def ladder(feed: GivenFeed) -> Ladder:
    made = Ladder(feed=feed, origin=NOW, models=None, settings=TINY)
    feed.said = ReplayFeed().history(EAST, NOW).history
    assert made.train(EAST, NOW)
    return made


def frame(values: np.ndarray, end_offset: int) -> pd.DataFrame:
    last = pd.Timestamp((hour_of(NOW) - 2 + end_offset) * 3600, unit="s", tz="UTC")
    index = pd.date_range(end=last, periods=values.shape[0], freq="h")
    columns = ["gen_coal_mw", "gen_natgas_mw", "gen_wind_mw", "gen_solar_mw", "wxfc_temp_c", "wxfc_wind_speed_ms"]
    return pd.DataFrame(values, index=index, columns=columns)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    values=st.one_of(
        hnp.arrays(np.float64, (HOURS, 6), elements=ANY_FLOAT, fill=ANY_FLOAT),
        hnp.arrays(np.float64, (HOURS, 6), elements=PLAUSIBLE, fill=PLAUSIBLE),
    ),
    end_offset=st.integers(min_value=-30, max_value=30),
)
def test_any_feed_ends_in_an_ordered_finite_bounded_forecast(
    ladder: Ladder, feed: GivenFeed, values: np.ndarray, end_offset: int
) -> None:
    ladder._fed.clear()
    feed.said = ZoneHistory.from_frame(frame(values, end_offset), zone="US-PJM")
    text = json.dumps(ladder.issue(EAST, NOW).document.to_json(), allow_nan=False)
    document = parse_document(text)
    for array, high in ((document.carbon_g_per_kwh, 820.0), (document.renewable_share, 1.0)):
        assert array.shape == (3, 96)
        assert np.isfinite(array).all()
        assert (np.diff(array, axis=0) >= 0).all()
        assert array.min() >= 0
        assert array.max() <= high


def test_a_plausible_but_short_feed_is_live(ladder: Ladder, feed: GivenFeed) -> None:
    ladder._fed.clear()
    rng = np.random.default_rng(1)
    values = rng.uniform(5.0, 40.0, (HOURS, 6)) * [900, 900, 300, 1, 1, 0.5]
    feed.said = ZoneHistory.from_frame(frame(values, 0), zone="US-PJM")
    assert ladder.issue(EAST, NOW).document.rung.value == "Live"


@given(text=st.text(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["zones", "name", "schema"]), inner),
    max_leaves=8,
).map(json.dumps))  # fmt: skip
@example(text='{"zones":[{"name":"ok"}]}')
def test_any_text_for_zones_or_a_forecast_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        zones, _ = parse_zones(text)
        assert all(isinstance(zone.name, str) for zone in zones)
    except ExchangeError:
        pass
    with pytest.raises(ExchangeError):
        parse_document(text)


@given(hours=st.integers(min_value=0, max_value=30), shift=st.integers(min_value=0, max_value=59))
def test_any_index_is_whole_hours_or_refused(hours: int, shift: int) -> None:
    index = pd.date_range(pd.Timestamp("2022-01-01", tz="UTC") + pd.Timedelta(minutes=shift), periods=hours, freq="h")
    data = pd.DataFrame({"gen_coal_mw": np.ones(hours)}, index=index)
    if shift == 0 and hours > 0:
        assert ZoneHistory.from_frame(data, zone="x").n_hours == hours
    else:
        with pytest.raises(HistoryError):
            ZoneHistory.from_frame(data, zone="x")
