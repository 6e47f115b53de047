# SPDX-License-Identifier: Apache-2.0
"""EnergyPolicy: whose work may wait, for how long at most, and whether Embellie acts or only watches."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from embellie.api.conditions import Conditions, ObservedGeneration
from embellie.api.meta import (
    AGE_COLUMN,
    DNS_LABEL,
    LABEL_KEYS_RULE,
    LIST_SET,
    READY_COLUMN,
    ApiModel,
    Clipped,
    Definition,
    LabelValue,
    PrinterColumn,
    Resource,
    Scope,
    default,
    rule,
    rules,
)

MatchLabels = Annotated[dict[str, LabelValue], Field(max_length=8, json_schema_extra=rules(LABEL_KEYS_RULE))]


class PolicyMode(StrEnum):
    """Whether a policy acts."""

    SHADOW = "shadow"
    ENFORCE = "enforce"


class UserNames(StrEnum):
    """How the ledger names people."""

    PLAIN = "Plain"
    PSEUDONYMS = "Pseudonyms"


class NamespaceSelector(ApiModel):
    """Which namespaces a policy speaks for."""

    match_names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)], ...],
        Field(
            max_length=256,
            description="matchNames lists namespaces by name. Empty means any name.",
            json_schema_extra={
                **LIST_SET,
                **rules(
                    rule(
                        "!self.exists(n, n in ['kube-system', 'kube-public', 'kube-node-lease'])",
                        "kube-system, kube-public and kube-node-lease must not be selected, their work is never "
                        "held: remove them from matchNames",
                        reason="FieldValueForbidden",
                    )
                ),
            },
        ),
    ] = ()
    match_labels: Annotated[
        MatchLabels,
        Field(
            description="matchLabels holds labels that a namespace must carry, all of them. Empty means any labels. "
            "With matchNames too, both must match."
        ),
    ] = Field(default_factory=dict)


class WorkloadSelector(ApiModel):
    """Which workloads a policy speaks for."""

    match_labels: Annotated[
        MatchLabels,
        Field(
            description="matchLabels holds labels that a workload must carry, all of them, besides "
            "embellie.io/flex. Empty means any labels."
        ),
    ] = Field(default_factory=dict)


class ObjectiveWeights(ApiModel):
    """What counts, and how much of it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.carbonPercent + self.costPercent + self.renewablePercent > 0",
                "one of carbonPercent, costPercent and renewablePercent must be greater than 0: raise one of them, or "
                "remove weights to plan by carbon alone",
                field_path=".carbonPercent",
            )
        )
    )

    carbon_percent: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="carbonPercent is how much emissions count, relative to the other weights. Defaults to 100.",
        ),
    ] = 100
    cost_percent: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="costPercent is how much the price of electricity counts; only where all zones have a price "
            "series. Defaults to 0.",
        ),
    ] = 0
    renewable_percent: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="renewablePercent is how much the share that is not renewable counts. Defaults to 0.",
        ),
    ] = 0


class EnergyPolicySpec(ApiModel):
    """Whose work may wait, and for how long at most."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.bonusMaxDelaySeconds >= self.maxDelaySeconds",
                "bonusMaxDelaySeconds must be greater than or equal to maxDelaySeconds, because bonus work waits "
                "longest: raise bonusMaxDelaySeconds or lower maxDelaySeconds",
                field_path=".bonusMaxDelaySeconds",
            )
        )
    )

    mode: Annotated[
        PolicyMode,
        Field(
            description="mode is shadow to decide and record but touch nothing, or enforce to hold and release "
            "workloads. Defaults to shadow."
        ),
    ] = PolicyMode.SHADOW
    priority: Annotated[
        int,
        Field(
            ge=-1_000_000,
            le=1_000_000,
            description="priority decides between policies that match the same workload: the highest wins, then the "
            "oldest policy, then the first name in the alphabet. Defaults to 0.",
        ),
    ] = 0
    namespace_selector: Annotated[
        NamespaceSelector,
        Field(
            description="namespaceSelector selects the namespaces that the policy speaks for. Empty selects every "
            "namespace but kube-system, kube-public, kube-node-lease and Embellie's own, which are never touched.",
            json_schema_extra=default({}),
        ),
    ] = Field(default_factory=NamespaceSelector)
    workload_selector: Annotated[
        WorkloadSelector,
        Field(
            description="workloadSelector selects among the workloads labelled embellie.io/flex: patient or bonus. "
            "Empty selects all of them; unlabelled and rigid work is never held.",
            json_schema_extra=default({}),
        ),
    ] = Field(default_factory=WorkloadSelector)
    max_delay_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=2_592_000,
            description="maxDelaySeconds is the longest that patient work may wait after its creation [s]. Defaults "
            "to 86400, one day; at most 30 days.",
        ),
    ] = 86_400
    bonus_max_delay_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=7_776_000,
            description="bonusMaxDelaySeconds is the longest that bonus work may wait after its creation [s]. "
            "Defaults to 604800, seven days; at most 90 days.",
        ),
    ] = 604_800
    assumed_duration_seconds: Annotated[
        int,
        Field(
            ge=60,
            le=31_622_400,
            description="assumedDurationSeconds is how long work is taken to run when neither its annotation "
            "embellie.io/duration nor history tells [s]. Defaults to 86400, one day.",
        ),
    ] = 86_400
    minimum_saving_percent: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="minimumSavingPercent is how much of a run's expected emissions waiting must save, or the "
            "work starts at once. Defaults to 2.",
        ),
    ] = 2
    weights: Annotated[
        ObjectiveWeights,
        Field(
            description="weights decides by what hours are compared: emissions, cost and renewable share, each in "
            "units of its own mean. Empty compares emissions alone.",
            # CEL reads all three, so an object without them must not come to be.
            json_schema_extra=default({"carbonPercent": 100, "costPercent": 0, "renewablePercent": 0}),
        ),
    ] = Field(default_factory=ObjectiveWeights)
    max_held_percent: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="maxHeldPercent is how much of the GPUs asked for by all unfinished work that opted in under "
            "this policy may be held at once, in percent; what comes on top starts at once. Defaults to 100.",
        ),
    ] = 100
    max_pauses_per_day: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="maxPausesPerDay is how many running Jobs may be paused within 24 hours under this policy when "
            "their thermal zone overheats, or when a permit or the contracted power leaves it less, each at most once, "
            "and only those with the annotation embellie.io/checkpoint. "
            "Defaults to 0: nothing that runs is ever paused.",
        ),
    ] = 0
    user_names: Annotated[
        UserNames,
        Field(
            description="userNames is how the ledger names people who start work of this policy by hand: Plain, or "
            "Pseudonyms, the same one for the same person, told apart by a key that lies beside the ledger. Defaults "
            "to Plain. Work that no policy covers is always recorded with pseudonyms."
        ),
    ] = UserNames.PLAIN


class EnergyPolicyStatus(ApiModel):
    """What the policy does now."""

    conditions: Conditions = ()
    observed_generation: ObservedGeneration = None
    namespaces: Annotated[
        int | None, Clipped(0, 1_000_000), Field(description="namespaces is how many namespaces the policy selects.")
    ] = None
    workloads_held: Annotated[
        int | None,
        Clipped(0, 10_000_000),
        Field(
            description="workloadsHeld is how many workloads are held under the policy; in shadow, would be held.",
        ),
    ] = None
    gpus_held: Annotated[
        int | None, Clipped(0, 10_000_000), Field(description="gpusHeld is how many GPUs those workloads ask for.")
    ] = None


class EnergyPolicy(Resource):
    """EnergyPolicy says whose work may wait for cleaner hours, and for how long at most.

    It starts in mode shadow: decide and record, touch nothing.
    """

    definition: ClassVar[Definition] = Definition(
        kind="EnergyPolicy",
        plural="energypolicies",
        short_name="enp",  # `ep` is taken: kubectl answers it with Endpoints
        scope=Scope.CLUSTER,
        conditions=(
            ("Ready", "the policy is applied, and selects at least one namespace"),
            ("Overlapping", "another policy matches the same work and wins; the message says which"),
            ("Holding", "new work is held where it enforces; else the message says what keeps the switch from it"),
        ),
        columns=(
            PrinterColumn(name="Mode", json_path=".spec.mode", description="shadow touches nothing, enforce acts."),
            READY_COLUMN,
            PrinterColumn(
                name="Priority",
                json_path=".spec.priority",
                description="The highest of several matching policies wins.",
                type="integer",
            ),
            PrinterColumn(
                name="Max delay s",
                json_path=".spec.maxDelaySeconds",
                description="Longest wait of patient work [s].",
                type="integer",
            ),
            PrinterColumn(
                name="Held", json_path=".status.workloadsHeld", description="Workloads held now.", type="integer"
            ),
            PrinterColumn(
                name="GPUs held",
                json_path=".status.gpusHeld",
                description="GPUs that held work asks for.",
                type="integer",
                priority=1,
            ),
            PrinterColumn(
                name="Overlapping",
                json_path=".status.conditions[?(@.type=='Overlapping')].status",
                description="Whether another policy matches the same work.",
                priority=1,
            ),
            AGE_COLUMN,
        ),
    )

    spec: Annotated[EnergyPolicySpec, Field(description="spec is what the cluster admin allows.")]
    status: Annotated[
        EnergyPolicyStatus, Field(description="status is what Embellie observed; it can be rebuilt at any time.")
    ] = Field(default_factory=EnergyPolicyStatus)

    @property
    def enforces(self) -> bool:
        """Whether it holds work, and does not only say what it would have done."""
        return self.spec.mode is PolicyMode.ENFORCE
