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
    READY_COLUMN,
    ZONE_NAME_RULE,
    ApiModel,
    Clipped,
    Definition,
    NodeSelector,
    PrinterColumn,
    Query,
    Resource,
    Scope,
    default,
    list_map,
    rule,
    rules,
)


class SensorRole(StrEnum):
    """What a temperature sensor looks at."""

    INLET = "Inlet"
    SUPPLY = "Supply"


class TemperatureUnit(StrEnum):
    """What a temperature sensor counts in."""

    CELSIUS = "Celsius"
    FAHRENHEIT = "Fahrenheit"
    KELVIN = "Kelvin"


class ThermalState(StrEnum):
    """How the zone stands against its limit."""

    NORMAL = "Normal"
    LIMITED = "Limited"
    OVER_LIMIT = "OverLimit"
    UNKNOWN = "Unknown"


class Sensor(ApiModel):
    """One temperature that tells how the zone is doing."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=DNS_LABEL,
            description="name tells the zone's sensors apart, in conditions and metrics.",
        ),
    ]
    role: Annotated[
        SensorRole,
        Field(
            description="role is Inlet for what the servers breathe in (or the coolant that enters them), which "
            "limits.inletHardCelsius bounds, or Supply for what the cooling delivers. The hottest of several counts."
        ),
    ]
    query: Annotated[
        Query,
        Field(
            description="query is a PromQL expression that yields one number, such as "
            'max(ipmi_temperature_celsius{name="Inlet Temp"}).'
        ),
    ]
    unit: Annotated[
        TemperatureUnit, Field(description="unit is what the query counts in: Celsius, Fahrenheit or Kelvin.")
    ]
    max_age_seconds: Annotated[
        int,
        Field(
            ge=10,
            le=3600,
            description="maxAgeSeconds is how old a sample may be and still be believed; an older one counts as the "
            "worst case. Defaults to 120.",
        ),
    ] = 120


class Limits(ApiModel):
    """What must not be exceeded."""

    inlet_hard_celsius: Annotated[
        int,
        Field(
            ge=10,
            le=90,
            description="inletHardCelsius is the highest inlet temperature that the servers may see [degC]. "
            "Defaults to 32.",
        ),
    ] = 32
    margin_kelvin: Annotated[
        int,
        Field(
            ge=0,
            le=20,
            description="marginKelvin is kept free below inletHardCelsius when a start is judged [K]. Defaults to 3, "
            "good for air; 2 is usual for liquid.",
        ),
    ] = 3


class Cooling(ApiModel):
    """What the cooling can do."""

    capacity_kilowatts: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="capacityKilowatts is the heat that the cooling can carry away with one unit failed [kW]. "
            "Without it heat does not limit starts, unless riseMillikelvinPerKilowatt is given.",
        ),
    ] = None
    supply_setpoint_celsius: Annotated[
        int,
        Field(
            ge=5,
            le=70,
            description="supplySetpointCelsius is the supply temperature that the cooling is set to [degC]. "
            "Defaults to 20.",
        ),
    ] = 20
    supply_worst_celsius: Annotated[
        int,
        Field(
            ge=5,
            le=80,
            description="supplyWorstCelsius is what the supply counts as while no sensor can be believed [degC]. "
            "Defaults to 27.",
        ),
    ] = 27
    ambient_approach_kelvin: Annotated[
        int,
        Field(
            ge=-60,
            le=40,
            description="ambientApproachKelvin is how close to the outside temperature the cooling can bring the "
            "supply on a hot day [K]: the supply is foreseen as the greater of the setpoint and outside plus this. "
            "Negative where chillers or evaporation go below the outside temperature. Defaults to 8, a dry cooler.",
        ),
    ] = 8
    rise_millikelvin_per_kilowatt: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="riseMillikelvinPerKilowatt is how much one kilowatt of the zone's power warms the inlet above "
            "the supply [mK/kW]. Defaults to 0: only capacityKilowatts limits starts.",
        ),
    ] = 0


class ThermalZoneSpec(ApiModel):
    """Nodes that share cooling."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
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
            max_length=16,
            description="sensors are the temperatures to watch, with unique names. Without a Supply sensor "
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
    start_ramp_kilowatts_per_minute: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="startRampKilowattsPerMinute is how fast starts may raise the zone's power [kW/min]. Without "
            "it starts are not spread.",
        ),
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
            description="bindingLimit is the limit that the headroom is measured to, such as InletHard or "
            "CoolingCapacity.",
        ),
        EMPTY_IS_ABSENT,
    ] = None


class ThermalZone(Resource):
    """ThermalZone says which nodes share cooling and what that cooling can carry away.

    No start is allowed that could take the zone over its limit.
    """

    model_config = ConfigDict(json_schema_extra=rules(ZONE_NAME_RULE))

    definition: ClassVar[Definition] = Definition(
        kind="ThermalZone",
        plural="thermalzones",
        short_name="tz",
        scope=Scope.CLUSTER,
        conditions=(
            ("Ready", "the selector matches nodes with GPUs that are in no older ThermalZone"),
            ("SensorsTrusted", "every sensor gave a fresh, sane reading; while one does not, the worst case counts"),
            ("WithinLimit", "no fresh inlet reading stands over the hard limit"),
            ("NodesExclusive", "no node of the zone matches another ThermalZone"),
        ),
        columns=(
            READY_COLUMN,
            PrinterColumn(
                name="State", json_path=".status.state", description="How the zone stands against its limit."
            ),
            PrinterColumn(
                name="Inlet", json_path=".status.inletCelsius", description="Hottest inlet [degC].", type="integer"
            ),
            PrinterColumn(
                name="Limit",
                json_path=".spec.limits.inletHardCelsius",
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
                name="Supply",
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
