# SPDX-License-Identifier: Apache-2.0
"""The admin's board: is it working?"""

from grafana_foundation_sdk.builders import dashboard

from embellie_boards.frame import DOCS, ZONE, board
from embellie_boards.insides import forecasts, plans, process
from embellie_boards.palette import BAD, BLUE, GOOD, LOOK, ORANGE, SKY, VERMILION
from embellie_boards.panels import (
    NONE_OR_SOME,
    RECORDED,
    YES_NO,
    About,
    AnyPanel,
    Series,
    bars,
    closed,
    lines,
    number,
    rows,
)

LIMIT_REASONS = "ContractedPower|HeatLimit|SensorUntrusted|StartRamp|LimitReading|HeatPause"


def working() -> dashboard.Dashboard:
    """Build the board."""
    return board(
        uid="embellie-working",
        title="Embellie: is it working?",
        summary="For cluster admins: is Embellie alive, does it keep its bounds, how good are its plans and forecasts?",
        since="now-6h",
        variables=(ZONE,),
        rows=(
            ("Is it well now?", _now()),
            ("Who waits, and why?", _work()),
            ("How good are the plans?", plans()),
            ("How good are the forecasts?", forecasts()),
            ("What does it cost to run?", process()),
        ),
    )


def _now() -> list[AnyPanel]:
    return [
        number(
            About(
                question="Does one lead?",
                reading="Yes, when exactly one replica of the operator acts. The others stand by.",
                caveat="Whether the leader gets anything done: see the turns.",
                unit="none",
                link=("Runbook", f"{DOCS}/runbooks/EmbellieNoLeader.md"),
                width=3,
                height=5,
            ),
            Series(expr="sum(embellie_leader)", legend="leaders"),
            words={"0": ("None", BAD), "1": ("Yes", GOOD), "2": ("Two", BAD)},
        ),
        number(
            About(
                question="Is new work held?",
                reading="Yes, while the switch is on: an enforce policy matches namespaces and nobody locked it.",
                caveat="What is held already; that stays held until its time comes.",
                unit="none",
                width=3,
                height=5,
            ),
            Series(expr="max(embellie_holding_enabled)", legend="holding"),
            words={"1": ("Yes", GOOD), "0": ("No", LOOK)},
        ),
        number(
            About(
                question="Past its bound?",
                reading="Workloads held past their latest start without a limit that allows it. It must be 0.",
                caveat="Work held past its bound by a fresh reading over a hard limit; that is the next number.",
                unit="none",
                link=("Runbook", f"{DOCS}/runbooks/EmbelliePastBound.md"),
                width=3,
                height=5,
            ),
            Series(expr='sum(embellie_past_bound_workloads{state="Held"})', legend="past the bound"),
            steps=NONE_OR_SOME,
        ),
        number(
            About(
                question="Held by a limit?",
                reading="Workloads past their latest start that a fresh reading over a hard limit still holds.",
                caveat="Which zone is hot: see the board Heat and power.",
                unit="none",
                link=("Heat and power", "/d/embellie-heat"),
                width=3,
                height=5,
            ),
            Series(expr='sum(embellie_past_bound_workloads{state="HeldByLimit"})', legend="held by limit"),
            steps=NONE_OR_SOME,
        ),
        number(
            About(
                question="Do turns complete?",
                reading="Share of the turns of the last ten minutes that came to their end. Anything under 100 % is in "
                "the operator's log.",
                caveat="How long they took.",
                unit="percentunit",
                width=3,
                height=5,
            ),
            Series(
                expr='sum(rate(embellie_turns_total{outcome="complete"}[10m])) / sum(rate(embellie_turns_total[10m]))',
                legend="complete",
            ),
            steps=((None, BAD), (0.9, LOOK), (0.999, GOOD)),
            decimals=0,
        ),
        number(
            About(
                question="Old forecasts?",
                reading="Age of the oldest forecast in use. New ones come every hour or so; from seven hours on a live "
                "one counts only as the last good one.",
                caveat="How good they are: see below.",
                unit="s",
                width=3,
                height=5,
            ),
            Series(expr='max(embellie_forecast_age_seconds{zone=~"$zone"})', legend="oldest"),
            steps=((None, GOOD), (25200.0, LOOK), (86400.0, BAD)),
        ),
        number(
            About(
                question="Ledger written?",
                reading="Yes, while decisions and accounts are recorded. Without it the operator goes on, but what it "
                "decides meanwhile cannot be proved.",
                caveat="Whether its chain is whole: run embellie ledger verify.",
                unit="none",
                width=3,
                height=5,
            ),
            Series(expr="min(embellie_ledger_recording)", legend="recording"),
            words=YES_NO,
        ),
        number(
            About(
                question="Which version runs?",
                reading="The version of every operator pod; two for the moments of an upgrade.",
                caveat="The versions of the forecaster and the watchdog, which come from the same image.",
                unit="none",
                width=3,
                height=5,
            ),
            Series(expr="count by (version) (embellie_build_info)", legend="{{version}}"),
            as_name=True,
        ),
        rows(
            About(
                question="Which alerts fire?",
                reading="Each alert that is pending or firing, with a page on what to do under docs/runbooks.",
                caveat="Anything, while Prometheus itself does not run.",
                unit="none",
                width=24,
                height=5,
                link=("Runbooks", f"{DOCS}/runbooks/README.md"),
            ),
            Series(
                expr='count by (alertname, alertstate, severity, zone) (ALERTS{alertname=~"Embellie.+"})', legend=""
            ),
            columns={
                "alertname": ("Alert", ""),
                "alertstate": ("State", ""),
                "severity": ("Severity", ""),
                "zone": ("Zone", ""),
                "Value": ("How many", "none"),
            },
        ),
    ]


def _work() -> list[AnyPanel]:
    return [
        lines(
            About(
                question="How many GPUs wait, and why?",
                reading="GPUs that held work asks for. Better hours: it could run and waits by choice, for cleaner "
                "hours or until a heat network needs its heat. No room: no zone has enough free GPUs. Power or heat: a "
                "limit or a sensor that cannot be trusted. Being started: it is due and its release is being written.",
                caveat="Work that waits in other queues, or that Embellie never held.",
                unit="none",
            ),
            Series(
                expr='sum(embellie_held_gpus{reason=~"CleanerWindow|HeatDelivery|OnSitePower"})',
                legend="better hours",
                colour=BLUE,
            ),
            Series(expr='sum(embellie_held_gpus{reason="WaitingForGpus"})', legend="no room", colour=SKY),
            Series(
                expr=f'sum(embellie_held_gpus{{reason=~"{LIMIT_REASONS}"}})', legend="power or heat", colour=VERMILION
            ),
            Series(
                expr='sum(embellie_held_gpus{reason=~"ReleaseRate|WriteConflict"})',
                legend="being started",
                colour=ORANGE,
            ),
            stacked=True,
        ),
        lines(
            About(
                question="How many GPUs run, and how many are free?",
                reading="GPUs in the chosen grid zones. Free GPUs beside much work held by choice are what policy "
                "costs.",
                caveat="Whether the free GPUs lie on one node, as a gang may need.",
                unit="none",
                link=("What it cost and saved", "/d/embellie-emissions"),
            ),
            Series(expr='sum(embellie_running_gpus{zone=~"$zone"})', legend="taken", colour=BLUE),
            Series(expr='sum(embellie_free_gpus{zone=~"$zone"})', legend="free", colour=SKY),
            stacked=True,
        ),
        lines(
            About(
                question="How much of its wait has held work used up?",
                reading="0 is just created, 1 is at its latest start. The highest line may touch 1 and never pass it, "
                "except by a limit.",
                caveat="How long the waits are: each workload has its own bound.",
                unit="percentunit",
            ),
            Series(expr='max(embellie_held_wait_used_ratio{level="1"})', legend="most", colour=VERMILION),
            Series(expr='max(embellie_held_wait_used_ratio{level="0.9"})', legend="a tenth has more", colour=ORANGE),
            Series(expr='max(embellie_held_wait_used_ratio{level="0.5"})', legend="half has more", colour=BLUE),
            mark=1.0,
        ),
        lines(
            About(
                question="What was decided?",
                reading="Workloads that came into a state, per hour. Held and Released go together over a day; Handed "
                "off means that somebody else started or suspended it.",
                caveat="Why: see the table beside it.",
                unit="none",
            ),
            *closed(
                "sum(rate(state_reason:embellie_decisions_total:sum{%s}[$__rate_interval])) * 3600",
                "state",
                ("Held", "Released", "Shadow", "HeldByLimit", "HandedOff", "Paused"),
                ("held", "released", "shadow", "held by limit", "handed off", "paused"),
            ),
            step=RECORDED,
        ),
        rows(
            About(
                question="For which reasons?",
                reading="How often each reason was given in the chosen time, most frequent first. The reasons are in "
                "docs/reference/reasons.md.",
                caveat="How long each lasted.",
                unit="none",
            ),
            Series(
                expr="sort_desc(sum by (state, reason) "
                "(increase(state_reason:embellie_decisions_total:sum[$__range])))",
                legend="",
            ),
            columns={"state": ("State", ""), "reason": ("Reason", ""), "Value": ("Decisions", "none")},
        ),
        bars(
            About(
                question="Whose work waited most?",
                reading="GPU-hours that held work asked for in the chosen time, for the 15 namespaces with most.",
                caveat="Whether waiting did harm: a job that may wait costs nobody anything by waiting.",
                unit="none",
            ),
            Series(
                expr="topk(15, sum_over_time(namespace:embellie_held_gpus:sum[$__range]) * 240 / 3600)",
                legend="{{workload_namespace}}",
            ),
        ),
    ]
