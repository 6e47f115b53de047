# SPDX-License-Identifier: Apache-2.0
"""Events about workloads: a courtesy, whose failure stops nothing."""

from datetime import UTC, datetime

from embellie.watchdog import names
from embellie.watchdog.api import Api, ApiError, Object, UnreachableError, namespaced
from embellie.watchdog.log import log
from embellie.watchdog.release import JOB, Held


def tell(api: Api, held: Held, *, reason: str, note: str, identity: str) -> None:
    """Post an Event about a workload; what goes wrong is logged."""
    event = workload_event(held, reason=reason, note=note, identity=identity)
    try:
        api.create(namespaced("apis/events.k8s.io/v1", held.namespace, "events"), event)
    except (ApiError, UnreachableError) as error:
        log("event-failed", workload=held.label, error=str(error))


def workload_event(held: Held, *, reason: str, note: str, identity: str) -> Object:
    """Return an Event (events.k8s.io/v1) about the workload."""
    moment = datetime.now(UTC)
    suffix = f"{moment.timestamp():.6f}".replace(".", "")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{held.name[:220].rstrip('-.')}.{suffix}", "namespace": held.namespace},
        "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Warning",
        "reason": reason,
        "action": "Release",
        "note": note[:1000],
        "regarding": {
            "apiVersion": "batch/v1" if held.kind == JOB else "v1",
            "kind": held.kind,
            "namespace": held.namespace,
            "name": held.name,
            "uid": held.uid,
        },
        "reportingController": names.REPORTING_CONTROLLER,
        "reportingInstance": identity[:128],
    }
