# SPDX-License-Identifier: Apache-2.0
"""The parts of a ThermalZone's spec that say what it is: sensors, limits, cooling."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from embellie.api.meta import DNS_LABEL, ApiModel, Query, rule, rules


class SensorRole(StrEnum):
    """What a sensor looks at."""

    INLET = "Inlet"
    RETURN = "Return"
    SUPPLY = "Supply"
    COOLANT_SUPPLY = "CoolantSupply"
    COOLANT_RETURN = "CoolantReturn"
    OUTDOOR_DRY_BULB = "OutdoorDryBulb"
    OUTDOOR_WET_BULB = "OutdoorWetBulb"
    RIVER = "River"
    HUMIDITY = "Humidity"
    LOOP_POWER = "LoopPower"
    HEAT_DELIVERED = "HeatDelivered"


class SensorUnit(StrEnum):
    """What a sensor counts in."""

    CELSIUS = "Celsius"
    FAHRENHEIT = "Fahrenheit"
    KELVIN = "Kelvin"
    WATT = "Watt"
    KILOWATT = "Kilowatt"
    PERCENT = "Percent"
    RATIO = "Ratio"


class EquipmentClass(StrEnum):
    """Published classes of what equipment takes in."""

    A1 = "A1"
    A2 = "A2"
    A3 = "A3"
    A4 = "A4"
    H1 = "H1"
    W17 = "W17"
    W27 = "W27"
    W32 = "W32"
    W40 = "W40"
    W45 = "W45"
    S30 = "S30"
    S40 = "S40"
    S45 = "S45"
    S50 = "S50"


class Sensor(ApiModel):
    """One value that tells how the zone is doing."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.role in ['LoopPower', 'HeatDelivered'] ? self.unit in ['Watt', 'Kilowatt'] : "
                "self.role == 'Humidity' ? self.unit in ['Percent', 'Ratio'] : "
                "self.unit in ['Celsius', 'Fahrenheit', 'Kelvin']",
                "unit must be Celsius, Fahrenheit or Kelvin for a temperature, Watt or Kilowatt for LoopPower and "
                "HeatDelivered, Percent or Ratio for Humidity",
                field_path=".unit",
            )
        )
    )

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
            description="role is what the sensor looks at: Inlet (what the servers breathe in), Return (the air that "
            "leaves them), Supply (what the cooling delivers), CoolantSupply and CoolantReturn (the loop to the cold "
            "plates), OutdoorDryBulb, OutdoorWetBulb, River, Humidity (outdoors), LoopPower (heat that the loop "
            "carries) or "
            "HeatDelivered (heat that the network takes). The hottest of several of one role counts."
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
        SensorUnit,
        Field(
            description="unit is what the query counts in, after scalePermille: Celsius, Fahrenheit, Kelvin, Watt, "
            "Kilowatt, Percent or Ratio (0..1)."
        ),
    ]
    scale_permille: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="scalePermille is what the query's number is multiplied by, in thousandths: 100 for a building "
            "controller that counts in tenths of a degree. Defaults to 1000.",
        ),
    ] = 1000
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

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.inletSoftCelsius) || !has(self.inletHardCelsius) || "
                "self.inletSoftCelsius < self.inletHardCelsius",
                "inletSoftCelsius must be less than inletHardCelsius: between them the response ladder acts",
                field_path=".inletSoftCelsius",
            )
        )
    )

    equipment_class: Annotated[
        EquipmentClass | None,
        Field(
            description="equipmentClass is a class of ASHRAE TC 9.9 that gives the limits which are not written here: "
            "A1..A4 and H1 for air, W17..W45 for facility water, S30..S50 for the coolant at the cold plate. Check the "
            "numbers (docs/thermal-setup.md) against your equipment's papers.",
        ),
    ] = None
    inlet_hard_celsius: Annotated[
        int | None,
        Field(
            ge=10,
            le=90,
            description="inletHardCelsius is the highest temperature of what enters the servers (air, or coolant in a "
            "zone with CoolantSupply sensors) [degC]. Defaults to the class's limit, else 32.",
        ),
    ] = None
    inlet_soft_celsius: Annotated[
        int | None,
        Field(
            ge=5,
            le=89,
            description="inletSoftCelsius is where the response ladder begins [degC]. Defaults to "
            "ladder.enterMarginKelvin below the hard limit.",
        ),
    ] = None
    margin_kelvin: Annotated[
        int,
        Field(
            ge=0,
            le=20,
            description="marginKelvin is kept free below inletHardCelsius when a start is judged; margins that are "
            "learnt never fall below it [K]. Defaults to 3, good for air; 2 is usual for liquid.",
        ),
    ] = 3
    return_hard_celsius: Annotated[
        int | None,
        Field(ge=15, le=100, description="returnHardCelsius is the highest temperature of the return air [degC]."),
    ] = None
    coolant_return_hard_celsius: Annotated[
        int | None,
        Field(
            ge=15,
            le=100,
            description="coolantReturnHardCelsius is the highest temperature at which the coolant may come back "
            "[degC].",
        ),
    ] = None


class Derating(ApiModel):
    """What the cooling carries from an outdoor temperature on."""

    outdoor_from_celsius: Annotated[
        int,
        Field(ge=-60, le=60, description="outdoorFromCelsius is the outdoor temperature from which it holds [degC]."),
    ]
    capacity_kilowatts: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="capacityKilowatts is the heat that the cooling carries then with one unit failed [kW].",
        ),
    ]


class Cooling(ApiModel):
    """What the cooling can do."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.capacityAllUnitsKilowatts) || !has(self.capacityKilowatts) || "
                "self.capacityAllUnitsKilowatts >= self.capacityKilowatts",
                "capacityAllUnitsKilowatts must be greater than or equal to capacityKilowatts, which is with one unit "
                "failed",
                field_path=".capacityAllUnitsKilowatts",
            )
        )
    )

    capacity_kilowatts: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="capacityKilowatts is the heat that the cooling can carry away with one unit failed [kW]. "
            "Without it heat does not limit starts, unless riseMillikelvinPerKilowatt is given or learnt.",
        ),
    ] = None
    capacity_all_units_kilowatts: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="capacityAllUnitsKilowatts is the heat that the cooling can carry away with all units running; "
            "a note for people, since starts are judged with one unit failed [kW].",
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
            "Negative where chillers or evaporation go below the outside temperature. Learnt where an outdoor sensor "
            "shows it. Defaults to 8, a dry cooler.",
        ),
    ] = 8
    rise_millikelvin_per_kilowatt: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="riseMillikelvinPerKilowatt is how much one kilowatt of the zone's power warms the inlet above "
            "the supply [mK/kW]; it holds until the zone's own behaviour is learnt. Defaults to 0: only "
            "capacityKilowatts limits starts until then.",
        ),
    ] = 0
    deratings: Annotated[
        tuple[Derating, ...],
        Field(
            max_length=16,
            description="deratings are what the cooling carries on days hotter than it was sized for, as its maker's "
            "table says; the lowest row that applies counts.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["outdoorFromCelsius"]},
        ),
    ] = ()
    time_constant_seconds: Annotated[
        int,
        Field(
            ge=10,
            le=36_000,
            description="timeConstantSeconds is how long the zone takes to follow its power, until that is learnt: "
            "minutes for air, up to half an hour for loops. Defaults to 600.",
        ),
    ] = 600
