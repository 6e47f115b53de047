# SPDX-License-Identifier: Apache-2.0
"""PowerCap: the most that each GPU of a node may draw for a while, for an agent on the node to carry out."""

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from embellie.api.conditions import Conditions, ObservedGeneration
from embellie.api.meta import (
    AGE_COLUMN,
    DNS_LABEL,
    READY_COLUMN,
    ApiModel,
    Clipped,
    Definition,
    Message,
    PrinterColumn,
    Resource,
    Scope,
    Time,
    rule,
    rules,
)

LEAST_WATTS, MOST_WATTS = 1, 10_000
"""As of a GridZone's gpuRatedPowerWatts: the knee of a GPU rated at 70 W is 42 W."""


class PowerCapSpec(ApiModel):
    """What a node's GPUs may draw, until when and why."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.capWatts >= self.kneeWatts",
                "capWatts must be greater than or equal to kneeWatts: below it work gets slower faster than it gets "
                "cheaper",
                field_path=".capWatts",
            )
        )
    )

    cap_watts: Annotated[
        int,
        Field(
            ge=LEAST_WATTS,
            le=MOST_WATTS,
            description="capWatts is the most that each GPU of the node may draw, the same for all of them [W].",
        ),
    ]
    knee_watts: Annotated[
        int,
        Field(
            ge=LEAST_WATTS,
            le=MOST_WATTS,
            description="kneeWatts is the cap below which work gets slower faster than it gets cheaper [W].",
        ),
    ]
    expiry_time: Annotated[
        Time,
        Field(
            description="expiryTime is when the cap ends by itself; from then on the node's agent must restore what "
            "was set before it. A cap that is still needed is written again with a later one."
        ),
    ]
    thermal_zone_name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=DNS_LABEL,
            description="thermalZoneName is the ThermalZone whose heat asks for the cap.",
        ),
    ]
    reason: Annotated[Message, Field(description="reason is a sentence that says why.")]


class PowerCapStatus(ApiModel):
    """What the node's agent reports."""

    conditions: Conditions = ()
    observed_generation: ObservedGeneration = None
    enforced_watts: Annotated[
        int | None,
        Clipped(0, 100_000),
        Field(description="enforcedWatts is the limit that the agent read back from the node's GPUs [W]."),
    ] = None


class PowerCap(Resource):
    """PowerCap limits the power of a node's GPUs for a while; its name is the node's name.

    The operator writes it for nodes whose agent announced itself with the label embellie.io/power-cap-agent=true, while
    their ThermalZone stands on the rung LowerCaps of its ladder, and removes it when it is over or has expired.
    """

    definition: ClassVar[Definition] = Definition(
        kind="PowerCap",
        plural="powercaps",
        short_name="pcap",
        scope=Scope.CLUSTER,
        conditions=(("Ready", "the node's agent read back that the cap is enforced"),),
        columns=(
            READY_COLUMN,
            PrinterColumn(
                name="Cap W", json_path=".spec.capWatts", description="Most that each GPU may draw [W].", type="integer"
            ),
            PrinterColumn(
                name="Enforced W",
                json_path=".status.enforcedWatts",
                description="Limit that the agent read back [W].",
                type="integer",
            ),
            PrinterColumn(name="Zone", json_path=".spec.thermalZoneName", description="The zone that asks for it."),
            PrinterColumn(name="Until", json_path=".spec.expiryTime", description="When it ends by itself."),
            PrinterColumn(name="Reason", json_path=".spec.reason", description="Why.", priority=1),
            AGE_COLUMN,
        ),
    )

    spec: Annotated[PowerCapSpec, Field(description="spec is what the node's GPUs may draw.")]
    status: Annotated[PowerCapStatus, Field(description="status is what the node's agent reports.")] = Field(
        default_factory=PowerCapStatus
    )
