# SPDX-License-Identifier: Apache-2.0
"""A GridZone's orders from its spec to what a turn decides, tells and records."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embellie.api.gridstatus import GridZoneStatus
from embellie.control.assembly.assemble import Assembly
from embellie.control.deciding.turn import Verdicts, decide
from embellie.control.recording.records import DecisionLog
from embellie.control.telling.measures import Facts, turn_values
from embellie.control.telling.zone_status import grid_zone_status
from embellie.domain.reasons import Reason
from embellie.domain.times import format_time
from embellie.telemetry.metrics import grid
from embellie_testbed.views import NOW, assembled, forecast, grid_zone, job, known, view

HOUR = timedelta(hours=1)
WALL = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)


def order(begins_h: float, ends_h: float, kw: int) -> dict[str, Any]:
    begins, ends = (format_time(NOW + hours * HOUR) for hours in (begins_h, ends_h))
    return {"startTime": begins, "endTime": ends, "powerKilowatts": kw}


def ordered(*orders: dict[str, Any], **spec: Any) -> Assembly:
    held = job("late", max_delay="12h")
    zone = grid_zone("west", powerOrders=list(orders), **spec)
    return assembled(held, view=view(held), forecasts={"west": forecast("west", [500.0] * 48)}, grid_zones=(zone,))


def decided(made: Assembly) -> Verdicts:
    record = job("late", max_delay="12h")
    return decide(made, (record,), {record.key.uid: known()}, (), 100)


def contract_w(made: Assembly) -> dict[tuple[str, ...], float]:
    verdicts = decided(made)
    facts = Facts(
        assembly=made, records=verdicts.records, standing=verdicts.standing, problems={}, collisions=verdicts.collisions
    )
    return {v.labels: v.value for v in turn_values(facts) if v.metric is grid.ZONE_CONTRACT}


def test_a_job_that_would_run_into_an_order_is_told_until_when_it_waits() -> None:
    made = ordered(order(1, 3, 1))
    (record,) = decided(made).records
    assert record.reason is Reason.CONTRACTED_POWER
    assert f"until {NOW + 3 * HOUR:%Y-%m-%d %H:%M} UTC, when the order ends" in record.message
    assert made.snapshot.now < record.planned_start < record.latest_start


@pytest.mark.parametrize("spec", [{}, {"contractedPowerKilowatts": 300}])
def test_a_latest_start_that_breaks_an_order_says_that_it_is_an_order(spec: dict[str, Any]) -> None:
    (record,) = decided(ordered(order(-1, 40, 1), **spec)).records
    assert record.message.endswith("its latest start will take grid zone west over what an order leaves it.")


def test_the_metric_shows_what_may_be_drawn_now() -> None:
    assert contract_w(ordered(order(1, 3, 40))) == {}
    assert contract_w(ordered(order(-1, 3, 40))) == {("west",): 40_000.0}
    assert contract_w(ordered(order(-1, 3, 40), contractedPowerKilowatts=30)) == {("west",): 30_000.0}
    assert contract_w(ordered(order(-3, -1, 40), contractedPowerKilowatts=300)) == {("west",): 300_000.0}


def test_what_is_recorded_of_a_decision_rests_on_the_orders() -> None:
    def inputs_hash(made: Assembly) -> str:
        record = job("late", max_delay="12h")
        (draft,) = DecisionLog().drafts(decided(made).records, made, view(record))
        return repr(draft.body)

    same, other = ordered(order(20, 21, 900)), ordered(order(20, 21, 901))
    assert inputs_hash(same) == inputs_hash(ordered(order(20, 21, 900))) != inputs_hash(other)


def status_of(made: Assembly) -> GridZoneStatus:
    return grid_zone_status(made.grid_zones[0], made, {}, WALL, decided(made).collisions)


@pytest.mark.parametrize(
    ("orders", "contract_kw", "limit_kw", "shown"),
    [
        ([], None, None, None),
        ([], 300, 300, None),
        ([(5, 6, 20), (1, 3, 40)], 300, 300, (1, 3, 40)),
        ([(-1, 3, 40), (1, 2, 20)], 300, 40, (-1, 3, 40)),
        ([(-1, 3, 40), (-2, 1, 20)], None, 20, (-2, 1, 20)),
        ([(-1, 3, 400)], 300, 300, (-1, 3, 400)),
        ([(0, 3, 0)], 300, 0, (0, 3, 0)),
        ([(-3, -1, 40), (-2, 0, 30)], 300, 300, None),
    ],
)
def test_a_grid_zone_shows_what_it_may_draw_now_and_the_order_that_holds_or_comes_next(
    orders: list[tuple[float, float, int]],
    contract_kw: int | None,
    limit_kw: int | None,
    shown: tuple[float, float, int] | None,
) -> None:
    spec = {} if contract_kw is None else {"contractedPowerKilowatts": contract_kw}
    status = status_of(ordered(*(order(*o) for o in orders), **spec))
    assert status.power_limit_kilowatts == limit_kw
    found = status.power_order
    told = None if found is None else (found.start_time, found.end_time, found.power_kilowatts)
    assert told == (None if shown is None else (NOW + shown[0] * HOUR, NOW + shown[1] * HOUR, shown[2]))


@pytest.mark.parametrize(("orders", "by_order"), [([(-1, 40, 1)], True), ([], False)])
def test_promises_that_are_not_kept_say_whether_an_order_or_the_contract_is_too_little(
    orders: list[tuple[float, float, int]], by_order: bool
) -> None:
    made = ordered(*(order(*o) for o in orders), contractedPowerKilowatts=2)
    (said,) = (c for c in status_of(made).conditions if c.type == "PromisesKept")
    assert said.reason == "Collision"
    assert ("of 1 kW that an order leaves it from 20" in said.message) is by_order
    assert ("of 2 kW (" in said.message) is not by_order
