# SPDX-License-Identifier: Apache-2.0
"""Takes pauses back that the operator announced and is not there to carry out: nobody shall stop work for nothing."""

from collections.abc import Mapping
from typing import Any

from embellie.watchdog import names
from embellie.watchdog.api import METADATA_ONLY, Api, ApiError, NoAnswerError, Object, UnreachableError, namespaced
from embellie.watchdog.events import tell
from embellie.watchdog.log import log
from embellie.watchdog.release import JOB, Held, escape

_TOLD = 3
"""So many faults are told; and so many at most may be somebody's webhook that hangs, before the rest is left."""
_OPTED_IN = f"{names.FLEX_LABEL} in (patient,bonus)"
_OF_JOBS = "batch.kubernetes.io/controller-uid"
REASON = "PauseWithdrawn"
NOTE = "The pause that was announced is taken back: the operator is not there to carry it out. It runs on."


def withdraw_pauses(api: Api, identity: str) -> str | None:
    """Take every announcement back; return what is left and why, None where nothing is. Raises UnreachableError.

    Only from Jobs that opted in and allow pauses, for admission keeps such notes off them unless they are ours. Their
    pods go first: they may have stopped working because of it, and be told though the Job was not yet.
    """
    faults: list[str] = []
    try:
        jobs = api.list("/apis/batch/v1/jobs", accept=METADATA_ONLY, keep=_allows_pauses, labelSelector=_OPTED_IN)
        uids = {job["metadata"]["uid"] for job in jobs}

        def was_told(pod: Object) -> bool:
            return _is_told(pod) and _allows_pauses(pod) and not uids.isdisjoint(_owners(pod))

        told_pods = (
            api.list("/api/v1/pods", accept=METADATA_ONLY, keep=was_told, labelSelector=_OF_JOBS) if jobs else []
        )
    except ApiError as error:
        return f"pauses that were announced may still stand ({error})"
    for pod in told_pods:
        _withdraw(api, "api/v1", "pods", pod, faults)
    for job in filter(_is_told, jobs):
        if _withdraw(api, "apis/batch/v1", "jobs", job, faults):
            tell(api, Held(kind=JOB, obj=job), reason=REASON, note=NOTE, identity=identity)
    for fault in faults[:_TOLD]:
        log("pauses-not-withdrawn", error=fault)
    return "; ".join(faults[:_TOLD]) or None


def _withdraw(api: Api, prefix: str, plural: str, obj: Object, faults: list[str]) -> bool:
    """Remove the note from one object if it still says the same; return whether it was us."""
    meta = obj["metadata"]
    note = f"/metadata/annotations/{escape(names.PAUSE_BY)}"
    operations: list[Object] = [
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        # What stood is compared, not the version: a Job's status and its agent's notes change all the time.
        {"op": "test", "path": note, "value": _notes(obj)[names.PAUSE_BY]},
        {"op": "remove", "path": note},
    ]
    try:
        api.json_patch(namespaced(prefix, meta["namespace"], plural, meta["name"]), operations)
    except (ApiError, NoAnswerError) as error:
        if not isinstance(error, ApiError) or not (error.status == 404 or error.conflict):
            faults.append(f"{plural}/{meta['name']} in {meta['namespace']} is still told to pause ({error})")
        # A webhook that hangs is told by the API server too, where its own time is shorter than ours.
        hangs = isinstance(error, NoAnswerError) or error.transient
        if hangs and len(faults) >= _TOLD:
            raise UnreachableError("; ".join(faults[:_TOLD])) from error
        return False
    log("pause-withdrawn", kind=plural, namespace=meta["namespace"], name=meta["name"])
    return True


def _notes(obj: Object) -> Mapping[str, Any]:
    return obj["metadata"].get("annotations") or {}


def _allows_pauses(obj: Object) -> bool:
    return names.CHECKPOINT in _notes(obj)


def _is_told(obj: Object) -> bool:
    return names.PAUSE_BY in _notes(obj)


def _owners(obj: Object) -> set[str]:
    return {str(owner.get("uid")) for owner in obj["metadata"].get("ownerReferences") or ()}
