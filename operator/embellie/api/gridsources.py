# SPDX-License-Identifier: Apache-2.0
"""Parts of a GridZone: its feeds, and the solar and wind plants behind its meter."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from embellie.api.meta import DNS_LABEL, ApiModel, Query, rule, rules


class PowerUnit(StrEnum):
    """What a power sensor counts in."""

    WATT = "Watt"
    KILOWATT = "Kilowatt"


class OnSiteKind(StrEnum):
    """What kind of plant stands on the site."""

    SOLAR = "Solar"
    WIND = "Wind"


class PlantMeter(ApiModel):
    """A reading of what one plant delivers."""

    query: Annotated[
        Query,
        Field(
            description="query is a PromQL expression that yields one number: the power that the plant delivers now."
        ),
    ]
    unit: Annotated[PowerUnit, Field(description="unit is what the query counts in: Watt or Kilowatt.")]


class OnSitePlant(ApiModel):
    """Solar panels or wind turbines behind the zone's own meter."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.kind == 'Solar' || !(has(self.tiltDegrees) || has(self.azimuthDegrees))",
                "tiltDegrees and azimuthDegrees must not be given for kind Wind: remove them",
                field_path=".kind",
            ),
            rule(
                "self.kind == 'Wind' || !has(self.hubHeightMeters)",
                "hubHeightMeters must not be given for kind Solar: remove it",
                field_path=".kind",
            ),
        )
    )

    name: Annotated[
        str,
        Field(min_length=1, max_length=63, pattern=DNS_LABEL, description="name tells the zone's plants apart."),
    ]
    kind: Annotated[OnSiteKind, Field(description="kind is Solar or Wind.")]
    peak_kilowatts: Annotated[
        int, Field(ge=1, le=1_000_000, description="peakKilowatts is the most that the plant can deliver.")
    ]
    tilt_degrees: Annotated[
        int | None,
        Field(
            ge=0,
            le=90,
            description="tiltDegrees is the angle of solar panels: 0 lies flat, 90 is upright. Without it 20 holds.",
        ),
    ] = None
    azimuth_degrees: Annotated[
        int | None,
        Field(
            ge=0,
            le=359,
            description="azimuthDegrees is where solar panels face: 0 is north, 90 east, 180 south. Without it they "
            "face the equator.",
        ),
    ] = None
    hub_height_meters: Annotated[
        int | None,
        Field(
            ge=5,
            le=300,
            description="hubHeightMeters is the height of the turbines' hubs above ground. Without it 100 holds.",
        ),
    ] = None
    meter: Annotated[
        PlantMeter | None,
        Field(
            description="meter is what the plant's forecast learns from (shade, soiling, a wrong angle), and what "
            "accounts count: without it they take all energy as the grid's. The forecaster reads it from the "
            "Prometheus server that it is told in EMBELLIE_PROMETHEUS_URL, the operator from its own."
        ),
    ] = None


class GridSourceKind(StrEnum):
    """Who publishes a grid's readings."""

    ECO2MIX = "Eco2mix"
    EIA = "EIA"
    ELECTRICITY_MAPS = "ElectricityMaps"
    ENTSOE = "ENTSOE"
    NESO = "NESO"
    BUNDLE = "Bundle"
    FILE = "File"


class WeatherSourceKind(StrEnum):
    """Who forecasts the weather."""

    OPEN_METEO = "OpenMeteo"
    BUNDLE = "Bundle"


class GridSource(ApiModel):
    """One feed of a grid's readings."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.kind in ['Eco2mix', 'NESO'] || has(self.area)",
                "area must be given for this kind: name the grid as the source does, such as CISO for EIA, DE_LU for "
                "ENTSOE, or the file's name without its ending for Bundle and File",
                field_path=".area",
                reason="FieldValueRequired",
            )
        )
    )

    kind: Annotated[
        GridSourceKind,
        Field(
            description="kind is who publishes the readings. Eco2mix (France) and NESO (Great Britain) need no key; "
            "EIA, ENTSOE and ElectricityMaps need one in the forecaster's environment; Bundle and File lie on its disk."
        ),
    ]
    area: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
            description="area is the grid as the source names it, such as CISO for EIA or DE_LU for ENTSOE.",
        ),
    ] = None


class GridSources(ApiModel):
    """Where a zone's live readings come from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.crossCheck) || self.crossCheck.kind != self.primary.kind",
                "crossCheck must be of another kind than primary: a feed cannot check itself",
                field_path=".crossCheck",
            )
        )
    )

    primary: Annotated[GridSource, Field(description="primary is the feed that forecasts start from.")]
    cross_check: Annotated[
        GridSource | None,
        Field(
            description="crossCheck is a second feed of the same grid. Hours in which the two contradict each other "
            "are not believed, so that one poisoned feed cannot move a decision far."
        ),
    ] = None
    weather: Annotated[
        WeatherSourceKind | None,
        Field(
            description="weather is who forecasts the weather: OpenMeteo, or Bundle (a file named weather). Without it "
            "forecasts do without weather, and solar and wind plants get their usual range."
        ),
    ] = None
