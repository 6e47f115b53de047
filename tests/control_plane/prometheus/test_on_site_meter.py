# SPDX-License-Identifier: Apache-2.0
"""What plants' meters delivered, out of a real Prometheus that remembers an hour of good and of bad ones."""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from embellie.accounting.known import Plant, Samples
from embellie.accounting.onsite import Delivered, delivered
from embellie.telemetry.energy import EnergySource
from embellie.telemetry.tables import PrometheusTables
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.prometheus import Prometheus, start_remembering

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]

QUARTER_S = 900
PEAK_KW = 100.0
END_S = int(time.time()) // QUARTER_S * QUARTER_S - QUARTER_S
"""Of the interval that is asked for; Prometheus remembers half an hour around it."""
START_S = END_S - QUARTER_S


def sun(at_s: int) -> float:
    return 40_000.0 + 20_000.0 * math.sin(at_s / 300.0)


METERS = {
    "good": sun,
    "frozen": lambda _: 40_000.0,
    "backwards": lambda at_s: -sun(at_s),
    "lamps": lambda at_s: 1000.0 * sun(at_s),
    "gone": lambda at_s: sun(at_s) if at_s < START_S + 240 else None,
    "nan": lambda at_s: math.nan if at_s < START_S + 600 else sun(at_s),
}


def remembered() -> Iterator[str]:
    """What an exporter would have said twice a minute, as OpenMetrics with times."""
    yield "# TYPE pv_watts gauge"
    for plant, says in METERS.items():
        for at_s in range(START_S - QUARTER_S, END_S + QUARTER_S, 30):
            watts = says(at_s)
            if watts is not None:
                yield f'pv_watts{{plant="{plant}"}} {watts} {at_s}'
    yield "# EOF"


@pytest.fixture(scope="module")
def prometheus(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    yield start_remembering(control_plane, remembered(), tmp_path_factory.mktemp("plants"))
    control_plane.processes.stop("prometheus")


def read(prometheus: Prometheus, query: str) -> Delivered:
    """Ask as the accounts do: a sample a minute, and four beyond either edge."""
    source = EnergySource(PrometheusTables(prometheus.url))
    start, end = (datetime.fromtimestamp(at_s, UTC) for at_s in (START_S, END_S))
    pad = timedelta(minutes=4)
    found = source.read(
        start - pad, end + pad, 60.0, zone_queries={}, plant_queries={("west", "roof"): query}, pods={}
    ).plants.get(("west", "roof"))
    meter = Samples() if found is None else Samples(at_s=tuple(found.at_s), values=tuple(found.values))
    return delivered(Plant(name="roof", kind="Solar", peak_kw=PEAK_KW, meter=meter), START_S, END_S)


def test_a_good_meter_tells_the_energy_of_the_interval(prometheus: Prometheus) -> None:
    found = read(prometheus, 'sum(pv_watts{plant="good"})')
    true_kwh = sum(sun(at_s + 0.5) for at_s in range(START_S, END_S)) / 3.6e6
    assert found.kwh == pytest.approx(true_kwh, rel=0.01)
    assert (found.covered_s, found.missing) == (QUARTER_S, "")


@pytest.mark.parametrize(
    "query",
    [
        'pv_watts{plant="frozen"}',
        'pv_watts{plant="backwards"}',
        'pv_watts{plant="lamps"}',
        'pv_watts{plant="nobody"}',
        'pv_watts{plant=~"good|frozen"}',
        "pv_watts{",
        'label_replace(vector(40000), "plant", "good", "", "")',
    ],
    ids=["frozen", "negative", "in another unit", "no series", "two series", "no query", "a constant"],
)
def test_a_bad_meter_proves_nothing(prometheus: Prometheus, query: str) -> None:
    found = read(prometheus, query)
    assert (found.kwh, found.covered_s) == (0.0, 0.0)
    assert found.missing


def test_of_a_meter_that_went_away_no_more_counts_than_prometheus_looks_back(prometheus: Prometheus) -> None:
    found = read(prometheus, 'pv_watts{plant="gone"}')
    # The last sample is told for five minutes more.
    assert 240 <= found.covered_s <= 240 + 300
    assert found.missing


def test_of_a_meter_that_began_to_tell_numbers_only_what_it_told_counts(prometheus: Prometheus) -> None:
    found = read(prometheus, 'pv_watts{plant="nan"}')
    assert 240 <= found.covered_s <= 300
    assert found.kwh <= PEAK_KW * 300 / 3600
