# SPDX-License-Identifier: Apache-2.0
"""What a workload asked for, read from its annotations and bounded by its policy.

A term that bounds the wait and cannot be read (deadline, max-delay) ends the wait: nobody may miss a deadline because
of a typing error. What only refines it falls back (duration and watts to what is assumed, a checkpoint to none) and is
reported.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from embellie.api.energypolicy import EnergyPolicySpec
from embellie.api.meta import JURISDICTION
from embellie.control.work.checkpoints import read_checkpoint
from embellie.control.work.durations import Duration, Past, assumed, stated_duration
from embellie.domain import names
from embellie.domain.durations import MAX_DURATION, parse_duration
from embellie.domain.reasons import Reason
from embellie.domain.times import parse_time
from embellie.planning.bounds import latest_start


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A workload's wait, bounded."""

    latest_start: datetime
    duration: Duration
    start_now: Reason | None
    message: str
    problems: tuple[str, ...]
    """One sentence for each annotation that could not be used, naming it and how to mend it."""


def read_terms(
    flex: str,
    annotations: Mapping[str, str],
    created_at: datetime,
    policy: EnergyPolicySpec,
    past: Past = Past(),
) -> Terms:
    """Read a workload's terms; `created_at` is in the operator's clock, `past` is what like work did."""
    problems: list[str] = []
    start_now: Reason | None = None
    message = ""

    max_delay = timedelta(seconds=policy.bonus_max_delay_seconds if flex == "bonus" else policy.max_delay_seconds)
    stated = annotations.get(names.MAX_DELAY)
    if stated is not None:
        try:
            max_delay = min(max_delay, parse_duration(stated))
        except ValueError as error:
            problems.append(f"annotation {names.MAX_DELAY}: {error}")
            start_now, message = Reason.INVALID_ANNOTATION, f"It starts at once: annotation {names.MAX_DELAY}: {error}."

    duration = _duration(annotations, past, policy, problems)
    for name, read in _REFINING.items():
        try:
            if name in annotations:
                read(annotations[name])
        except ValueError as error:
            problems.append(f"annotation {name}: {error}")
    deadline: datetime | None = None
    stated = annotations.get(names.DEADLINE)
    if stated is not None:
        deadline = parse_time(stated)
        if deadline is None:
            problem = (
                f"annotation {names.DEADLINE}: {stated[:40]!r} is not an instant with a time zone; "
                "write it like 2026-03-01T18:00:00Z"
            )
            problems.append(problem)
            start_now, message = Reason.INVALID_ANNOTATION, f"It starts at once: {problem}."

    if deadline is not None:
        # A deadline in the year 1 is as unreachable as yesterday's, and nothing can be taken off it.
        deadline = max(deadline, created_at - MAX_DURATION)
    bound, why = latest_start(created_at, max_delay, deadline, duration.p90)
    if start_now is not None:
        bound = created_at  # what was meant may have passed already: no sensor that is silent may hold it either
    if why is not None and start_now is None:
        start_now = why
        problem = (
            f"annotation {names.DEADLINE}: {str(stated)[:40]} lies before the job could end; set a later deadline or a "
            f"shorter {names.DURATION}"
        )
        problems.append(problem)
        message = f"It starts at once: {problem}."
    return Terms(
        latest_start=bound,
        duration=duration,
        start_now=start_now,
        message=message,
        problems=tuple(problems),
    )


def _duration(annotations: Mapping[str, str], past: Past, policy: EnergyPolicySpec, problems: list[str]) -> Duration:
    stated = None
    try:
        stated = stated_duration(annotations)
    except ValueError as error:
        problems.append(f"annotation {names.DURATION}: {error}")
    return past.expects(stated) or assumed(policy.assumed_duration_seconds)


def read_watts(text: str) -> float:
    """Read `embellie.io/watts-per-gpu` [W]; raise ValueError that says how to mend it."""
    try:
        watts = float(text)
    except ValueError:
        watts = math.nan
    if not 10.0 <= watts <= 5000.0:
        raise ValueError(f"{text[:40]!r} is not a number of watts between 10 and 5000, such as 650")
    return watts


def _check_residency(text: str) -> None:
    """Raise ValueError that says how to mend it where a part is no code: no zone can ever lie there."""
    wanted = _codes(text)
    odd = [code for code in wanted if not re.fullmatch(JURISDICTION, code.upper())]
    if odd or (text and not wanted):
        raise ValueError(f"{(odd or [text])[0][:40]!r} is not an ISO 3166 code such as FR or US-CA")


_REFINING: Mapping[str, Callable[[str], object]] = {
    names.WATTS_PER_GPU: read_watts,
    names.CHECKPOINT: read_checkpoint,
    names.RESIDENCY: _check_residency,
}
"""Annotations that bound no wait, and what reads them."""


def residency_allows(residency: str, jurisdiction: str) -> bool:
    """Tell whether a zone's jurisdiction satisfies `embellie.io/residency`, a comma list of ISO 3166 codes.

    A country covers its parts (`US` allows `US-CA`), a part never covers its country, and a zone that does not say
    where it lies satisfies nothing.

    >>> residency_allows("FR, DE", "FR"), residency_allows("US-CA", "US"), residency_allows("FR", "")
    (True, False, False)
    """
    here = jurisdiction.upper()
    wanted = [code.upper() for code in _codes(residency)]
    return bool(here) and any(here == w or here.startswith(w + "-") for w in wanted)


def _codes(residency: str) -> list[str]:
    return [part.strip() for part in residency.split(",") if part.strip()]
