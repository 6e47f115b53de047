# SPDX-License-Identifier: Apache-2.0
"""The annotation `embellie.io/checkpoint`, with which a Job's owner allows it to be paused.

`takes=5m,every=1h`: a checkpoint takes five minutes to write, and the job writes one by itself every hour. Only `takes`
is needed. Work without the annotation is never paused.
"""

from dataclasses import dataclass
from datetime import timedelta

from embellie.domain.durations import parse_duration

LONGEST = timedelta(hours=1)
"""No announcement runs longer: heat does not wait for a checkpoint of a day."""
_HELP = "write it like takes=5m,every=1h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a job says of its checkpoints."""

    takes: timedelta
    every: timedelta | None = None


def read_checkpoint(text: str) -> Checkpoint:
    """Read the annotation; raise ValueError that says how to mend it.

    >>> read_checkpoint("takes=5m, every=1h").takes
    datetime.timedelta(seconds=300)
    """
    found: dict[str, timedelta] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or key not in ("takes", "every") or key in found:
            raise ValueError(f"{part.strip()[:40]!r} is not takes=DURATION or every=DURATION, once each; {_HELP}")
        found[key] = parse_duration(value)
    takes = found.get("takes")
    if takes is None:
        raise ValueError(f"it does not say how long a checkpoint takes; {_HELP}")
    if takes > LONGEST:
        raise ValueError("a checkpoint that takes longer than 1h cannot be waited for; shorten takes, or leave it out")
    return Checkpoint(takes=takes, every=found.get("every"))
