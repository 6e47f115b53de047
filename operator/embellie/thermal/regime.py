# SPDX-License-Identifier: Apache-2.0
"""Regimes of nodes: fans that change gear by themselves and GPUs that heat slows down change how a zone heats.

What is seen around such a change teaches nothing, and what was learnt before it counts for less (`ZoneModels`). Fans
that follow the load are no other regime: one begins only where the speed leaves a band while the power does not. A
zone's regime is another once as many changes were seen as half its nodes make.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

BAND = 1.35
"""Fans that turn so many times faster or slower have changed gear; their own power then differs by 2.5 times."""
STEADY = 0.15
"""A power that moved by a smaller share than this explains no other fan speed."""
THROTTLED_S = 0.5
"""Slowed down by heat for longer than this between two looks is a regime of its own, and no stray count [s]."""


@dataclass(slots=True)
class _Node:
    rpm: float = math.nan
    power_w: float = math.nan
    throttle_s: float = math.nan
    throttled: bool = False
    changes: int = 0


class Regimes:
    """Counts the changes of every node; numbers only grow."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def observe(self, node: str, fan_rpm: float, power_w: float, throttle_s: float = math.nan) -> None:
        """Take one look at a node; what is not finite is not known.

        Args:
            node: Its name.
            fan_rpm: Mean speed of its fans.
            power_w: What it draws.
            throttle_s: For how long heat has slowed its GPUs down so far: a counter [s].
        """
        known = self._nodes.setdefault(node, _Node())
        if math.isfinite(fan_rpm) and math.isfinite(power_w) and fan_rpm > 0.0 and power_w > 0.0:
            steady = abs(power_w - known.power_w) <= STEADY * known.power_w
            if not known.rpm / BAND <= fan_rpm <= known.rpm * BAND:
                known.changes += steady
                known.rpm, known.power_w = fan_rpm, power_w
            elif not steady:
                known.power_w = power_w
        if math.isfinite(throttle_s):
            # A counter that falls began anew.
            throttled = throttle_s - known.throttle_s > THROTTLED_S
            known.changes += throttled != known.throttled
            known.throttled, known.throttle_s = throttled, throttle_s

    def of(self, nodes: Sequence[str]) -> int:
        """Return a number for a zone's nodes that changes when their regime does."""
        seen = [found.changes for name in nodes if (found := self._nodes.get(name)) is not None]
        return int(2.0 * sum(seen) / len(seen)) if seen else 0
