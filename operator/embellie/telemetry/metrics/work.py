# SPDX-License-Identifier: Apache-2.0
"""Metrics of the operator and of the work that it decides about."""

import platform

from prometheus_client import ProcessCollector

from embellie import __version__
from embellie.domain.reasons import Reason, State
from embellie.telemetry.metrics.metric import REGISTRY, TABLE, Topic, Value, counter, gauge, histogram, lasting_gauge

_OPERATOR, _WORK = Topic.OPERATOR, Topic.WORK
HOLD_REASONS = (
    Reason.CLEANER_WINDOW,
    Reason.HEAT_DELIVERY,
    Reason.ON_SITE_POWER,
    Reason.WAITING_FOR_GPUS,
    Reason.CONTRACTED_POWER,
    Reason.HEAT_LIMIT,
    Reason.SENSOR_UNTRUSTED,
    Reason.TENANT_SHARE,
    Reason.START_RAMP,
    Reason.RELEASE_RATE,
    Reason.WRITE_CONFLICT,
)
"""Why work is held. Series of known reasons are there from the start, so that the first of each is counted too."""
START_REASONS = (
    Reason.BEST_NOW,
    Reason.MINIMUM_SAVING,
    Reason.HEAT_DELIVERY,
    Reason.ON_SITE_POWER,
    Reason.TENANT_SHARE,
    Reason.SLACK_SPENT,
    Reason.BOUND_REACHED,
    Reason.FORECAST_UNAVAILABLE,
    Reason.HELD_FRACTION,
    Reason.NO_POLICY,
    Reason.NO_ZONE,
    Reason.RESIDENCY_UNSATISFIED,
    Reason.DEADLINE_UNREACHABLE,
    Reason.INVALID_ANNOTATION,
    Reason.COOLED,
)
"""Why work is released by the operator."""

BUILD = gauge("embellie_build_info", _OPERATOR, "", "Always 1; the labels say what runs.", ("version", "python"))
LEADER = lasting_gauge("embellie_leader", _OPERATOR, "0 or 1", "1 on the replica that acts.")
SWITCH = gauge(
    "embellie_holding_enabled",
    _OPERATOR,
    "0 or 1",
    "1 while new work may be held: the switch is on and not locked. Told by the replica that acts; absent while the "
    "switch cannot be read.",
)
TURNS = counter("embellie_turns_total", _OPERATOR, "turns", "Turns of the loop, by outcome.", ("outcome",))
TURN_SECONDS = histogram(
    "embellie_turn_seconds",
    _OPERATOR,
    "seconds",
    "Duration of one turn, by part.",
    ("part",),
    (0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
CONFLICTS = gauge(
    "embellie_configuration_conflicts",
    _OPERATOR,
    "objects",
    "Objects that stand in each other's way, by kind: nodes that two zones of a kind select, cells whose labels match "
    "foreign nodes, policies that another overrules.",
    ("kind",),
)
PLAN_OBJECTIVE = gauge(
    "embellie_plan_objective_grams", _OPERATOR, "grams", "Expected emissions of all that the last plan places [gCO2e]."
)
PLAN_BOUND = gauge(
    "embellie_plan_lower_bound_grams",
    _OPERATOR,
    "grams",
    "Proved lower bound of the plan's objective [gCO2e]; absent where none was proved.",
)
PLAN_GAP = gauge(
    "embellie_plan_gap_ratio",
    _OPERATOR,
    "ratio",
    "Share of the plan's objective by which a better plan could at most beat it; absent without a proved bound.",
)
PLAN_FAIRNESS = gauge(
    "embellie_tenants_jain_ratio",
    _OPERATOR,
    "ratio",
    "Jain's index over tenants of hours waited for energy per hour of work, recent days: 1 where all waited alike, "
    "1/n where one of n did all the waiting; absent with fewer than two tenants.",
)

HELD = gauge(
    "embellie_held_workloads", _WORK, "workloads", "Workloads held or paused, by state and reason.", ("state", "reason")
)
HELD_GPUS = gauge(
    "embellie_held_gpus", _WORK, "GPUs", "GPUs that held workloads ask for, by state and reason.", ("state", "reason")
)
NAMESPACE_HELD_GPUS = gauge(
    "embellie_namespace_held_gpus",
    _WORK,
    "GPUs",
    "GPUs that held workloads of a namespace ask for; namespaces past the largest 500 are counted as _other_.",
    ("workload_namespace",),
)
RUNNING = gauge(
    "embellie_running_workloads", _WORK, "workloads", "Workloads that hold GPUs, per GridZone: running or released.",
    ("zone",),
)  # fmt: skip
RUNNING_GPUS = gauge(
    "embellie_running_gpus", _WORK, "GPUs", "GPUs that are taken, per GridZone: by running or released work.", ("zone",)
)
FREE_GPUS = gauge("embellie_free_gpus", _WORK, "GPUs", "GPUs that are free now, per GridZone.", ("zone",))
WAIT_USED = gauge(
    "embellie_held_wait_used_ratio",
    _WORK,
    "ratio",
    "Share of its longest wait (creation to latest start) that held work has used up: the median (level 0.5), the "
    "ninth tenth (0.9) and the most (1).",
    ("level",),
)
LONGEST_HELD = gauge("embellie_longest_held_seconds", _WORK, "seconds", "Age of the oldest workload that is held.")
OVERDUE = gauge(
    "embellie_overdue_seconds", _WORK, "seconds", "Longest time that a held workload is past its latest start."
)
PAST_BOUND = gauge(
    "embellie_past_bound_workloads",
    _WORK,
    "workloads",
    "Workloads held past their latest start, by state. Must be 0 for Held; HeldByLimit needs a fresh reading over a "
    "hard limit.",
    ("state",),
)
DECISIONS = counter(
    "embellie_decisions_total",
    _WORK,
    "decisions",
    "Decisions, by the state and reason that a workload came into. Each change counts once, and all that is held "
    "counts once more when a leader starts.",
    ("state", "reason"),
)
RELEASES = counter("embellie_releases_total", _WORK, "workloads", "Workloads released, by reason.", ("reason",))
FAILED_RELEASES = counter(
    "embellie_release_failures_total",
    _WORK,
    "releases",
    "Releases that could not be written, by result; each is tried again.",
    ("result",),
)
LOST_GPU_SECONDS = counter(
    "embellie_lost_gpu_seconds_total",
    _WORK,
    "seconds",
    "GPU time in which GPUs stood free while held work asked for them, by why it was held (Choice: cleaner hours; "
    "Limit: power or heat) [GPU seconds]. An upper bound: whether a gang fits the free nodes is not looked at.",
    ("cause",),
)
WORKLOAD_BOUND = gauge(
    "embellie_workload_latest_start_timestamp_seconds",
    _WORK,
    "seconds",
    "Latest start of each held workload [Unix time]; only with --workload-metrics.",
    ("workload_namespace", "workload_kind", "workload", "state", "reason"),
)

TABLE.replace("build", [Value(BUILD, 1.0, (__version__, platform.python_version()))])
for _outcome in ("complete", "api_error", "error"):
    TURNS.labels(_outcome)
for _result in ("Conflict", "Denied", "Unreachable"):
    FAILED_RELEASES.labels(_result)
for _state, _reason in (
    *((State.HELD, r) for r in HOLD_REASONS),
    (State.HELD_BY_LIMIT, Reason.LIMIT_READING),
    (State.PAUSED, Reason.HEAT_PAUSE),
    *((State.RELEASED, r) for r in START_REASONS),
    (State.HANDED_OFF, Reason.STARTED_BY_OTHER),
    (State.HANDED_OFF, Reason.SUSPENDED_BY_OTHER),
    (State.SHADOW, Reason.WOULD_HOLD),
    (State.SHADOW, Reason.WOULD_START),
):
    DECISIONS.labels(_state, _reason)
for _start in START_REASONS:
    RELEASES.labels(_start)
for _cause in ("Choice", "Limit"):
    LOST_GPU_SECONDS.labels(_cause)
ProcessCollector(registry=REGISTRY)
