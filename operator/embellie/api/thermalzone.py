# SPDX-License-Identifier: Apache-2.0
"""ThermalZone: nodes that share cooling, what that cooling can carry away, and how to see it."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from embellie.api.conditions import Conditions, ObservedGeneration
from embellie.api.meta import (
    AGE_COLUMN,
    CAMEL_CASE,
    DNS_LABEL,
    EMPTY_IS_ABSENT,
    LIST_SET,
    READY_COLUMN,
    ZONE_NAME_RULE,
    ApiModel,
    Clipped,
    Definition,
    NodeSelector,
    PrinterColumn,
    Resource,
    Scope,
    Time,
    default,
    list_map,
    rule,
    rules,
)
from embellie.api.thermalduties import HeatDelivery, HeatRow, Ladder, PuePoint
from embellie.api.thermalspec import Cooling, Limits, Sensor, SensorRole


class ThermalState(StrEnum):
    """How the zone stands against its limit."""

    NORMAL = "Normal"
    LIMITED = "Limited"
    OVER_LIMIT = "OverLimit"
    UNKNOWN = "Unknown"


NOT_ITS_OWN_NEIGHBOUR = rule(
    "!has(self.spec.neighbourZoneNames) || !(self.metadata.name in self.spec.neighbourZoneNames)",
    "spec.neighbourZoneNames must not name the zone itself: how its own heat reaches its inlets is learnt anyway",
)


class ThermalZoneSpec(ApiModel):
    """Nodes that share cooling."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.limits.inletHardCelsius) || "
                "self.limits.inletHardCelsius - self.limits.marginKelvin > self.cooling.supplySetpointCelsius",
                "limits.inletHardCelsius minus limits.marginKelvin must be greater than "
                "cooling.supplySetpointCelsius, or nothing could ever start: raise the limit, reduce the margin or "
                "lower the setpoint",
                field_path=".limits.inletHardCelsius",
            ),
            rule(
                "self.cooling.supplyWorstCelsius >= self.cooling.supplySetpointCelsius",
                "cooling.supplyWorstCelsius must be greater than or equal to cooling.supplySetpointCelsius: it is "
                "what counts while no sensor can be believed",
                field_path=".cooling.supplyWorstCelsius",
            ),
            rule(
                "(has(self.sensors) && size(self.sensors) > 0) || has(self.cooling.capacityKilowatts) || "
                "self.cooling.riseMillikelvinPerKilowatt > 0 || has(self.startRampKilowattsPerMinute)",
                "at least one of sensors, cooling.capacityKilowatts, cooling.riseMillikelvinPerKilowatt and "
                "startRampKilowattsPerMinute must be given, or the zone limits nothing",
                field_path=".sensors",
                reason="FieldValueRequired",
            ),
            *(
                rule(
                    f"!has(self.limits.{field}) || (has(self.sensors) && self.sensors.exists(s, s.role == '{role}'))",
                    f"a sensor with the role {role} must be given for limits.{field}, or nobody watches it: add the "
                    "sensor, or remove the limit",
                    field_path=".sensors",
                    reason="FieldValueRequired",
                )
                for field, role in (("returnHardCelsius", "Return"), ("coolantReturnHardCelsius", "CoolantReturn"))
            ),
        )
    )

    node_selector: Annotated[
        NodeSelector,
        Field(
            description="nodeSelector holds the labels that every node of the zone carries, such as "
            "example.com/row: west-r1. A node must match at most one ThermalZone; work that is placed here gets these "
            "labels as required node affinity."
        ),
    ]
    grid_zone_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            pattern=DNS_LABEL,
            description="gridZoneName is the GridZone whose forecast tells the outside temperature here. Without it "
            "hot afternoons are not foreseen.",
        ),
    ] = None
    sensors: Annotated[
        tuple[Sensor, ...],
        Field(
            max_length=24,
            description="sensors are what to watch, with unique names. Without a Supply sensor "
            "cooling.supplyWorstCelsius counts; without an Inlet sensor the limit is checked by reckoning alone.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    limits: Annotated[
        Limits, Field(description="limits are what must not be exceeded.", json_schema_extra=default({}))
    ] = Field(default_factory=Limits)
    cooling: Annotated[
        Cooling, Field(description="cooling is what the cooling can do.", json_schema_extra=default({}))
    ] = Field(default_factory=Cooling)
    neighbour_zone_names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)], ...],
        Field(
            max_length=8,
            description="neighbourZoneNames are ThermalZones whose heat may reach this one's inlets; how much really "
            "does is learnt. Without it none is looked for.",
            json_schema_extra=LIST_SET,
        ),
    ] = ()
    rejection_ceilings: Annotated[
        tuple[HeatRow, ...],
        Field(
            max_length=16,
            description="rejectionCeilings are the heat that may be given off outside by permit; the lowest row that "
            "applies counts.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    heat_delivery: Annotated[
        HeatDelivery | None,
        Field(description="heatDelivery is what a heat network is owed from the zone's loop."),
    ] = None
    ladder: Annotated[
        Ladder,
        Field(
            description="ladder is what is done when the zone heats in spite of everything.",
            json_schema_extra=default({}),
        ),
    ] = Field(default_factory=Ladder)
    power_usage_effectiveness: Annotated[
        tuple[PuePoint, ...],
        Field(
            max_length=16,
            description="powerUsageEffectiveness is the facility's power over its IT power at outdoor temperatures, "
            "with straight lines between; one point is a constant. Without it the GridZone's number holds.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["outdoorCelsius"]},
        ),
    ] = ()
    start_ramp_kilowatts_per_minute: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="startRampKilowattsPerMinute is how fast starts may raise the zone's power [kW/min]. Without "
            "it starts are not spread.",
        ),
    ] = None


class ModelConfidence(StrEnum):
    """How far what was learnt about a zone is believed."""

    LEARNING = "Learning"
    TRUSTED = "Trusted"
    DRIFTED = "Drifted"


class SensorTrust(StrEnum):
    """How far a reading may be believed."""

    FRESH = "Fresh"
    STALE = "Stale"
    FROZEN = "Frozen"
    JUMPING = "Jumping"
    ABSURD = "Absurd"
    MISSING = "Missing"


class Temperature(ApiModel):
    """What a role's sensors say."""

    role: Annotated[SensorRole, Field(description="role is what the sensor looks at.")]
    value_celsius: Annotated[
        int | None,
        Clipped(-100, 300),
        Field(description="valueCelsius is the worst of the role's readings, rounded up."),
    ] = None
    age_seconds: Annotated[
        int | None,
        Clipped(0, 1_000_000),
        Field(description="ageSeconds is how old the reading is, rounded up to half minutes."),
    ] = None
    trust: Annotated[SensorTrust, Field(description="trust is how far the reading may be believed.")]


class LearntModel(ApiModel):
    """How the zone heats, as learnt from its sensors."""

    confidence: Annotated[
        ModelConfidence,
        Field(
            description="confidence is Learning (what the spec says holds), Trusted (this model holds) or Drifted (the "
            "zone behaves otherwise than it was learnt; the worse of both holds)."
        ),
    ]
    rise_millikelvin_per_kilowatt: Annotated[
        int | None,
        Clipped(0, 1_000_000),
        Field(description="riseMillikelvinPerKilowatt is how much a kilowatt warms the inlet [mK/kW]."),
    ] = None
    rise_uncertainty_millikelvin_per_kilowatt: Annotated[
        int | None,
        Clipped(0, 1_000_000),
        Field(
            description="riseUncertaintyMillikelvinPerKilowatt is the rise's standard error; starts are judged two of "
            "them on the safe side [mK/kW]."
        ),
    ] = None
    time_constant_seconds: Annotated[
        int | None,
        Clipped(0, 1_000_000),
        Field(description="timeConstantSeconds is how long the zone takes to follow its power."),
    ] = None
    margin_millikelvin: Annotated[
        int | None,
        Clipped(0, 1_000_000),
        Field(description="marginMillikelvin is what predictions may be wrong by, once in a hundred [mK]."),
    ] = None


class ThermalZoneStatus(ApiModel):
    """What Embellie knows about the zone."""

    conditions: Conditions = ()
    observed_generation: ObservedGeneration = None
    nodes: Annotated[
        int | None, Clipped(0, 1_000_000), Field(description="nodes is how many nodes the selector matches.")
    ] = None
    state: Annotated[
        ThermalState | None,
        Field(
            description="state is how the zone stands: Normal, Limited (starts wait for heat), OverLimit (a fresh "
            "reading stands over the hard limit) or Unknown (no sensor can be believed)."
        ),
    ] = None
    inlet_celsius: Annotated[
        int | None,
        Clipped(-100, 300),
        Field(description="inletCelsius is the hottest believable inlet reading, rounded up [degC]."),
    ] = None
    supply_celsius: Annotated[
        int | None,
        Clipped(-100, 300),
        Field(description="supplyCelsius is the hottest believable supply reading, rounded up [degC]."),
    ] = None
    limit_celsius: Annotated[
        int | None, Clipped(-100, 300), Field(description="limitCelsius is the hard inlet limit that holds [degC].")
    ] = None
    temperatures: Annotated[
        tuple[Temperature, ...],
        Field(
            max_length=16,
            description="temperatures are the zone's readings with their age, by role.",
            json_schema_extra=list_map("role"),
        ),
    ] = ()
    predicted_peak_celsius: Annotated[
        int | None,
        Clipped(-100, 300),
        Field(
            description="predictedPeakCelsius is the highest inlet temperature expected within a day at the present "
            "load, rounded up [degC]."
        ),
    ] = None
    predicted_peak_time: Annotated[Time | None, Field(description="predictedPeakTime is when that is expected.")] = None
    headroom_ahead_kilowatts: Annotated[
        int | None,
        Clipped(-1_000_000, 1_000_000),
        Field(
            description="headroomAheadKilowatts is how much more power may be started now if it is to run through the "
            "hottest hour of the next day [kW]."
        ),
    ] = None
    model: Annotated[LearntModel | None, Field(description="model is how the zone heats, as learnt.")] = None
    headroom_kilowatts: Annotated[
        int | None,
        Clipped(-1_000_000, 1_000_000),
        Field(
            description="headroomKilowatts is how much more power may be started now; negative when the zone is over "
            "its limit at worst-case power [kW].",
        ),
    ] = None
    binding_limit: Annotated[
        str | None,
        Field(
            max_length=63,
            pattern=CAMEL_CASE,
            description="bindingLimit is the limit that the headroom is measured to, such as InletSteadyState or "
            "CoolingCapacity.",
        ),
        EMPTY_IS_ABSENT,
        LIST_SET,
    ] = None


class ThermalZone(Resource):
    """ThermalZone says which nodes share cooling and what that cooling can carry away.

    No start is allowed that could take the zone over its limit.
    """

    model_config = ConfigDict(json_schema_extra=rules(ZONE_NAME_RULE, NOT_ITS_OWN_NEIGHBOUR))

    definition: ClassVar[Definition] = Definition(
        kind="ThermalZone",
        plural="thermalzones",
        short_name="tz",
        scope=Scope.CLUSTER,
        conditions=(
            ("Ready", "the selector matches nodes with GPUs that are in no older ThermalZone"),
            ("SensorsTrusted", "every sensor gave a fresh, sane reading; while one does not, the worst case counts"),
            ("WithinLimit", "no fresh reading stands over its hard limit"),
            ("NodesExclusive", "no node of the zone matches another ThermalZone"),
            ("SpecConsistent", "the spec's parts agree; while they do not, nothing new starts before its latest start"),
            ("ConstraintsAgree", "heat-rejection ceiling, order to cut and heat-delivery floor can all be met"),
            ("AdmissionOpen", "the zone does not heat in spite of everything, so new work may start"),
            ("PromisesKept", "the zone can carry all starts that it has promised by their latest start"),
        ),
        columns=(
            READY_COLUMN,
            PrinterColumn(
                name="State", json_path=".status.state", description="How the zone stands against its limit."
            ),
            PrinterColumn(
                name="Inlet C", json_path=".status.inletCelsius", description="Hottest inlet [degC].", type="integer"
            ),
            PrinterColumn(
                name="Limit C",
                json_path=".status.limitCelsius",
                description="Highest inlet temperature allowed [degC].",
                type="integer",
            ),
            PrinterColumn(
                name="Headroom kW",
                json_path=".status.headroomKilowatts",
                description="Power that may still be started now [kW].",
                type="integer",
            ),
            PrinterColumn(name="Nodes", json_path=".status.nodes", description="Nodes in the zone.", type="integer"),
            PrinterColumn(
                name="Peak C",
                json_path=".status.predictedPeakCelsius",
                description="Hottest inlet expected within a day [degC].",
                type="integer",
                priority=1,
            ),
            PrinterColumn(
                name="Supply C",
                json_path=".status.supplyCelsius",
                description="Hottest supply [degC].",
                type="integer",
                priority=1,
            ),
            PrinterColumn(
                name="Binding", json_path=".status.bindingLimit", description="The limit that binds.", priority=1
            ),
            AGE_COLUMN,
        ),
    )

    spec: Annotated[ThermalZoneSpec, Field(description="spec is what the facilities engineer says about the zone.")]
    status: Annotated[
        ThermalZoneStatus, Field(description="status is what Embellie observed; it can be rebuilt at any time.")
    ] = Field(default_factory=ThermalZoneStatus)
