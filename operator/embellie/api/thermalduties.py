# SPDX-License-Identifier: Apache-2.0
"""The parts of a ThermalZone's spec that say what is asked of it: permits, heat networks, the response ladder, PUE."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from embellie.api.meta import DNS_LABEL, LIST_SET, ApiModel, list_map, rule, rules

PartName = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
Kilowatts = Annotated[int, Field(ge=0, le=1_000_000)]


class LadderMeasure(StrEnum):
    """What may be done about a zone that heats."""

    CLOSE_ADMISSION = "CloseAdmission"
    LOWER_CAPS = "LowerCaps"
    PAUSE = "Pause"
    TAINT = "Taint"


class Claim(StrEnum):
    """What may disagree about how much heat a zone shall make."""

    CEILING = "Ceiling"
    ORDER = "Order"
    FLOOR = "Floor"


class HeatRow(ApiModel):
    """One row of a permit or a contract."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.fromHour != self.toHour",
                "toHour must not equal fromHour: write 0 and 24 for the whole day",
                field_path=".toHour",
            ),
            *(
                rule(
                    f"self.{what}FromCelsius < self.{what}ToCelsius",
                    f"{what}FromCelsius must be less than {what}ToCelsius, or the row never holds: swap them, or leave "
                    "one out",
                    field_path=f".{what}FromCelsius",
                )
                for what in ("outdoor", "river")
            ),
        )
    )

    name: Annotated[PartName, Field(description="name tells the rows apart.")]
    heat_kilowatts: Annotated[Kilowatts, Field(description="heatKilowatts is the heat that the row is about [kW].")]
    from_hour: Annotated[
        int, Field(ge=0, le=23, description="fromHour is the hour of the day (UTC) from which it holds. Defaults to 0.")
    ] = 0
    to_hour: Annotated[
        int,
        Field(
            ge=0,
            le=24,
            description="toHour is the hour of the day (UTC) until which it holds; less than fromHour when it holds "
            "over midnight. Defaults to 24.",
        ),
    ] = 24
    outdoor_from_celsius: Annotated[
        int,
        Field(
            ge=-100,
            le=100,
            description="outdoorFromCelsius is the outdoor temperature from which it holds [degC]. Defaults to -100.",
        ),
    ] = -100
    outdoor_to_celsius: Annotated[
        int,
        Field(
            ge=-100,
            le=100,
            description="outdoorToCelsius is the outdoor temperature below which it holds [degC]. Defaults to 100.",
        ),
    ] = 100
    river_from_celsius: Annotated[
        int,
        Field(
            ge=-100,
            le=100,
            description="riverFromCelsius is the temperature of the zone's River sensor from which it holds [degC]; "
            "while that sensor tells nothing it holds. Defaults to -100.",
        ),
    ] = -100
    river_to_celsius: Annotated[
        int,
        Field(
            ge=-100,
            le=100,
            description="riverToCelsius is the river's temperature below which it holds [degC]. Defaults to 100.",
        ),
    ] = 100


class HeatDelivery(ApiModel):
    """What a heat network is owed."""

    floors: Annotated[
        tuple[HeatRow, ...],
        Field(
            min_length=1,
            max_length=16,
            description="floors are the heat that the network is owed; the highest row that applies counts.",
            json_schema_extra=list_map("name"),
        ),
    ]
    capture_percent: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="capturePercent is the share of the zone's power that reaches the network's loop. Defaults to "
            "90.",
        ),
    ] = 90
    replaced_grams_per_kilowatt_hour: Annotated[
        int,
        Field(
            ge=0,
            le=2000,
            description="replacedGramsPerKilowattHour is what the network emits for each kWh of heat that it makes "
            "itself instead [gCO2e/kWh]: so much is a kWh of the floor worth to the plan, after every limit and every "
            "latest start; 0 plans without it. Defaults to 224: natural gas at 56.1 kg/GJ (2006 IPCC Guidelines, "
            "volume 2, table 2.2) in a boiler of 90 %.",
        ),
    ] = 224


class Ladder(ApiModel):
    """What is done about a zone that heats in spite of everything, gently first."""

    measures: Annotated[
        tuple[LadderMeasure, ...] | None,
        Field(
            max_length=4,
            description="measures are what may be done, in this order whatever the list's: CloseAdmission, LowerCaps, "
            "Pause, Taint. Without it all four; only workloads that declare a checkpoint are paused.",
            json_schema_extra=LIST_SET,
        ),
    ] = None
    enter_margin_kelvin: Annotated[
        int,
        Field(
            ge=0,
            le=20,
            description="enterMarginKelvin is how far below a hard limit the ladder begins, where no soft limit is "
            "given [K]. Defaults to 1.",
        ),
    ] = 1
    leave_margin_kelvin: Annotated[
        int,
        Field(
            ge=1,
            le=20,
            description="leaveMarginKelvin is how far below its beginning a zone must cool before a measure is taken "
            "back [K]. Defaults to 2.",
        ),
    ] = 2
    minimum_dwell_seconds: Annotated[
        int,
        Field(
            ge=30,
            le=86_400,
            description="minimumDwellSeconds is how long each measure stands before the next, or before it is taken "
            "back. Defaults to 300.",
        ),
    ] = 300
    pause_burst: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="pauseBurst is how many workloads may be paused at once below the hard limit. Defaults to 2.",
        ),
    ] = 2
    pauses_per_hour: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="pausesPerHour is how many workloads may be paused in the long run below the hard limit. "
            "Defaults to 4.",
        ),
    ] = 4
    prefer: Annotated[
        tuple[Claim, ...] | None,
        Field(
            max_length=3,
            description="prefer lists Ceiling (of heat rejection), Order (to cut) and Floor (of the heat network), the "
            "one that wins first; limits of the machines always come before. Without it in this order.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = None


class PuePoint(ApiModel):
    """One point of the PUE over the outdoor temperature."""

    outdoor_celsius: Annotated[
        int, Field(ge=-60, le=60, description="outdoorCelsius is the outdoor temperature of the point [degC].")
    ]
    ratio_percent: Annotated[
        int,
        Field(ge=100, le=400, description="ratioPercent is the facility's power over the IT power there, such as 125."),
    ]
