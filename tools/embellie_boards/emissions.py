# SPDX-License-Identifier: Apache-2.0
"""The sustainability team's board: what did we emit and save?"""

from functools import partial

from grafana_foundation_sdk.builders import dashboard

from embellie_boards.frame import DOCS, ZONE, Variable, board
from embellie_boards.palette import BAD, BLUE, GOOD, LOOK, ORANGE, PURPLE, SKY, VERMILION
from embellie_boards.panels import (
    BY_LEAD_HOUR,
    RECORDED,
    YES_NO,
    About,
    AnyPanel,
    Series,
    closed,
    lines,
    number,
    rows,
    states,
)

SIGNAL = Variable(
    name="signal",
    label="Kind of signal",
    metric="embellie_carbon_intensity_grams_per_kilowatt_hour",
    values_of="signal_kind",
    several=False,
    default="AverageLifecycle",
)
METHOD = ("The method, with an example to recompute", f"{DOCS}/method.md")
_CLUSTER = 'zone="_all_",signal_kind="$signal"'
_tile = partial(About, width=4, height=5)
"""A small number on top."""


def emissions() -> dashboard.Dashboard:
    """Build the board."""
    return board(
        uid="embellie-emissions",
        title="Embellie: what did we emit and save?",
        summary="For sustainability teams: energy, emissions and savings, with what is measured, what is estimated and "
        "how sure each figure is. For a report that must stand an audit, use embellie report.",
        since="now-30d",
        variables=(ZONE, SIGNAL),
        rows=(
            ("What was it in the chosen time?", _totals()),
            ("What was saved, and how sure is that?", _savings()),
            ("When was it drawn and emitted?", _when()),
            ("What do the next days look like?", _ahead()),
            ("Who used it?", _who()),
            ("Can the figures be trusted?", _trust()),
        ),
    )


def _totals() -> list[AnyPanel]:
    return [
        number(
            _tile(
                question="How much energy was drawn?",
                reading="Facility energy of the chosen zones in the chosen time: workloads, idle nodes, overhead.",
                caveat="Energy outside the zones, such as offices.",
                unit="kwatth",
                link=("Heat and power", "/d/embellie-heat"),
            ),
            Series(
                'sum(increase(zone_part:embellie_energy_joules_total:sum{zone=~"$zone"}[$__range])) / 3.6e6', "energy"
            ),
        ),
        number(
            _tile(
                question="How much was emitted?",
                reading="Operational emissions by the chosen kind of signal (CO2 equivalents), location-based.",
                caveat="Market-based figures, and any other kind of signal: two kinds are never added.",
                unit="massg",
                link=METHOD,
            ),
            Series(
                'sum(increase(zone_signal_kind:embellie_emissions_grams_total:sum{zone=~"$zone",'
                'signal_kind="$signal"}[$__range]))',
                "emitted",
            ),
        ),
        number(
            _tile(
                question="What came with the hardware?",
                reading="Embodied emissions: the making of the hardware, shared out by reserved GPU time.",
                caveat="The building and its cooling. Known to about a factor of two.",
                unit="massg",
            ),
            Series(
                'sum(increase(zone:embellie_embodied_emissions_grams_total:sum{zone=~"$zone"}[$__range]))', "embodied"
            ),
        ),
        number(
            _tile(
                question="How much of it was measured?",
                reading="Share of the last interval's energy that a meter or an exporter measured, in the zone with "
                "least. The rest is estimated from what such work drew before.",
                caveat="How good the estimate is.",
                unit="percentunit",
            ),
            Series('min(embellie_energy_covered_ratio{zone=~"$zone"})', "measured"),
            steps=((None, BAD), (0.8, LOOK), (0.95, GOOD)),
            decimals=0,
        ),
        number(
            _tile(
                question="What did policy cost?",
                reading="GPU-hours in which GPUs stood free while held work asked for them: by choice (cleaner hours) "
                "and by limits (power or heat). An upper bound.",
                caveat="Whether the work would have fitted. The replayed figure is beside each saving.",
                link=("Who waits, and why?", "/d/embellie-working"),
                width=8,
            ),
            *[
                Series(
                    f'sum(increase(cause:embellie_lost_gpu_seconds_total:sum{{cause="{cause}"}}[$__range])) / 3600',
                    legend,
                )
                for cause, legend in (("Choice", "GPU-hours by choice"), ("Limit", "GPU-hours by limits"))
            ],
            decimals=0,
        ),
    ]


def _savings() -> list[AnyPanel]:
    def saved(estimate: str, window: str) -> str:
        return f'max(embellie_saved_emissions_grams{{{_CLUSTER},window="{window}",estimate="{estimate}"}})'

    return [
        number(
            About(
                question="How much was saved in the last 30 days?",
                reading="Emissions of the same arrivals, replayed first come, first served at cluster power, less what "
                "was emitted, with its 90 % interval. Negative: more was emitted. Where low and high lie on two sides "
                "of zero, nobody can tell a saving from a loss.",
                caveat="The saving of a single job, or of another time than the last 30 days: the choice of time above "
                "does not change it.",
                unit="massg",
                height=6,
                link=METHOD,
            ),
            *[
                Series(saved(estimate, "30d"), legend)
                for estimate, legend in (("low", "low"), ("expected", "expected"), ("high", "high"))
            ],
        ),
        number(
            About(
                question="What went with that saving?",
                reading="The replay's GPU-hours that were not used, and the change of the highest power (negative: a "
                "lower peak), over the same 30 days.",
                caveat="Why: decisions are in the ledger.",
                height=6,
            ),
            Series('max(embellie_saving_lost_gpu_seconds{zone="_all_",window="30d"}) / 3600', "GPU-hours lost"),
            Series('max(embellie_saving_shifted_joules{zone="_all_",window="30d"}) / 3.6e6', "kWh shifted"),
            Series(
                'max by (zone) (embellie_saving_peak_change_watts{window="30d"}) / 1000',
                "kW change of the peak of {{zone}}",
            ),
            decimals=0,
        ),
        lines(
            About(
                question="How much was saved in each week, and how sure is that?",
                reading="The saving of the seven days before each point. The band is its 90 % interval; where it holds "
                "0, nothing is proved.",
                caveat="Neighbouring points share six days, so do not add them.",
                unit="massg",
            ),
            Series(saved("high", "7d"), "high", colour=SKY, fill_below_to="low"),
            Series(saved("expected", "7d"), "expected", colour=BLUE),
            Series(saved("low", "7d"), "low", colour=SKY),
        ),
        lines(
            About(
                question="Would a sum over jobs claim more?",
                reading="The naive sum adds what each job seems to save by waiting. On a full cluster another job runs "
                "in its place, so the cluster saves less: only the replayed figure may be claimed.",
                caveat="How far the replay itself may be off: see the band.",
                unit="massg",
                link=METHOD,
            ),
            Series(
                f'max(embellie_saved_emissions_naive_grams{{{_CLUSTER},window="7d"}})',
                "naive sum over jobs",
                colour=ORANGE,
                dashed=True,
            ),
            Series(saved("expected", "7d"), "replayed", colour=BLUE),
        ),
    ]


def _when() -> list[AnyPanel]:
    return [
        lines(
            About(
                question="Where did the power go?",
                reading="Facility power of the chosen zones by part. Idle is what free nodes draw; overhead is cooling "
                "and losses; unexplained is the meter's rest and should be near 0.",
                caveat="What the workloads did with it.",
                unit="watt",
            ),
            *closed(
                'sum(rate(zone_part:embellie_energy_joules_total:sum{zone=~"$zone",%s}[$__rate_interval]))',
                "part",
                ("workloads", "idle", "overhead", "unexplained"),
            ),
            stacked=True,
            step=RECORDED,
        ),
        lines(
            About(
                question="How much was emitted in each hour?",
                reading="Operational emissions per hour of the chosen zones, by the chosen kind of signal, as first "
                "counted.",
                caveat="What late grid data changed since: see the revisions at the end.",
                unit="massg",
            ),
            Series(
                'sum(rate(zone_signal_kind:embellie_emissions_grams_total:sum{zone=~"$zone",signal_kind="$signal"}'
                "[$__rate_interval])) * 3600",
                "per hour",
                colour=BLUE,
            ),
            step=RECORDED,
        ),
        lines(
            About(
                question="Was power drawn when it was clean in $zone?",
                reading="Carbon intensity on the left, power on the right. Good hours have the power high where the "
                "intensity is low.",
                caveat="What it would have been without Embellie: that is the saving above.",
            ),
            Series(
                'max(embellie_carbon_intensity_grams_per_kilowatt_hour{zone=~"$zone",signal_kind="$signal"})',
                "g/kWh",
                colour=VERMILION,
            ),
            Series(
                'sum(embellie_zone_power_watts{zone=~"$zone",source="reckoned"})',
                "power",
                colour=BLUE,
                right_axis_unit="watt",
            ),
            repeat="zone",
        ),
        lines(
            About(
                question="How much of the grid's power was renewable in $zone?",
                reading="Share of hydro, wind, solar, biomass and geothermal in the region's generation, as forecast "
                "for the present hour.",
                caveat="Where a contract or a certificate says the power comes from.",
                unit="percentunit",
            ),
            Series('max(embellie_renewable_share_ratio{zone=~"$zone"})', "renewable", colour=BLUE),
            repeat="zone",
            at_most=1.0,
        ),
    ]


def _ahead() -> list[AnyPanel]:
    return [
        rows(
            About(
                question="How clean will the grid be in $zone?",
                reading="Forecast intensity in g/kWh so many hours ahead (rows). In 8 of 10 cases it comes to lie "
                "between the columns 0.1 and 0.9; 0.5 is the middle.",
                caveat="Neighbouring hours err together, so a whole day can lie outside.",
            ),
            Series(
                "max by (lead_hours, level) (embellie_carbon_intensity_forecast_grams_per_kilowatt_hour"
                '{zone=~"$zone",signal_kind="$signal"})',
                "",
            ),
            columns={},
            transform=BY_LEAD_HOUR,
            repeat="zone",
        ),
        rows(
            About(
                question="How renewable will the grid be in $zone?",
                reading="Forecast renewable share so many hours ahead (rows), with its interval (columns).",
                caveat="How much of it can be used: see the plans of the workloads.",
                unit="percentunit",
            ),
            Series('max by (lead_hours, level) (embellie_renewable_share_forecast_ratio{zone=~"$zone"})', ""),
            columns={},
            transform=BY_LEAD_HOUR,
            repeat="zone",
        ),
    ]


def _who() -> list[AnyPanel]:
    ranked = "topk(50, sum by (workload_namespace) (increase({}[$__range])){})"
    return [
        rows(
            About(
                question="Who used it?",
                reading="The 50 namespaces with most energy in the chosen time; each carries its share of idle and "
                "overhead. Emissions are by the chosen kind of signal.",
                caveat="Single jobs: use embellie report and embellie card. Namespaces past the first 500 are one row, "
                "_other_.",
                width=24,
                height=12,
            ),
            Series(ranked.format("namespace:embellie_energy_joules_total:sum", " / 3.6e6"), ""),
            Series(
                ranked.format('namespace_signal_kind:embellie_emissions_grams_total:sum{signal_kind="$signal"}', ""), ""
            ),
            Series(ranked.format("namespace:embellie_gpu_seconds_total:sum", " / 3600"), ""),
            columns={
                "workload_namespace": ("Namespace", ""),
                "Value #A": ("Energy", "kwatth"),
                "Value #B": ("Emissions", "massg"),
                "Value #C": ("GPU-hours", "none"),
            },
        )
    ]


def _trust() -> list[AnyPanel]:
    return [
        states(
            About(
                question="Was the ledger written?",
                reading="Yes, while every decision and account was recorded.",
                caveat="Whether a record was changed later: embellie ledger verify finds that.",
                width=8,
            ),
            Series("min(embellie_ledger_recording)", "ledger"),
            YES_NO,
        ),
        number(
            About(
                question="How does the ledger stand?",
                reading="Records kept, records that could not be written, and how long ago the last one was written.",
                caveat="What is in it: embellie ledger export.",
                width=8,
            ),
            Series("max(embellie_ledger_records)", "records"),
            Series("sum(embellie_ledger_unwritten_records)", "not written"),
            Series("(time() - max(embellie_ledger_last_record_timestamp_seconds)) / 60", "minutes since the last"),
            Series("max(embellie_ledger_size_bytes) / 2^20", "MiB"),
            decimals=0,
        ),
        lines(
            About(
                question="What did late grid data change?",
                reading="What actual intensities, which come hours to a day late, have changed so far against the "
                "first count of the 72 hours before each point. Below 0: less was emitted than first counted.",
                caveat="What is still to come for the newest hours. A report has the revisions of any period.",
                unit="massg",
                width=8,
            ),
            Series(
                'sum(embellie_emissions_revision_grams{zone=~"$zone",signal_kind="$signal"})', "revision", colour=PURPLE
            ),
        ),
    ]
