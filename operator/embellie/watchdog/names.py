# SPDX-License-Identifier: Apache-2.0
"""The watchdog's own copy of the public names (a test keeps it equal to embellie.domain)."""

GROUP = "embellie.io"
VERSION = "v1alpha1"

HELD_LABEL = "embellie.io/held"
GATE = "embellie.io/hold"

OVERHEATED = "embellie.io/overheated"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
FIELD_MANAGER = "embellie"

KUEUE_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
RESIDENCY = "embellie.io/residency"
FLEX_LABEL = "embellie.io/flex"
CHECKPOINT = "embellie.io/checkpoint"
PAUSE_BY = "embellie.io/pause-by"
RELEASED_AT = "embellie.io/released-at"
RELEASE_REASON = "embellie.io/release-reason"

MOST_ANNOTATION_BYTES = 256 * 1024
"""What the API server takes in the keys and values of one object's annotations together."""

OPERATOR_LOST = "OperatorLost"
UNINSTALLED = "Uninstalled"
RELEASED_BY_ADMIN = "ReleasedByAdmin"

EVENT_REASON = "ReleasedByWatchdog"
"""The reason of the Event on a workload that the watchdog released."""

REPORTING_CONTROLLER = "embellie.io/watchdog"


def switch_name(name: str) -> str:
    """Return the name of the ConfigMap that the admission policies take as their parameter."""
    return f"{name}-switch"


def heartbeat_name(name: str) -> str:
    """Return the name of the Lease that the operator's completed turns renew."""
    return f"{name}-heartbeat"


def election_name(name: str) -> str:
    """Return the name of the Lease that the watchdog's replicas elect a leader with."""
    return f"{name}-watchdog"
