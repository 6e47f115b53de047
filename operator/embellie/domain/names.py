# SPDX-License-Identifier: Apache-2.0
"""Labels, annotations and object names that are part of the public interface."""

GROUP = "embellie.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FLEX_LABEL = "embellie.io/flex"
HELD_LABEL = "embellie.io/held"
GATE = "embellie.io/hold"

DEADLINE = "embellie.io/deadline"
DURATION = "embellie.io/duration"
MAX_DELAY = "embellie.io/max-delay"
RESIDENCY = "embellie.io/residency"
WATTS_PER_GPU = "embellie.io/watts-per-gpu"
KUEUE_MAX_EXEC_SECONDS = "kueue.x-k8s.io/max-exec-time-seconds"
KUEUE_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Kueue decides when and where work with this label starts."""
HOOKS = frozenset({"helm.sh/hook", "argocd.argoproj.io/hook"})
"""Annotations of work whose release would hang if it waited."""
JOB_CONTROLLER = "kubernetes.io/job-controller"
"""What `spec.managedBy` of an ordinary Job says, if it says anything."""

RELEASED_AT = "embellie.io/released-at"
RELEASE_REASON = "embellie.io/release-reason"
CELL = "embellie.io/cell"
GO = "embellie.io/go"
"""Who started the workload by hand, with `kubectl embellie go`."""

CHECKPOINT = "embellie.io/checkpoint"
"""The user's word that work may be paused: how long a checkpoint takes, and how often one is written."""
PAUSE_BY = "embellie.io/pause-by"
"""Ours: the work is paused at this instant, or as soon as its checkpoint is acknowledged."""
CHECKPOINTED = "embellie.io/checkpointed"
"""The work's own word that its checkpoint is written: the value of `PAUSE_BY`, on the Job or on each of its pods."""
PAUSED_AT = "embellie.io/paused-at"
"""Ours: when the work was last paused."""

OVERHEATED = "embellie.io/overheated"
"""Key of the taint on the nodes of a zone that heats in spite of everything; its value is the zone's name."""
POWER_CAP_AGENT_LABEL = "embellie.io/power-cap-agent"
"""`true` on a node whose agent carries PowerCaps out; without it none is written for the node."""
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
"""`embellie` on the PowerCaps that the operator writes and removes; those of others it leaves alone."""

MOST_ANNOTATION_BYTES = 256 * 1024
"""What the API server takes in the keys and values of one object's annotations together."""

PLAN_REFUSED = "PlanRefused"
"""Reason of the event that says why held work has no plan."""
DEADLINE_MOVED_BACK = "DeadlineMovedBack"
"""Reason of the event that says that a later deadline is refused."""

GPU_RESOURCE = "nvidia.com/gpu"
GPU_PRODUCT_LABEL = "nvidia.com/gpu.product"

PROTECTED_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")
"""Never held, whatever a policy selects; the operator's own namespace is added at run time."""

FIELD_MANAGER = "embellie"
