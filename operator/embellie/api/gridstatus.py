# SPDX-License-Identifier: Apache-2.0
"""What a GridZone's status says: the forecast in use, the hour, and the cleanest stretch ahead."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from embellie.api.conditions import Conditions, ObservedGeneration
from embellie.api.meta import EMPTY_IS_ABSENT, LIST_ATOMIC, ApiModel, Clipped, Message, Time

CarbonIntensity = Annotated[int | None, Clipped(0, 5000)]


class ForecastRung(StrEnum):
    """How good the source of a forecast is, best first."""

    LIVE = "Live"
    LAST_GOOD = "LastGood"
    CALENDAR = "Calendar"
    CLIMATOLOGY = "Climatology"
    NEUTRAL = "Neutral"


class CarbonSignalKind(StrEnum):
    """What a carbon intensity measures."""

    AVERAGE_LIFECYCLE = "AverageLifecycle"
    AVERAGE_DIRECT = "AverageDirect"
    MARGINAL = "Marginal"


class BestWindow(ApiModel):
    """The cleanest stretch of hours that the forecast shows."""

    start_time: Annotated[Time | None, Field(description="startTime is when the window begins.")] = None
    end_time: Annotated[Time | None, Field(description="endTime is when the window ends.")] = None
    carbon_intensity_grams_per_kilowatt_hour: Annotated[
        CarbonIntensity,
        Field(
            description="carbonIntensityGramsPerKilowattHour is the forecast mean over the window [gCO2e/kWh].",
        ),
    ] = None


class PowerOrderStatus(ApiModel):
    """An order of the spec that holds now, or the next one."""

    start_time: Annotated[Time | None, Field(description="startTime is when the order begins.")] = None
    end_time: Annotated[Time | None, Field(description="endTime is when it ends.")] = None
    power_kilowatts: Annotated[
        int | None,
        Clipped(0, 1_000_000),
        Field(description="powerKilowatts is the most that the zone may draw in that time [kW]."),
    ] = None


class ForecastStatus(ApiModel):
    """Which forecast is in use and how far to trust it."""

    issued_time: Annotated[Time | None, Field(description="issuedTime is when the forecast was made.")] = None
    rung: Annotated[
        ForecastRung | None,
        Field(
            description="rung is how good the source is, best first: Live, LastGood, Calendar, Climatology, Neutral. "
            "On Neutral nothing waits for cleaner hours."
        ),
    ] = None
    model_name: Annotated[
        str | None, Field(max_length=253, description="modelName is the model that made the forecast."), EMPTY_IS_ABSENT
    ] = None
    signal_kind: Annotated[
        CarbonSignalKind | None,
        Field(
            description="signalKind is what the carbon intensity measures: AverageLifecycle, AverageDirect or Marginal."
        ),
    ] = None
    skill_percent: Annotated[
        int | None,
        Clipped(-1000, 100),
        Field(
            description="skillPercent is how much smaller the forecast's error is than that of the same hour of the "
            "day before, in percent. Negative is worse.",
        ),
    ] = None
    horizon_hours: Annotated[
        int | None, Clipped(0, 8784), Field(description="horizonHours is how far ahead the forecast still reaches.")
    ] = None
    attribution: Annotated[
        tuple[Message, ...],
        Field(
            max_length=16,
            description="attribution is whose data the forecast rests on: name them where you publish it.",
            json_schema_extra=LIST_ATOMIC,
        ),
    ] = ()
    reasons: Annotated[
        tuple[Message, ...],
        Field(
            max_length=16,
            description="reasons are why the forecast does not stand on a better rung, and what of the feeds was not "
            "believed.",
            json_schema_extra=LIST_ATOMIC,
        ),
    ] = ()


class GridZoneStatus(ApiModel):
    """What Embellie knows about the zone."""

    conditions: Conditions = ()
    observed_generation: ObservedGeneration = None
    nodes: Annotated[
        int | None, Clipped(0, 1_000_000), Field(description="nodes is how many nodes the selector matches.")
    ] = None
    gpus: Annotated[
        int | None, Clipped(0, 10_000_000), Field(description="gpus is how many GPUs those nodes have.")
    ] = None
    gpus_free: Annotated[
        int | None, Clipped(0, 10_000_000), Field(description="gpusFree is how many of them are free.")
    ] = None
    carbon_intensity_grams_per_kilowatt_hour: Annotated[
        CarbonIntensity,
        Field(
            description="carbonIntensityGramsPerKilowattHour is the carbon intensity of this hour, as forecast "
            "[gCO2e/kWh]."
        ),
    ] = None
    renewable_percent: Annotated[
        int | None,
        Clipped(0, 100),
        Field(
            description="renewablePercent is the renewable share of this hour, as forecast; absent where no source "
            "tells it."
        ),
    ] = None
    on_site_kilowatts: Annotated[
        int | None,
        Clipped(0, 16_000_000),
        Field(
            description="onSiteKilowatts is what the plants of spec.onSite deliver in this hour, as forecast [kW]. "
            "Plans count on what the zone does not use already; carbonIntensityGramsPerKilowattHour and "
            "nextBestWindow are the grid's alone."
        ),
    ] = None
    power_limit_kilowatts: Annotated[
        int | None,
        Clipped(0, 1_000_000),
        Field(
            description="powerLimitKilowatts is the most that the zone may draw now: its contract, or less where an "
            "order of spec.powerOrders holds [kW]. Absent where nothing limits it."
        ),
    ] = None
    power_order: Annotated[
        PowerOrderStatus | None,
        Field(
            description="powerOrder is the order of spec.powerOrders that holds now, the least where several do, or "
            "else the one that begins next."
        ),
    ] = None
    next_best_window: Annotated[
        BestWindow | None, Field(description="nextBestWindow is the grid's cleanest stretch of hours ahead.")
    ] = None
    forecast: Annotated[ForecastStatus | None, Field(description="forecast says which forecast is in use.")] = None
