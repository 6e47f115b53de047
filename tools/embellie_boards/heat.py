# SPDX-License-Identifier: Apache-2.0
"""The facilities engineer's board: heat and power."""

from functools import partial

from grafana_foundation_sdk.builders import dashboard

from embellie.control.telling.measures import LIMITS
from embellie_boards.frame import ZONE, Variable, board, runbook
from embellie_boards.palette import BAD, BLUE, GOOD, GREY, LOOK, ORANGE, PURPLE, SKY, VERMILION
from embellie_boards.panels import (
    BY_LEAD_HOUR,
    NONE_OR_FEW,
    NONE_OR_SOME,
    YES_NO,
    About,
    AnyPanel,
    Series,
    bars,
    lines,
    number,
    rows,
    states,
)
from embellie_boards.working import held_gpus

THERMAL_ZONE = Variable(name="thermal_zone", label="Thermal zones", metric="embellie_thermal_state", values_of="zone")
DETAIL = Variable(
    name="detail_zone", label="Thermal zone in detail", metric="embellie_thermal_state", values_of="zone", several=False
)
"""One zone at a time: the same lines for each of many zones would cost Prometheus seconds, and nobody a look."""
LADDER = {
    "0": ("Normal", BLUE),
    "1": ("Closed", SKY),
    "2": ("Capped", ORANGE),
    "3": ("Pausing", PURPLE),
    "4": ("Tainted", VERMILION),
}
ZONE_STATES = {"0": ("Normal", BLUE), "1": ("Limited", SKY), "2": ("Unknown", ORANGE), "3": ("Over limit", VERMILION)}
_tile = partial(About, width=4, height=5)
"""A small number on top."""


def heat() -> dashboard.Dashboard:
    """Build the board."""
    return board(
        uid="embellie-heat",
        title="Embellie: heat and power",
        summary="For facilities engineers: power against contract, temperatures against limits, what may still start, "
        "and which sensors can be trusted.",
        since="now-24h",
        variables=(ZONE, THERMAL_ZONE, DETAIL),
        rows=(
            ("Is everything inside its limits?", _now()),
            ("How close is the power to the contract?", _power()),
            ("How warm is it, and what may still start?", _heat()),
            ("What comes?", _ahead()),
            ("How are the GPUs?", _gpus()),
        ),
    )


def _now() -> list[AnyPanel]:
    return [
        number(
            _tile(
                question="Is a zone over its limit?",
                reading="Thermal zones with a fresh inlet reading at or over the hard limit.",
                caveat="Zones whose sensors cannot be trusted: see beside.",
                link=runbook("EmbellieThermalOverLimit"),
            ),
            Series('sum(embellie_thermal_state{state="OverLimit"})', "over the limit"),
            steps=NONE_OR_SOME,
        ),
        number(
            _tile(
                question="How many sensors fail?",
                reading="Sensors that are stale, frozen, absurd or missing. Their worst case counts meanwhile.",
                caveat="Sensors that read wrong but plausible.",
                link=runbook("EmbellieSensorUntrusted"),
            ),
            Series("sum(1 - embellie_sensor_trusted)", "not trusted"),
            steps=NONE_OR_FEW,
        ),
        number(
            _tile(
                question="How much may start?",
                reading="The least headroom of all thermal zones, at worst-case power. Negative: over the limit.",
                caveat="Whether GPUs are free there.",
                unit="watt",
            ),
            Series('min(embellie_thermal_headroom_watts{zone=~"$thermal_zone"})', "least headroom"),
            steps=((None, BAD), (0.0, LOOK), (10000.0, GOOD)),
        ),
        number(
            _tile(
                question="How full is the contract?",
                reading="Present facility power as a share of the contracted power, in the fullest zone.",
                caveat="The worst case of what runs: see the lines below.",
                unit="percentunit",
            ),
            Series('max(zone:embellie_contract_used:ratio{zone=~"$zone"})', "used"),
            steps=((None, GOOD), (0.9, LOOK), (1.0, BAD)),
            decimals=0,
        ),
        number(
            _tile(
                question="How hot is the hottest GPU?",
                reading="The highest die temperature that dcgm-exporter reports.",
                caveat="Its own limit: about 87 °C for most data-centre GPUs; GPUs slow down by themselves before.",
                unit="celsius",
            ),
            Series("max(cluster:gpu_temperature_celsius:max)", "hottest"),
            steps=((None, GOOD), (80.0, LOOK), (87.0, BAD)),
        ),
        number(
            _tile(
                question="How much do limits hold?",
                reading="GPUs that work is asking for and that power or heat does not allow now.",
                caveat="Work that waits by choice or for room.",
                link=("Is it working?", "/d/embellie-working"),
            ),
            Series(held_gpus(LIMITS), "GPUs"),
            steps=NONE_OR_FEW,
        ),
    ]


def _power() -> list[AnyPanel]:
    return [
        lines(
            About(
                question="How close is $zone to its contract?",
                reading="Measured: the zone's own sensor. Reckoned: from what runs. Worst case: all that runs at its "
                "highest; starts are allowed only while it stays under the contract.",
                caveat="Peaks shorter than a scrape.",
                unit="watt",
            ),
            Series('max(embellie_zone_power_watts{zone=~"$zone",source="measured"})', "measured", colour=BLUE),
            Series('max(embellie_zone_power_watts{zone=~"$zone",source="reckoned"})', "reckoned", colour=SKY),
            Series('max(embellie_zone_worst_case_watts{zone=~"$zone"})', "worst case", colour=ORANGE),
            Series(
                'max(embellie_zone_contracted_power_watts{zone=~"$zone"})', "contract", colour=VERMILION, dashed=True
            ),
            repeat="zone",
        )
    ]


def _heat() -> list[AnyPanel]:
    return [
        states(
            About(
                question="Which state are the zones in?",
                reading="Normal: room to start. Limited: no room. Unknown: a sensor cannot be trusted and the worst "
                "case counts. Over limit: a fresh reading stands over the hard limit.",
                caveat="How much room: see headroom.",
            ),
            Series('zone:embellie_thermal_state:level{zone=~"$thermal_zone"}', "{{zone}}"),
            ZONE_STATES,
        ),
        states(
            About(
                question="Can the sensors be trusted?",
                reading="Yes, while a sensor reads fresh and plausible.",
                caveat="Whether it reads right.",
                link=runbook("EmbellieSensorUntrusted"),
            ),
            Series("zone_sensor:embellie_sensor_trusted:min", "{{zone}}: {{sensor}}"),
            YES_NO,
        ),
        lines(
            About(
                question="How warm is $detail_zone, and how far from its limit?",
                reading="The inlet must stay under the limit; the planner keeps it under the margin. Nothing is drawn "
                "while no reading can be trusted. Choose the zone above.",
                caveat="Hot spots between the sensors.",
                unit="celsius",
            ),
            Series('max(zone:embellie_thermal_inlet_celsius:max{zone="$detail_zone"})', "inlet", colour=BLUE),
            Series('max(zone:embellie_thermal_supply_celsius:max{zone="$detail_zone"})', "supply", colour=SKY),
            Series(
                'max(embellie_thermal_inlet_limit_celsius{zone="$detail_zone"})',
                "hard limit",
                colour=VERMILION,
                dashed=True,
            ),
            Series(
                'min(embellie_thermal_inlet_limit_celsius{zone="$detail_zone"} - '
                'embellie_thermal_margin_celsius{zone="$detail_zone"})',
                "less the margin",
                colour=ORANGE,
                dashed=True,
            ),
        ),
        lines(
            About(
                question="How much heat may still start in $detail_zone?",
                reading="The distance between the worst case of what runs and the limit is the headroom.",
                caveat="How fast power may rise: the start ramp is kept besides.",
                unit="watt",
            ),
            Series('max(zone:embellie_thermal_worst_case_watts:max{zone="$detail_zone"})', "worst case", colour=ORANGE),
            Series(
                'min(zone:embellie_thermal_limit_watts:min{zone="$detail_zone"})',
                "limit now",
                colour=VERMILION,
                dashed=True,
            ),
            Series('min(zone:embellie_thermal_headroom_watts:min{zone="$detail_zone"})', "headroom", colour=BLUE),
        ),
    ]


def _ahead() -> list[AnyPanel]:
    return [
        lines(
            About(
                question="How warm was it outside?",
                reading="Outdoor temperature of the grid region, as forecast for the present hour; the band holds "
                "it in 8 of 10 cases.",
                caveat="The temperature on your roof.",
                unit="celsius",
            ),
            *[
                Series(
                    f'max(embellie_ambient_forecast_celsius{{zone=~"$zone",lead_hours="0",level="{level}"}})',
                    legend,
                    colour=colour,
                    fill_below_to=below,
                )
                for level, legend, colour, below in (
                    ("0.9", "seldom warmer", SKY, "seldom colder"),
                    ("0.5", "expected", BLUE, None),
                    ("0.1", "seldom colder", SKY, None),
                )
            ],
        ),
        states(
            About(
                question="Does a zone defend itself against heat?",
                reading="How far up its ladder a thermal zone is. Closed: nothing new starts. Capped: power caps are "
                "lowered. Pausing: work that allows it is paused after a checkpoint. Tainted: nodes take nothing more.",
                caveat="Whether it was needed: compare with the temperatures above.",
            ),
            Series('zone:embellie_thermal_ladder_level:max{zone=~"$thermal_zone"}', "{{zone}}"),
            LADDER,
        ),
        bars(
            About(
                question="How warm does it get within a day?",
                reading="The highest temperature that is expected within a day at the present load, margin not "
                "included; the hottest zones first.",
                caveat="What new work adds.",
                unit="celsius",
            ),
            Series(
                'topk(20, max by (zone) (embellie_thermal_predicted_peak_celsius{zone=~"$thermal_zone"}))', "{{zone}}"
            ),
        ),
        states(
            About(
                question="Is the learnt heat model used?",
                reading="Yes, while enough was seen and the model predicts well. Else it learns, or the zone changed, "
                "and the settings of the ThermalZone count.",
                caveat="How good the settings are.",
            ),
            Series('zone:embellie_thermal_model_trusted:min{zone=~"$thermal_zone"}', "{{zone}}"),
            {"1": ("Yes", GOOD), "0": ("No", LOOK)},
        ),
        lines(
            About(
                question="How much does the cooling cost?",
                reading="Facility power over IT power (PUE) that is expected now, in the best and the worst zone.",
                caveat="What a meter says: see power above.",
            ),
            Series('max(zone:embellie_thermal_pue_ratio:max{zone=~"$thermal_zone"})', "highest", colour=ORANGE),
            Series('min(zone:embellie_thermal_pue_ratio:max{zone=~"$thermal_zone"})', "lowest", colour=BLUE),
        ),
        rows(
            About(
                question="How warm will it be outside?",
                reading="Forecast temperature in °C so many hours ahead (rows), with its interval (columns).",
                caveat="The temperature on your roof.",
                unit="celsius",
            ),
            Series('max by (lead_hours, level) (embellie_ambient_forecast_celsius{zone=~"$zone"})', ""),
            columns={},
            transform=BY_LEAD_HOUR,
        ),
        lines(
            About(
                question="How much heat will the cooling carry away?",
                reading="What the cooling of the chosen zones can remove now, in six hours and in a day, at a warm "
                "(P90) outdoor forecast.",
                caveat="A failed cooling unit, unless its capacity is set for that. Nothing is drawn without a heat "
                "model.",
                unit="watt",
                width=24,
            ),
            *[
                Series(
                    f'sum(zone_lead_hours:embellie_thermal_removable_watts:min{{zone=~"$thermal_zone",lead_hours="{hours}"}})',
                    legend,
                    colour=colour,
                )
                for hours, legend, colour in (("0", "now", BLUE), ("6", "in 6 h", ORANGE), ("24", "in a day", GREY))
            ],
        ),
    ]


def _gpus() -> list[AnyPanel]:
    return [
        lines(
            About(
                question="How hot are the GPUs?",
                reading="Die temperatures over all GPUs that dcgm-exporter reports: the hottest, the ninth tenth, the "
                "middle.",
                caveat="Which GPU it is: query DCGM_FI_DEV_GPU_TEMP.",
                unit="celsius",
            ),
            Series("max(cluster:gpu_temperature_celsius:max)", "hottest", colour=VERMILION),
            Series("max(cluster:gpu_temperature_celsius:p90)", "a tenth is hotter", colour=ORANGE),
            Series("max(cluster:gpu_temperature_celsius:p50)", "half is hotter", colour=BLUE),
        ),
        lines(
            About(
                question="How much do the GPUs draw?",
                reading="The sum of the boards' power on the left; how many GPUs report on the right. A fall in the "
                "number is missing data, not saved power.",
                caveat="The hosts, the fans and the cooling.",
                unit="watt",
            ),
            Series("max(cluster:gpu_power_watts:sum)", "power", colour=BLUE),
            Series(
                "max(cluster:gpus_measured:count)", "GPUs that report", colour=GREY, dashed=True, right_axis_unit="none"
            ),
        ),
    ]
