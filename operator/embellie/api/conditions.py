# SPDX-License-Identifier: Apache-2.0
"""Conditions as Kubernetes writes them, and the one way to change them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from embellie.api.meta import ApiModel, Message, Time, list_map

MAX_GENERATION = 2**53 - 1
"""Bounds in a schema are floating-point numbers; this is the greatest exact one."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """One observation about an object: whether it holds, since when and why."""

    type: Annotated[
        str,
        Field(
            min_length=1,
            max_length=316,
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
            r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            description="type is the name of the condition, such as Ready.",
        ),
    ]
    status: Annotated[ConditionStatus, Field(description="status is True, False or Unknown.")]
    observed_generation: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_GENERATION,
            description="observedGeneration is the metadata.generation that the condition was computed from. If it is "
            "lower than the current one, the condition is out of date.",
        ),
    ] = None
    last_transition_time: Annotated[
        Time, Field(description="lastTransitionTime is when the condition's status last changed.")
    ]
    reason: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="reason is one CamelCase word for programs that says why the condition is as it is.",
        ),
    ]
    message: Annotated[
        Message, Field(description="message is a sentence for people; where something is wrong it says what to do.")
    ]


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        description="conditions are the latest observations about the object; Ready sums them up.",
        json_schema_extra=list_map("type"),
    ),
]

ObservedGeneration = Annotated[
    int | None,
    Field(
        ge=0,
        le=MAX_GENERATION,
        description="observedGeneration is the metadata.generation that this status was computed from.",
    ),
]


def find_condition(conditions: tuple[Condition, ...], type_: str) -> Condition | None:
    """Return the condition of that type, or None."""
    return next((one for one in conditions if one.type == type_), None)


def set_condition(
    conditions: tuple[Condition, ...],
    *,
    type_: str,
    status: ConditionStatus,
    reason: str,
    message: str,
    now: datetime,
    observed_generation: int | None = None,
) -> tuple[Condition, ...]:
    """Return the conditions with one set, in place if it was there; its time moves only when its status changes."""
    before = find_condition(conditions, type_)
    since = before.last_transition_time if before is not None and before.status == status else now
    after = Condition(
        type=type_,
        status=status,
        observed_generation=observed_generation,
        last_transition_time=since,
        reason=reason,
        message=message,
    )
    if before is None:
        return (*conditions, after)
    return tuple(after if one.type == type_ else one for one in conditions)
