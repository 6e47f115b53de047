# SPDX-License-Identifier: Apache-2.0
"""What the soak's users are taken to mean is what the product reads from their words."""

import random
from datetime import UTC, datetime, timedelta

from embellie.api.energypolicy import EnergyPolicySpec
from embellie.control.work.checkpoints import read_checkpoint
from embellie.control.work.terms import read_terms
from embellie_testbed.soak.site import LONGEST_DELAY_S
from embellie_testbed.soak.trail import FLEX, TAKES, WAITS_AT_MOST, WILLING
from embellie_testbed.soak.work import draw

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POLICY = EnergyPolicySpec(max_delay_seconds=LONGEST_DELAY_S, bonus_max_delay_seconds=LONGEST_DELAY_S)


def test_a_drawn_workload_is_bounded_by_what_is_noted_on_it_and_one_that_cannot_be_read_starts_at_once() -> None:
    rng, bounded, at_once, pausable = random.Random(1), 0, 0, 0  # noqa: S311 - dice
    for number in range(3000):
        meta = draw(rng, f"w-{number}", "team", NOW)["metadata"]
        flex, notes = meta["labels"].get(FLEX), meta["annotations"]
        if flex not in WILLING:
            continue
        terms = read_terms(flex, notes, NOW, POLICY)
        at_most = timedelta(seconds=float(notes.get(WAITS_AT_MOST, LONGEST_DELAY_S)))
        if at_most:
            assert terms.latest_start <= NOW + at_most, notes
            bounded += 1
        else:
            assert terms.start_now is not None, notes
            at_once += 1
        if TAKES in notes:
            takes = read_checkpoint(notes["embellie.io/checkpoint"]).takes
            assert takes == timedelta(seconds=int(notes[TAKES]))
            pausable += 1
    assert min(bounded, at_once, pausable) > 100, "all of them are drawn"


def test_a_seed_draws_the_same_work_again() -> None:
    first, again = (draw(random.Random(7), "w", "team", NOW) for _ in range(2))  # noqa: S311 - dice
    assert first == again
