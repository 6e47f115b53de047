# SPDX-License-Identifier: Apache-2.0
"""Replays under a power cap, whatever the work and the cap."""

from hypothesis import given
from hypothesis import strategies as st
from two_priced_days import setup

from embellie.simulation.whatif.capping import Cap
from embellie.simulation.whatif.outlook import Perfect
from embellie.simulation.whatif.study import How, replay


@given(
    st.lists(
        st.tuples(st.floats(0.1, 30.0), st.sampled_from([1.0, 2.0, 4.0])),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["fifo", "embellie", "lowest-window", "wait-awhile", "carbon-time"]),
    st.sampled_from(["true", "queue-mean", "predicted"]),
    st.floats(0.5, 1.0),
    st.floats(0.3, 1.0),
    st.floats(0.0, 24.0),
    st.sampled_from([0.0, 1.0]),
)
def test_with_room_for_all_no_cap_makes_work_late_or_beats_the_bound(
    jobs: list[tuple[float, float]],
    policy: str,
    lengths: str,
    speed: float,
    power: float,
    slack_h: float,
    pausable: float,
) -> None:
    case = setup(*jobs, slack_h=slack_h, pausable=pausable)
    cap = Cap(percent=70.0, speed=speed, power=power)
    result = replay(How(policy=policy, lengths=lengths, cap=cap), case, Perfect(case.case.axis))
    assert result.outcome.past_bound == 0
    assert result.outcome.finished == len(jobs)
    assert result.outcome.carbon_kg >= result.bound_carbon_kg * (1.0 - 1e-9)
