# SPDX-License-Identifier: Apache-2.0
"""The plant, run to rest, keeps energy and answers troubles the right way."""

from collections.abc import Callable

import numpy as np
import pytest

from embellie.simulation.plant import PlantSpec, Rooms

_CASES: tuple[dict[str, float], ...] = (
    {},
    {"outdoor_c": 30.0},
    *(
        {"share": share, "outdoor_c": outdoor}
        for share, outdoor in ((0.3, 20.0), (0.9, 20.0), (0.3, 44.0), (0.9, 25.0))
    ),
    *({"share": 0.9, "units": units} for units in (4.0, 3.0, 2.0)),
    {"flow_share": 0.4},
    {"network_on": 0.0},
    {"share": 1.0, "outdoor_c": 48.0, "units": 1.0},
)
"""Load as a share of rated power (0.8), outdoor temperature (25 degC), and what of the cooling works (all)."""
AtRest = Callable[..., "Room"]


class Room:
    """One room of a batch that was run to rest."""

    def __init__(self, rooms: Rooms, b: int) -> None:
        hall, loop = rooms.hall, rooms.loop
        self.zone_inlet_c, self.slowed = rooms.zone_inlet_c()[b], rooms.slowed[b]
        self.hall_kw, self.hall_rejected_kw, self.inlet_c = hall.heat_kw[b].sum(), hall.rejected_kw[b], hall.inlet_c[b]
        self.loop_kw, self.delivered_kw, self.rejected_kw = loop.heat_kw[b], loop.delivered_kw[b], loop.rejected_kw[b]
        self.return_c = loop.return_c[b]


@pytest.fixture(scope="module")
def at_rest() -> AtRest:
    spec = PlantSpec()
    node = spec.node
    rooms = Rooms([spec] * len(_CASES))
    for b, case in enumerate(_CASES):
        for name in ("units", "flow_share", "network_on"):
            if name in case:
                getattr(rooms.hall if name == "units" else rooms.loop, name)[b] = case[name]
    watts = np.array([node.gpu_idle_w + c.get("share", 0.8) * (node.gpu_rated_w - node.gpu_idle_w) for c in _CASES])
    added = np.repeat((8 * (watts - node.gpu_idle_w) * 1.03 / 1000)[:, None], spec.hall_nodes + spec.loop.nodes, axis=1)
    outdoor = np.array([case.get("outdoor_c", 25.0) for case in _CASES])
    rooms.settle(added, np.repeat(watts[:, None], spec.racks + 1, axis=1), outdoor, outdoor - 10.0, hours=5.0)
    return lambda **case: Room(rooms, _CASES.index(case))


def test_at_rest_all_the_heat_of_the_loop_leaves_through_network_and_coolers(at_rest: AtRest):
    room = at_rest()
    assert room.delivered_kw + room.rejected_kw == pytest.approx(0.9 * room.loop_kw, rel=0.01)


def test_at_rest_the_heat_of_the_hall_leaves_with_what_the_compressors_add(at_rest: AtRest):
    room = at_rest(outdoor_c=30.0)
    assert room.hall_kw * 0.97 < room.hall_rejected_kw < room.hall_kw * 1.4


@pytest.mark.parametrize("zone", [0, 1, 2])
def test_more_power_and_a_hotter_day_never_cool_a_zone(at_rest: AtRest, zone: int):
    cool = at_rest(share=0.3, outdoor_c=20.0).zone_inlet_c[zone]
    assert cool <= at_rest(share=0.9, outdoor_c=20.0).zone_inlet_c[zone] + 0.05
    assert cool <= at_rest(share=0.3, outdoor_c=44.0).zone_inlet_c[zone] + 0.05


def test_a_lost_crac_unit_warms_the_inlets_out_of_proportion(at_rest: AtRest):
    whole, three, two = (at_rest(share=0.9, units=n).inlet_c.max() for n in (4.0, 3.0, 2.0))
    assert whole + 0.5 < three < two
    assert two - three > three - whole


def test_less_flow_warms_what_the_coolant_brings_back(at_rest: AtRest):
    assert at_rest(flow_share=0.4).return_c > at_rest().return_c + 2.0


def test_when_the_heat_network_trips_the_coolers_take_what_it_took(at_rest: AtRest):
    without = at_rest(network_on=0.0)
    assert without.delivered_kw == 0.0
    assert without.rejected_kw > at_rest().rejected_kw + 100.0


def test_a_room_that_grows_too_hot_is_slowed_by_its_hardware(at_rest: AtRest):
    assert not at_rest(share=0.9, outdoor_c=25.0).slowed.any()
    assert at_rest(share=1.0, outdoor_c=48.0, units=1.0).slowed.any()
