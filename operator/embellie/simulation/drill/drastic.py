# SPDX-License-Identifier: Apache-2.0
"""Whether a loss of cooling could have been answered at all: what comes if nobody does anything, or everything at once.

The operator answers gently first and measures what comes of it. Where hardware slowed down all the same, the plant's
truth says whether haste would have helped.
"""

from collections.abc import Sequence

import numpy as np

from embellie.simulation.drill import count
from embellie.simulation.drill.jobs import KNEE_SHARE
from embellie.simulation.drill.operator import OperatorPolicy
from embellie.simulation.drill.rig import Drill, Rig, Seen
from embellie.simulation.drill.scenarios import Kind


class AllAtOnce(OperatorPolicy):
    """The operator until a loss of cooling shows; then all that allows it is paused and the rest capped to its knee."""

    def __init__(self, rig: Rig) -> None:
        self._spans_s = [_loss_s(drill) for drill in rig.drills]
        super().__init__(rig, hands_off_from_s=[begin_s for begin_s, _ in self._spans_s])

    def turn(self, now_s: float, seen: Seen) -> None:
        """Take one turn."""
        super().turn(now_s, seen)
        for (begin_s, end_s), room in zip(self._spans_s, self.rooms, strict=True):
            sensors, control = room.drill.room.sensors, room.drill.room.control
            if not begin_s + sensors.delay_s + sensors.scrape_s + control.turn_s <= now_s < end_s:
                continue
            knee_w = KNEE_SHARE * room.drill.room.node.gpu_rated_w
            for run in list(room.site.running.values()):
                if run.job.pausable:
                    room.site.pause(run.job.id, now_s)
                elif control.caps:
                    room.site.cap(run.job.id, knee_w, now_s)


def slowed_all_the_same(drills: Sequence[Drill]) -> list[bool]:
    """Return for each drill whether hardware slows down during or after its loss of cooling whatever is done."""
    rig = Rig(drills)
    spans_s = [_loss_s(drill) for drill in drills]
    log = rig.run(AllAtOnce(rig), max(end_s for _, end_s in spans_s) + 1800.0)
    return [bool(log.slowed[int(begin_s / log.turn_s) :, b].any()) for b, (begin_s, _) in enumerate(spans_s)]


def seconds_to_limit(drills: Sequence[Drill]) -> list[float | None]:
    """Return for each drill how long after its loss of cooling a limit is first passed if nobody does anything."""
    rig = Rig(drills)
    spans_s = [_loss_s(drill) for drill in drills]
    idle = OperatorPolicy(rig, hands_off_from_s=[begin_s for begin_s, _ in spans_s])
    log = rig.run(idle, max(end_s for _, end_s in spans_s) + 1800.0)
    found: list[float | None] = []
    for b, (drill, (begin_s, _)) in enumerate(zip(drills, spans_s, strict=True)):
        over = count.violations(drill, log, b, rig.zones)
        hot_s = [v.begin_s for v in over if v.begin_s >= begin_s and not v.what.endswith("power")]
        found.append(min(hot_s) - begin_s if hot_s else None)
    return found


def _loss_s(drill: Drill) -> tuple[float, float]:
    losses = [trouble for trouble in drill.course.troubles if trouble.kind is Kind.WEAR]
    return min((t.begin_s for t in losses), default=np.inf), max((t.end_s for t in losses), default=0.0)
