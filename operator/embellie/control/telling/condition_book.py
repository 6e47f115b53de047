# SPDX-License-Identifier: Apache-2.0
"""Conditions of our own objects while a turn writes them down, and those that both kinds of zone have."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from embellie.api.conditions import Conditions, ConditionStatus, set_condition
from embellie.control.assembly.zone_settings import no_nodes
from embellie.thermal.promises import Collision


class ConditionBook:
    """Collects one object's conditions; the times are wall times, like the API server's."""

    def __init__(self, before: Conditions, generation: int, wall_now: datetime) -> None:
        self.found = before
        self._generation = generation
        self._now = wall_now

    def set(self, type_: str, good: bool | None, reason: str, message: str) -> None:
        """Set one condition; None is Unknown."""
        status = ConditionStatus.UNKNOWN if good is None else ConditionStatus.TRUE if good else ConditionStatus.FALSE
        self.found = set_condition(
            self.found,
            type_=type_,
            status=status,
            reason=reason,
            message=message,
            now=self._now,
            observed_generation=self._generation,
        )


def say_exclusive(conditions: ConditionBook, shared: Iterable[str], kind: str) -> None:
    """Say whether the zone's nodes are its own."""
    names = sorted(shared)
    if names:
        conditions.set(
            "NodesExclusive",
            False,
            "SharedNodes",
            f"{len(names)} nodes match another {kind} too ({', '.join(names[:3])}...): the oldest {kind} has them. "
            "Give each node labels of one zone only.",
        )
    else:
        conditions.set("NodesExclusive", True, "Exclusive", f"No node matches another {kind}.")


def say_ready(conditions: ConditionBook, nodes: int, kind: str) -> None:
    """Say whether the zone has nodes."""
    if nodes:
        conditions.set("Ready", True, "NodesFound", f"{nodes} GPU nodes belong to it.")
    else:
        conditions.set("Ready", False, "NoNodes", f"{no_nodes(kind)}.")


def say_promises(conditions: ConditionBook, collisions: Sequence[Collision]) -> None:
    """Say whether the zone can carry all that it has promised; `collisions` are its own."""
    if not collisions:
        conditions.set("PromisesKept", True, "Room", "All promised starts fit under the limits as foreseen.")
        return
    first = min(collisions, key=lambda c: c.at)
    conditions.set(
        "PromisesKept",
        False,
        "Collision",
        f"At {first.at:%Y-%m-%d %H:%M} UTC promised starts need {first.need_kw:.0f} kW of {first.limit_kw:.0f} kW"
        f"{_ordered(first)} ({len(collisions)} in all): they are moved where they can be; "
        "give them room or earlier starts.",
    )


def _ordered(collision: Collision) -> str:
    """Say that it is an order that leaves so little, where it is one."""
    order = collision.order
    if order is None:
        return ""
    return f" that an order leaves it from {order.begins:%Y-%m-%d %H:%M} to {order.ends:%Y-%m-%d %H:%M} UTC"
