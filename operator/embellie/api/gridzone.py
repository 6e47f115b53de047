# SPDX-License-Identifier: Apache-2.0
"""GridZone: where the electricity of a group of nodes comes from, and how much of it there is."""

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from embellie.api.gridsources import GridSources, OnSitePlant, PowerUnit
from embellie.api.gridstatus import GridZoneStatus
from embellie.api.meta import (
    AGE_COLUMN,
    JURISDICTION,
    LIST_ATOMIC,
    LIST_SET,
    READY_COLUMN,
    ZONE_NAME_RULE,
    ApiModel,
    Definition,
    NodeSelector,
    PrinterColumn,
    Query,
    Resource,
    Scope,
    Time,
    list_map,
    rule,
    rules,
)


class PowerSensor(ApiModel):
    """A reading of the power that the whole zone draws."""

    query: Annotated[
        Query,
        Field(
            description="query is a PromQL expression that yields one number: the power that the zone's nodes and "
            "their cooling draw now."
        ),
    ]
    unit: Annotated[PowerUnit, Field(description="unit is what the query counts in: Watt or Kilowatt.")]
    max_age_seconds: Annotated[
        int,
        Field(
            ge=10,
            le=3600,
            description="maxAgeSeconds is how old a sample may be and still be believed. Defaults to 120.",
        ),
    ] = 120


class PowerOrder(ApiModel):
    """An order to draw less for some hours."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.endTime > self.startTime",
                "endTime must be after startTime: swap them, or write the day on which the order ends",
                field_path=".endTime",
            )
        )
    )

    start_time: Annotated[Time, Field(description="startTime is when the order begins, such as 2026-11-23T18:00:00Z.")]
    end_time: Annotated[
        Time, Field(description="endTime is when it ends; from then on the contract alone holds again.")
    ]
    power_kilowatts: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="powerKilowatts is the most that the zone may draw in that time, where "
            "contractedPowerKilowatts is counted, cooling included [kW].",
        ),
    ]


class GridZoneSpec(ApiModel):
    """Where the electricity of some nodes comes from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.latitudeMillidegrees) == has(self.longitudeMillidegrees)",
                "latitudeMillidegrees and longitudeMillidegrees must be given together: add the missing one, or remove "
                "both",
                field_path=".latitudeMillidegrees",
                reason="FieldValueRequired",
            ),
            rule(
                "self.gpuRatedPowerWatts >= self.gpuIdlePowerWatts",
                "gpuRatedPowerWatts must be greater than or equal to gpuIdlePowerWatts: set both for your GPU model",
                field_path=".gpuRatedPowerWatts",
            ),
            rule(
                "!has(self.onSite) || has(self.latitudeMillidegrees) || self.onSite.all(p, p.kind != 'Solar')",
                "latitudeMillidegrees and longitudeMillidegrees must be given for a solar plant: add the site's place",
                field_path=".latitudeMillidegrees",
                reason="FieldValueRequired",
            ),
        )
    )

    node_selector: Annotated[
        NodeSelector,
        Field(
            description="nodeSelector holds the labels that every node of the zone carries, such as "
            "topology.kubernetes.io/zone: west. A node must match at most one GridZone; work that is placed here gets "
            "these labels as required node affinity."
        ),
    ]
    grid_region: Annotated[
        str | None,
        Field(
            min_length=2,
            max_length=63,
            pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,16}){0,3}$",
            description="gridRegion is the electricity grid that feeds the zone, such as US-CISO or US-PJM, whose "
            "data the product carries. Without it, or for a region without data, nothing waits for cleaner hours here.",
        ),
    ] = None
    sources: Annotated[
        GridSources | None,
        Field(
            description="sources says where live readings of the grid come from. Without it no network is used: "
            "forecasts come from the data that the product carries."
        ),
    ] = None
    jurisdiction: Annotated[
        str | None,
        Field(
            min_length=2,
            max_length=6,
            pattern=JURISDICTION,
            description="jurisdiction is the country or state whose law holds for data in the zone, as an ISO 3166 "
            "code such as FR or US-CA. Workloads with the annotation embellie.io/residency only go where it matches.",
        ),
    ] = None
    latitude_millidegrees: Annotated[
        int | None,
        Field(
            ge=-90_000,
            le=90_000,
            description="latitudeMillidegrees is the site's latitude in thousandths of a degree, north positive: 37354 "
            "is 37.354 N. Used for weather and sun; must be given together with longitudeMillidegrees.",
        ),
    ] = None
    longitude_millidegrees: Annotated[
        int | None,
        Field(
            ge=-180_000,
            le=180_000,
            description="longitudeMillidegrees is the site's longitude in thousandths of a degree, east positive: "
            "-121955 is 121.955 W.",
        ),
    ] = None
    contracted_power_kilowatts: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="contractedPowerKilowatts is the most that the zone may draw from the grid, cooling included "
            "[kW]. No start is allowed that could exceed it at worst-case power. Without it power does not limit "
            "starts.",
        ),
    ] = None
    power_orders: Annotated[
        tuple[PowerOrder, ...],
        Field(
            max_length=16,
            description="powerOrders are hours in which the zone may draw less, such as a grid operator pays for. At "
            "any instant the least of contractedPowerKilowatts, where it is set, and of the orders that hold counts. "
            "Orders that are past change nothing.",
            json_schema_extra=LIST_ATOMIC,
        ),
    ] = ()
    node_idle_power_watts: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="nodeIdlePowerWatts is what one node draws with no work on it, its idle GPUs included [W]. "
            "Defaults to 3200, an 8-GPU server.",
        ),
    ] = 3200
    gpu_idle_power_watts: Annotated[
        int,
        Field(
            ge=0,
            le=5000,
            description="gpuIdlePowerWatts is what one GPU draws with no work on it [W]. Defaults to 140.",
        ),
    ] = 140
    gpu_rated_power_watts: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="gpuRatedPowerWatts is the power limit of one GPU [W]. Defaults to 700.",
        ),
    ] = 700
    host_overhead_percent: Annotated[
        int,
        Field(
            ge=0,
            le=200,
            description="hostOverheadPercent is what processors, fans and power supplies add to each watt that a GPU "
            "draws above idle, in percent. Defaults to 3.",
        ),
    ] = 3
    power_usage_effectiveness_percent: Annotated[
        int,
        Field(
            ge=100,
            le=300,
            description="powerUsageEffectivenessPercent is facility power over IT power, in percent: 120 is a PUE of "
            "1.2. Defaults to 120.",
        ),
    ] = 120
    power_sensor: Annotated[
        PowerSensor | None,
        Field(
            description="powerSensor reads the power that the zone really draws. Without it the power is reckoned from "
            "the nodes and the work on them."
        ),
    ] = None
    on_site: Annotated[
        tuple[OnSitePlant, ...],
        Field(
            max_length=16,
            description="onSite lists solar and wind plants behind the zone's own meter. The zone uses their power "
            "first: plans bring work into hours in which some of it is left.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    certifications: Annotated[
        tuple[
            Annotated[
                str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._:/-]*[A-Za-z0-9])?$")
            ],
            ...,
        ],
        Field(
            max_length=32,
            description="certifications are certificates that the site holds, such as ISO-50001: a note for people.",
            json_schema_extra=LIST_SET,
        ),
    ] = ()


class GridZone(Resource):
    """GridZone says where the electricity of a group of nodes comes from.

    It names the grid region whose carbon intensity is forecast, the contracted power that starts must stay within, and
    the jurisdiction.
    """

    model_config = ConfigDict(json_schema_extra=rules(ZONE_NAME_RULE))

    definition: ClassVar[Definition] = Definition(
        kind="GridZone",
        plural="gridzones",
        short_name="gz",
        scope=Scope.CLUSTER,
        conditions=(
            ("Ready", "the selector matches nodes with GPUs that are in no older GridZone"),
            ("ForecastAvailable", "there is a usable forecast for `spec.gridRegion`; without one nothing waits here"),
            ("PowerReadable", "`spec.powerSensor` gave a fresh, sane reading; Unknown where none is named"),
            ("NodesExclusive", "no node of the zone matches another GridZone"),
            ("PromisesKept", "the contracted power carries all starts that are promised by their latest start"),
        ),
        columns=(
            READY_COLUMN,
            PrinterColumn(
                name="Grid", json_path=".spec.gridRegion", description="Electricity grid that feeds the zone."
            ),
            PrinterColumn(
                name="CI now",
                json_path=".status.carbonIntensityGramsPerKilowattHour",
                description="Carbon intensity of this hour [gCO2e/kWh].",
                type="integer",
            ),
            PrinterColumn(
                name="Renewable %",
                json_path=".status.renewablePercent",
                description="Renewable share of this hour.",
                type="integer",
            ),
            PrinterColumn(
                name="Best window",
                json_path=".status.nextBestWindow.startTime",
                description="Start of the cleanest stretch of hours ahead.",
            ),
            PrinterColumn(name="GPUs free", json_path=".status.gpusFree", description="GPUs free now.", type="integer"),
            PrinterColumn(
                name="Rung", json_path=".status.forecast.rung", description="How good the forecast's source is."
            ),
            PrinterColumn(
                name="Contract kW",
                json_path=".spec.contractedPowerKilowatts",
                description="Contracted power [kW].",
                type="integer",
                priority=1,
            ),
            PrinterColumn(
                name="Limit kW",
                json_path=".status.powerLimitKilowatts",
                description="What it may draw now, by contract or order [kW].",
                type="integer",
                priority=1,
            ),
            PrinterColumn(
                name="Order from",
                json_path=".status.powerOrder.startTime",
                description="Start of the order that holds, or of the next.",
                priority=1,
            ),
            PrinterColumn(
                name="Order to",
                json_path=".status.powerOrder.endTime",
                description="End of that order.",
                priority=1,
            ),
            PrinterColumn(
                name="Order kW",
                json_path=".status.powerOrder.powerKilowatts",
                description="What that order leaves the zone [kW].",
                type="integer",
                priority=1,
            ),
            AGE_COLUMN,
        ),
    )

    spec: Annotated[GridZoneSpec, Field(description="spec is what the cluster admin says about the zone.")]
    status: Annotated[
        GridZoneStatus, Field(description="status is what Embellie observed; it can be rebuilt at any time.")
    ] = Field(default_factory=GridZoneStatus)
