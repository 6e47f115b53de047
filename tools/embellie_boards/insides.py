# SPDX-License-Identifier: Apache-2.0
"""The lower half of the admin's board: plans, forecasts, and what the operator itself uses."""

from embellie_boards.frame import runbook
from embellie_boards.palette import BLUE, ORANGE, PURPLE, SKY, VERMILION, YELLOW
from embellie_boards.panels import RECORDED, YES_NO, About, AnyPanel, Series, closed, lines, states

RUNGS = {
    "5": ("Live", BLUE),
    "4": ("Last good", SKY),
    "3": ("Calendar", ORANGE),
    "2": ("Climatology", PURPLE),
    "1": ("Neutral", YELLOW),
    "0": ("None", VERMILION),
}


def plans() -> list[AnyPanel]:
    """Build the row."""
    return [
        lines(
            About(
                question="How long does a turn take?",
                reading="The time that 99 of 100 turns stay under: the whole turn, its planning, its releases.",
                caveat="The few that were slower.",
                unit="s",
            ),
            *[
                Series(
                    "histogram_quantile(0.99, avg_over_time(part_le:embellie_turn_seconds_bucket:rate5m"
                    f'{{part="{part}"}}[$__rate_interval]))',
                    legend,
                    colour=colour,
                )
                for part, legend, colour in (
                    ("whole", "whole turn", BLUE),
                    ("plan", "planning", ORANGE),
                    ("release", "releases", SKY),
                )
            ],
            step=RECORDED,
        ),
        lines(
            About(
                question="How far may the plan be from the best?",
                reading="The proved gap: no plan could emit less than the present one by more than this share.",
                caveat="How far it really is: often less. Nothing is shown where no bound was proved.",
                unit="percentunit",
            ),
            Series("max(embellie_plan_gap_ratio)", "gap", colour=BLUE),
        ),
        lines(
            About(
                question="Were releases refused?",
                reading="Releases per hour that could not be written. Conflict: another writer was faster, and the "
                "next turn tries again. Denied: the API server refuses; somebody must look. Unreachable: it did not "
                "answer.",
                caveat="How long the workload waited for it in the end.",
                link=runbook("EmbellieReleasesRefused"),
            ),
            *closed(
                "sum(rate(embellie_release_failures_total{%s}[$__rate_interval])) * 3600",
                "result",
                ("Conflict", "Denied", "Unreachable"),
            ),
        ),
        lines(
            About(
                question="Do objects stand in each other's way?",
                reading="Nodes that two zones select, cells whose labels match foreign nodes, policies that another "
                "overrules. All should be 0.",
                caveat="Which ones: kubectl describe gridzones,thermalzones,energypolicies.",
                link=runbook("EmbellieConfigurationConflict"),
            ),
            *closed(
                "max(embellie_configuration_conflicts{%s})",
                "kind",
                ("grid_zone_nodes", "thermal_zone_nodes", "leaking_cells", "overruled_policies"),
                ("nodes in two grid zones", "nodes in two thermal zones", "leaking cells", "overruled policies"),
            ),
        ),
    ]


def forecasts() -> list[AnyPanel]:
    """Build the row."""
    return [
        states(
            About(
                question="What do the forecasts stand on?",
                reading="The rung of the ladder, best first: Live, Last good, Calendar, Climatology, Neutral, None. "
                "The lower, the less it can tell hours apart; from Neutral on nothing is held for carbon.",
                caveat="How good the forecast is on its rung.",
            ),
            Series('zone:embellie_forecast_rung:level{zone=~"$zone"}', "{{zone}}"),
            RUNGS,
        ),
        states(
            About(
                question="Do the feeds answer?",
                reading="Yes, while a feed gives data that is believed.",
                caveat="How old its newest value is.",
            ),
            Series('min by (zone, feed) (embellie_feed_up{zone=~"$zone"})', "{{zone}}: {{feed}}"),
            YES_NO,
        ),
        lines(
            About(
                question="How wrong were the forecasts?",
                reading="Mean absolute error as a share of what came, over the last 30 days, by day ahead. Days "
                "further ahead are worse; a line that rises over weeks wants a look.",
                caveat="Whether a better forecast was possible.",
                unit="percentunit",
            ),
            *closed(
                'avg(embellie_forecast_error_ratio{target="lifecycle",zone=~"$zone",%s})',
                "lead_day",
                ("1", "2", "3", "4"),
                ("first day", "second day", "third day", "fourth day"),
            ),
        ),
        lines(
            About(
                question="Did what came lie inside the 80 % interval?",
                reading="It should in 80 of 100 hours (the dashed line). Below, the forecast is too sure of itself; "
                "above, too timid.",
                caveat="How wide the interval is.",
                unit="percentunit",
            ),
            *closed(
                'avg(embellie_forecast_coverage_ratio{target="lifecycle",zone=~"$zone",%s})',
                "lead_day",
                ("1", "2", "3", "4"),
                ("first day", "second day", "third day", "fourth day"),
            ),
            mark=0.8,
            at_most=1.0,
        ),
    ]


def process() -> list[AnyPanel]:
    """Build the row."""
    return [
        lines(
            About(
                question="How much memory does the operator use?",
                reading="Resident memory of the largest operator pod. The chart's limit is 768 MiB.",
                caveat="The forecaster's and the watchdog's memory.",
                unit="bytes",
            ),
            Series("max(process_resident_memory_bytes and on (instance) embellie_leader)", "memory", colour=BLUE),
        ),
        lines(
            About(
                question="How busy is the operator?",
                reading="CPU seconds per second of the busiest operator pod.",
                caveat="The forecaster's CPU, which trains once in a while.",
            ),
            Series(
                "max(rate(process_cpu_seconds_total[$__rate_interval]) and on (instance) embellie_leader)",
                "cores",
                colour=BLUE,
            ),
        ),
    ]
