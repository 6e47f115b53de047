# SPDX-License-Identifier: Apache-2.0
"""What the shield would refuse at a promised start is foreseen, though runs take half as long again as expected."""

from dataclasses import replace
from datetime import datetime, timedelta

from drawn_rooms import NOW, rooms
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import RunningGang, Snapshot
from embellie.thermal.promises import foresee
from embellie.thermal.shield import Rises

ENDLESS = dict.fromkeys(
    (
        "outlook",
        "model",
        "supply",
        "inlet",
        "coolant_return",
        "air_return",
        "cooling_capacity_kw",
        "ceiling_kw",
        "barrier_kw",
    )
) | {"rise_k_per_kw": 0.0, "admission_open": True}


def ended_at(gang: RunningGang, late: float) -> datetime:
    """When a run is over that takes so many times what is expected of it now."""
    return gang.started_at + late * (max(gang.expected_end_p90, NOW) - gang.started_at)


@given(rooms(), st.data())
@settings(max_examples=80, deadline=None)
def test_what_the_shield_would_refuse_at_a_bound_is_foreseen(snapshot: Snapshot, data: st.DataObject):
    # A zone's ramp spreads starts over minutes; it is nothing that a zone cannot carry.
    zones = tuple(replace(zone, start_ramp_kw_per_min=None) for zone in snapshot.thermal_zones)
    if data.draw(st.booleans()):
        # Cooling without end, so that contracted power is what binds.
        zones = tuple(replace(zone, **ENDLESS) for zone in zones)
    works = tuple(
        replace(w, latest_start=NOW + timedelta(minutes=data.draw(st.integers(0, 60)))) for w in snapshot.workloads
    )
    snapshot = replace(snapshot, thermal_zones=zones, workloads=works)
    cells = [cell.name for cell in snapshot.cells]
    cell_of = {w.key: data.draw(st.sampled_from(cells)) for w in works}
    plan = Plan(
        decisions=tuple(
            Decision(
                key=w.key, action=Action.HOLD, reason=Reason.HEAT_LIMIT, message="", cell=cell_of[w.key],
                start=w.latest_start, likely_start_p90=w.latest_start, latest_start=w.latest_start, now=None, best=None,
            )
            for w in works
        ),
        objective_g=0.0,
    )  # fmt: skip
    foreseen = {(collision.key, collision.reason) for collision in foresee(snapshot, plan)}
    # Not everybody keeps to what was said.
    late = data.draw(st.sampled_from([1.0, 1.2, 1.49]))
    running = list(snapshot.running)
    for w in sorted(works, key=lambda w: (w.latest_start, w.key)):
        then = w.latest_start
        run_s = max(w.duration_p50_s, w.duration_p90_s)
        at_bound = replace(snapshot, now=then, running=tuple(g for g in running if ended_at(g, late) > then))
        refusal = Rises(at_bound).refusal(cell_of[w.key], w.worst_power_kw, run_s)
        if refusal is not None:
            assert (w.key, Reason.CONTRACTED_POWER if "contracted" in refusal else Reason.HEAT_LIMIT) in foreseen
        running.append(
            RunningGang(
                cell=cell_of[w.key], gpus=1, power_kw=1.0, worst_power_kw=w.worst_power_kw, started_at=then,
                expected_end_p50=then + timedelta(seconds=run_s), expected_end_p90=then + timedelta(seconds=run_s),
            )
        )  # fmt: skip
