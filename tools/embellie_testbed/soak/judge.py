# SPDX-License-Identifier: Apache-2.0
"""Holds every promise against what the audit log tells."""

from embellie_testbed.soak.rules import Case, Rule, Violation
from embellie_testbed.soak.rules_borders import residency_is_never_crossed
from embellie_testbed.soak.rules_holds import fails_open, latest_start_never_later, never_past_its_bound, says_why
from embellie_testbed.soak.rules_pauses import nothing_is_paused_early, pauses_are_announced, pauses_end
from embellie_testbed.soak.rules_writes import (
    copied_notes_are_taken_off,
    nothing_is_held_after_uninstall,
    nothing_is_refused_because_of_us,
    nothing_is_released_twice,
    only_what_opted_in_is_written,
    what_did_not_opt_in_is_as_its_user_wrote_it,
)

RULES: tuple[Rule, ...] = (
    never_past_its_bound,
    fails_open,
    latest_start_never_later,
    says_why,
    only_what_opted_in_is_written,
    what_did_not_opt_in_is_as_its_user_wrote_it,
    copied_notes_are_taken_off,
    nothing_is_released_twice,
    nothing_is_refused_because_of_us,
    nothing_is_held_after_uninstall,
    pauses_are_announced,
    nothing_is_paused_early,
    pauses_end,
    residency_is_never_crossed,
)


def judge(case: Case) -> list[Violation]:
    """Return every promise that was not kept."""
    return [violation for rule in RULES for violation in rule(case)]
