# SPDX-License-Identifier: Apache-2.0
"""WorkloadPlan: the decision about one workload, why, and the instant past which it is never held."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from embellie.api.conditions import Conditions, ObservedGeneration
from embellie.api.energypolicy import PolicyMode
from embellie.api.meta import (
    AGE_COLUMN,
    CAMEL_CASE,
    DNS_LABEL,
    DNS_SUBDOMAIN,
    EMPTY_IS_ABSENT,
    LIST_ATOMIC,
    ApiModel,
    Clipped,
    Definition,
    Message,
    PrinterColumn,
    Resource,
    Scope,
    Time,
    rule,
    rules,
)

HISTORY_LENGTH = 20

Grams = Annotated[int | None, Clipped(0, 10**12)]


class PlannedKind(StrEnum):
    """The kinds of workload that are planned."""

    JOB = "Job"
    POD = "Pod"


class PlanState(StrEnum):
    """Where a workload stands."""

    HELD = "Held"
    HELD_BY_LIMIT = "HeldByLimit"
    RELEASED = "Released"
    SHADOW = "Shadow"
    PAUSED = "Paused"
    HANDED_OFF = "HandedOff"


class PlanReason(StrEnum):
    """The one reason that binds a decision."""

    CLEANER_WINDOW = "CleanerWindow"
    HEAT_DELIVERY = "HeatDelivery"
    ON_SITE_POWER = "OnSitePower"
    WAITING_FOR_GPUS = "WaitingForGpus"
    CONTRACTED_POWER = "ContractedPower"
    HEAT_LIMIT = "HeatLimit"
    SENSOR_UNTRUSTED = "SensorUntrusted"
    TENANT_SHARE = "TenantShare"
    START_RAMP = "StartRamp"
    RELEASE_RATE = "ReleaseRate"
    LIMIT_READING = "LimitReading"
    WRITE_CONFLICT = "WriteConflict"
    BEST_NOW = "BestNow"
    MINIMUM_SAVING = "MinimumSaving"
    SLACK_SPENT = "SlackSpent"
    BOUND_REACHED = "BoundReached"
    FORECAST_UNAVAILABLE = "ForecastUnavailable"
    HELD_FRACTION = "HeldFraction"
    NO_POLICY = "NoPolicy"
    NO_ZONE = "NoZone"
    RESIDENCY_UNSATISFIED = "ResidencyUnsatisfied"
    DEADLINE_UNREACHABLE = "DeadlineUnreachable"
    INVALID_ANNOTATION = "InvalidAnnotation"
    HEAT_PAUSE = "HeatPause"
    COOLED = "Cooled"
    OPERATOR_LOST = "OperatorLost"
    UNINSTALLED = "Uninstalled"
    RELEASED_BY_ADMIN = "ReleasedByAdmin"
    STARTED_BY_OTHER = "StartedByOther"
    SUSPENDED_BY_OTHER = "SuspendedByOther"
    WOULD_HOLD = "WouldHold"
    WOULD_START = "WouldStart"


class WorkloadRef(ApiModel):
    """Which workload a plan is about."""

    api_version: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?$",
            description="apiVersion is the workload's API version, such as batch/v1.",
        ),
    ]
    kind: Annotated[PlannedKind, Field(description="kind is Job or Pod.")]
    name: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="name is the workload's name."),
    ]
    uid: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            description="uid is the workload's uid: another object of the same name is another workload.",
        ),
    ]


class WorkloadPlanSpec(ApiModel):
    """What bounds the wait."""

    workload_ref: Annotated[
        WorkloadRef,
        Field(
            description="workloadRef is the workload that the plan is about; it never changes.",
            json_schema_extra=rules(
                rule(
                    "self == oldSelf",
                    "workloadRef must not change: delete this plan and let Embellie make one for the other workload",
                    reason="FieldValueForbidden",
                )
            ),
        ),
    ]
    latest_start_time: Annotated[
        Time,
        Field(
            description="latestStartTime is the instant past which the workload is no longer held for carbon or any "
            "plan. It only ever moves earlier.",
            json_schema_extra=rules(
                rule(
                    "self <= oldSelf",
                    "latestStartTime must not move later, it is a promise: write the same or an earlier time, or "
                    "create the workload anew with a later deadline",
                    reason="FieldValueForbidden",
                )
            ),
        ),
    ]
    policy_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=DNS_SUBDOMAIN,
            description="policyName is the EnergyPolicy that speaks for the workload.",
        ),
        EMPTY_IS_ABSENT,
    ] = None
    mode: Annotated[PolicyMode, Field(description="mode is that policy's mode: in shadow the workload is not touched.")]


class Wait(ApiModel):
    """Something else that the workload waits on, which is not our doing."""

    kind: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=CAMEL_CASE,
            description="kind is what it waits on in one CamelCase word, such as Quota or Scheduler.",
        ),
    ]
    message: Annotated[Message, Field(description="message says it in a sentence.")]


class Revision(ApiModel):
    """One earlier answer."""

    time: Annotated[Time, Field(description="time is when the answer changed to this one.")]
    state: Annotated[PlanState, Field(description="state is where the workload stood.")]
    reason: Annotated[PlanReason, Field(description="reason is what bound the decision.")]
    message: Annotated[Message, Field(description="message says it in a sentence.")]


class WorkloadPlanStatus(ApiModel):
    """The decision, and why."""

    conditions: Conditions = ()
    observed_generation: ObservedGeneration = None
    state: Annotated[
        PlanState | None,
        Field(
            description="state is where the workload stands: Held, HeldByLimit (past latestStartTime, over a hard "
            "limit), Released, Shadow (not touched) or HandedOff (somebody else decides)."
        ),
    ] = None
    reason: Annotated[
        PlanReason | None,
        Field(description="reason is the one reason that binds the decision. Each is explained in the documentation."),
    ] = None
    message: Annotated[Message | None, Field(description="message says why in one sentence.")] = None
    since_time: Annotated[Time | None, Field(description="sinceTime is when the state last changed.")] = None
    grid_zone_name: Annotated[
        str | None,
        Field(max_length=63, pattern=DNS_LABEL, description="gridZoneName is the GridZone where it is to run."),
        EMPTY_IS_ABSENT,
    ] = None
    cell_name: Annotated[
        str | None,
        Field(
            max_length=127,
            pattern=DNS_SUBDOMAIN,
            description="cellName is the place where it is to run, as <gridzone> or <gridzone>.<thermalzone>.",
        ),
        EMPTY_IS_ABSENT,
    ] = None
    planned_start_time: Annotated[
        Time | None, Field(description="plannedStartTime is when it is to start, as planned now.")
    ] = None
    likely_start_p50_time: Annotated[
        Time | None,
        Field(description="likelyStartP50Time is when it starts with even odds, its turn for GPUs counted."),
    ] = None
    likely_start_p90_time: Annotated[
        Time | None, Field(description="likelyStartP90Time is by when it starts in nine cases of ten.")
    ] = None
    emissions_now_grams: Annotated[
        Grams,
        Field(
            description="emissionsNowGrams is what the run would emit if it started now, in what other work leaves it "
            "of the site's own sun and wind [gCO2e]."
        ),
    ] = None
    emissions_planned_grams: Annotated[
        Grams, Field(description="emissionsPlannedGrams is what the run emits as planned, likewise [gCO2e].")
    ] = None
    emissions_planned_low_grams: Annotated[
        Grams,
        Field(description="emissionsPlannedLowGrams is the low end of that, by the forecast's quantiles [gCO2e]."),
    ] = None
    emissions_planned_high_grams: Annotated[
        Grams,
        Field(description="emissionsPlannedHighGrams is the high end of that, by the forecast's quantiles [gCO2e]."),
    ] = None
    energy_watt_hours: Annotated[
        int | None,
        Clipped(0, 10**13),
        Field(description="energyWattHours is the energy that the run is expected to take [Wh]."),
    ] = None
    gpus: Annotated[
        int | None, Clipped(0, 10_000_000), Field(description="gpus is how many GPUs the workload asks for.")
    ] = None
    waits_on: Annotated[
        tuple[Wait, ...],
        Field(
            max_length=8,
            description="waitsOn is what else it waits on that is not Embellie's doing, such as quota.",
            json_schema_extra=LIST_ATOMIC,
        ),
    ] = ()
    history: Annotated[
        tuple[Revision, ...],
        Field(
            max_length=HISTORY_LENGTH,
            description="history is how the answer changed, newest last, at most 20 entries.",
            json_schema_extra=LIST_ATOMIC,
        ),
    ] = ()


class WorkloadPlan(Resource):
    """WorkloadPlan is the decision about one workload, and why. Embellie writes it; people read it."""

    definition: ClassVar[Definition] = Definition(
        kind="WorkloadPlan",
        plural="workloadplans",
        short_name="wp",
        scope=Scope.NAMESPACED,
        conditions=(
            (
                "Ready",
                "every annotation of the workload could be read; the message says what to mend",
            ),
        ),
        selectable_fields=(".status.state", ".status.reason", ".spec.workloadRef.name", ".spec.policyName"),
        columns=(
            PrinterColumn(name="State", json_path=".status.state", description="Where the workload stands."),
            PrinterColumn(name="Reason", json_path=".status.reason", description="What binds the decision."),
            PrinterColumn(
                name="Planned start", json_path=".status.plannedStartTime", description="When it is to start."
            ),
            PrinterColumn(
                name="Latest start",
                json_path=".spec.latestStartTime",
                description="Past this instant it is no longer held.",
            ),
            PrinterColumn(name="Zone", json_path=".status.gridZoneName", description="Where it is to run."),
            PrinterColumn(name="GPUs", json_path=".status.gpus", description="GPUs that it asks for.", type="integer"),
            PrinterColumn(
                name="Ready",
                json_path=".status.conditions[?(@.type=='Ready')].status",
                description="Whether the plan is current.",
                priority=1,
            ),
            PrinterColumn(
                name="Now gCO2e",
                json_path=".status.emissionsNowGrams",
                description="Emissions if it started now [gCO2e].",
                type="integer",
                priority=1,
            ),
            PrinterColumn(
                name="Planned gCO2e",
                json_path=".status.emissionsPlannedGrams",
                description="Emissions as planned [gCO2e].",
                type="integer",
                priority=1,
            ),
            PrinterColumn(name="Why", json_path=".status.message", description="Why, in one sentence.", priority=1),
            AGE_COLUMN,
        ),
    )

    spec: Annotated[WorkloadPlanSpec, Field(description="spec is what bounds the wait.")]
    status: Annotated[
        WorkloadPlanStatus, Field(description="status is the decision and why; it can be rebuilt at any time.")
    ] = Field(default_factory=WorkloadPlanStatus)
