# SPDX-License-Identifier: Apache-2.0
"""The admin's board: is it working?"""

from collections.abc import Collection
from functools import partial

from grafana_foundation_sdk.builders import dashboard

from embellie.control.telling.measures import LIMITS
from embellie.domain.reasons import BY_CHOICE, Reason
from embellie_boards.frame import DOCS, ZONE, board, runbook
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

NO_ROOM = frozenset({Reason.WAITING_FOR_GPUS, Reason.TENANT_SHARE})
BEING_STARTED = frozenset({Reason.RELEASE_RATE, Reason.WRITE_CONFLICT})
_tile = partial(About, width=3, height=5)
"""A small number on top."""


def held_gpus(reasons: Collection[Reason]) -> str:
    """Return the query for the GPUs that work asks for which is held for these reasons."""
    named = "|".join(reason for reason in Reason if reason in reasons)
    return f'sum(embellie_held_gpus{{reason=~"{named}"}})'


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
            _tile(
                question="Does one lead?",
                reading="Yes, when exactly one replica of the operator acts. The others stand by.",
                caveat="Whether the leader gets anything done: see the turns.",
                link=runbook("EmbellieNoLeader"),
            ),
            Series("sum(embellie_leader)", "leaders"),
            words={"0": ("None", BAD), "1": ("Yes", GOOD), "2": ("Two", BAD)},
        ),
        number(
            _tile(
                question="Is new work held?",
                reading="Yes, while the switch is on: an enforce policy matches namespaces and nobody locked it.",
                caveat="What is held already; that stays held until its time comes.",
            ),
            Series("max(embellie_holding_enabled)", "holding"),
            words={"1": ("Yes", GOOD), "0": ("No", LOOK)},
        ),
        number(
            _tile(
                question="Past its bound?",
                reading="Workloads held past their latest start without a limit that allows it. It must be 0.",
                caveat="Work held past its bound by a fresh reading over a hard limit; that is the next number.",
                link=runbook("EmbelliePastBound"),
            ),
            Series('sum(embellie_past_bound_workloads{state="Held"})', "past the bound"),
            steps=NONE_OR_SOME,
        ),
        number(
            _tile(
                question="Held by a limit?",
                reading="Workloads past their latest start that a fresh reading over a hard limit still holds.",
                caveat="Which zone is hot: see the board Heat and power.",
                link=("Heat and power", "/d/embellie-heat"),
            ),
            Series('sum(embellie_past_bound_workloads{state="HeldByLimit"})', "held by limit"),
            steps=NONE_OR_SOME,
        ),
        number(
            _tile(
                question="Do turns complete?",
                reading="Share of the turns of the last ten minutes that came to their end. Anything under 100 % is in "
                "the operator's log.",
                caveat="How long they took.",
                unit="percentunit",
            ),
            Series(
                'sum(rate(embellie_turns_total{outcome="complete"}[10m])) / sum(rate(embellie_turns_total[10m]))',
                "complete",
            ),
            steps=((None, BAD), (0.9, LOOK), (0.999, GOOD)),
            decimals=0,
        ),
        number(
            _tile(
                question="Old forecasts?",
                reading="Age of the oldest forecast in use. New ones come every hour or so; from seven hours on a live "
                "one counts only as the last good one.",
                caveat="How good they are: see below.",
                unit="s",
            ),
            Series('max(embellie_forecast_age_seconds{zone=~"$zone"})', "oldest"),
            steps=((None, GOOD), (25200.0, LOOK), (86400.0, BAD)),
        ),
        number(
            _tile(
                question="Ledger written?",
                reading="Yes, while decisions and accounts are recorded. Without it the operator goes on, but what it "
                "decides meanwhile cannot be proved.",
                caveat="Whether its chain is whole: run embellie ledger verify.",
            ),
            Series("min(embellie_ledger_recording)", "recording"),
            words=YES_NO,
        ),
        number(
            _tile(
                question="Which version runs?",
                reading="The version of every operator pod; two for the moments of an upgrade.",
                caveat="The versions of the forecaster and the watchdog, which come from the same image.",
            ),
            Series("count by (version) (embellie_build_info)", "{{version}}"),
            as_name=True,
        ),
        rows(
            About(
                question="Which alerts fire?",
                reading="Each alert that is pending or firing, with a page on what to do under docs/runbooks.",
                caveat="Anything, while Prometheus itself does not run.",
                width=24,
                height=5,
                link=("Runbooks", f"{DOCS}/runbooks/README.md"),
            ),
            Series('count by (alertname, alertstate, severity, zone) (ALERTS{alertname=~"Embellie.+"})', ""),
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
                "hours or until a heat network needs its heat. No room: no zone has enough free GPUs, or they go to "
                "tenants that got less. Power or heat: a limit or a sensor that cannot be trusted. Being started: it "
                "is due and its release is being written.",
                caveat="Work that waits in other queues, or that Embellie never held.",
            ),
            Series(held_gpus(BY_CHOICE), "better hours", colour=BLUE),
            Series(held_gpus(NO_ROOM), "no room", colour=SKY),
            Series(held_gpus(LIMITS), "power or heat", colour=VERMILION),
            Series(held_gpus(BEING_STARTED), "being started", colour=ORANGE),
            stacked=True,
        ),
        lines(
            About(
                question="How many GPUs run, and how many are free?",
                reading="GPUs in the chosen grid zones. Free GPUs beside much work held by choice are what policy "
                "costs.",
                caveat="Whether the free GPUs lie on one node, as a gang may need.",
                link=("What it cost and saved", "/d/embellie-emissions"),
            ),
            Series('sum(embellie_running_gpus{zone=~"$zone"})', "taken", colour=BLUE),
            Series('sum(embellie_free_gpus{zone=~"$zone"})', "free", colour=SKY),
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
            Series('max(embellie_held_wait_used_ratio{level="1"})', "most", colour=VERMILION),
            Series('max(embellie_held_wait_used_ratio{level="0.9"})', "a tenth has more", colour=ORANGE),
            Series('max(embellie_held_wait_used_ratio{level="0.5"})', "half has more", colour=BLUE),
            mark=1.0,
        ),
        lines(
            About(
                question="What was decided?",
                reading="Workloads that came into a state, per hour. Held and Released go together over a day; Handed "
                "off means that somebody else started or suspended it.",
                caveat="Why: see the table beside it.",
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
            ),
            Series(
                "sort_desc(sum by (state, reason) (increase(state_reason:embellie_decisions_total:sum[$__range])))", ""
            ),
            columns={"state": ("State", ""), "reason": ("Reason", ""), "Value": ("Decisions", "none")},
        ),
        bars(
            About(
                question="Whose work waited most?",
                reading="GPU-hours that held work asked for in the chosen time, for the 15 namespaces with most.",
                caveat="Whether waiting did harm: a job that may wait costs nobody anything by waiting.",
            ),
            Series(
                "topk(15, sum_over_time(namespace:embellie_held_gpus:sum[$__range]) * 240 / 3600)",
                "{{workload_namespace}}",
            ),
        ),
    ]
