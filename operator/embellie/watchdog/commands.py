# SPDX-License-Identifier: Apache-2.0
"""What is done once and by order: release everything now, clear up before an uninstall, check the installation."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from embellie.watchdog import names, switch
from embellie.watchdog.api import Api, ApiError, UnreachableError
from embellie.watchdog.clearing import clear_up
from embellie.watchdog.lease import read_lease, renew_time
from embellie.watchdog.log import log
from embellie.watchdog.release import Held
from embellie.watchdog.sweep import Order, Progress, sweep

KINDS = ("gridzones", "thermalzones", "energypolicies", "workloadplans", "powercaps")
RESCUE = "see docs/rescue-by-hand.md for the kubectl lines that release a workload by hand"

_NOT_CLEARED = "announced pauses, taints or power caps may still stand (the time was up)"


def switch_off(api: Api, namespace: str, name: str, *, lock: bool, until: float) -> str | None:
    """Switch holding off, waiting for the API server until a monotonic time; return what went wrong, if anything."""
    pause = 0.5
    while True:
        try:
            switch.turn_off(api, namespace, name, lock=lock)
        except (ApiError, UnreachableError) as error:
            final = isinstance(error, ApiError) and not error.transient
            if final or time.monotonic() + pause > until:
                return str(error)
            log("switch-off-waits", error=str(error))
            time.sleep(pause)
            pause = min(pause * 2, 10.0)
        else:
            return None


def release_all(
    api: Api,
    *,
    identity: str,
    release_seconds: float,
    timeout_seconds: float,
    reason: str = names.RELEASED_BY_ADMIN,
    note: str = "Released by an administrator: it may start now, wherever its own constraints allow.",
    on_release: Callable[[Held], None] = lambda _held: None,
) -> Progress:
    """Release everything that is held, in pace, within a time limit."""
    order = Order(
        reason=reason,
        identity=identity,
        release_seconds=release_seconds,
        event_reason=reason,
        note=note,
        stop=threading.Event(),
        on_release=on_release,
    )
    return sweep(api, order, give_up_after_seconds=timeout_seconds)


def uninstall(
    api: Api, *, namespace: str, name: str, identity: str, release_seconds: float, timeout_seconds: float
) -> tuple[int, str]:
    """Lock the switch, so that a live operator cannot re-enable, then release all. Return exit code and a sentence."""
    until = time.monotonic() + timeout_seconds
    fault = switch_off(api, namespace, name, lock=True, until=until)
    if fault:
        log("switch-off-failed", error=fault)
    # Beside the release, which must not wait for many pods that take their time.
    clearing = threading.Thread(target=clear_up, args=(api, identity), name="clear", daemon=True)
    clearing.start()
    progress = release_all(
        api,
        identity=identity,
        release_seconds=release_seconds,
        timeout_seconds=max(until - time.monotonic(), 1.0),
        reason=names.UNINSTALLED,
        note="Released, because Embellie is being uninstalled: it may start now, wherever its own constraints allow.",
    )
    if fault:
        return 1, f"the switch could not be locked ({fault}), so new work may still be held; {RESCUE}"
    if not progress.clean:
        why = "; ".join(progress.failures) or "the time was up"
        return 1, f"{progress.released} released, {progress.left} still held ({why}); {RESCUE}"
    clearing.join(max(until - time.monotonic(), 0.0))
    # Again, because an operator may have been in the middle of a turn when the switch was locked.
    marked = _NOT_CLEARED if clearing.is_alive() else clear_up(api, identity)
    if marked:
        return 1, f"nothing is held any more ({progress.released} released), but {marked}; {RESCUE}"
    return 0, f"nothing is held any more ({progress.released} released)"


def check(
    api: Api, *, namespace: str, name: str, heartbeat_within_s: float | None, wait_seconds: float = 0.0
) -> list[tuple[bool, str]]:
    """Prove with this token that the installation answers; one (good, sentence) for each thing.

    With `heartbeat_within_s` a turn must have been completed so shortly before. An operator that has just been
    installed gets `wait_seconds` for its first one.
    """
    until = time.monotonic() + wait_seconds
    while True:
        results = _checks(api, namespace=namespace, name=name, heartbeat_within_s=heartbeat_within_s)
        if all(good for good, _ in results) or time.monotonic() + 1.0 > until:
            return results
        time.sleep(1.0)


def _checks(api: Api, *, namespace: str, name: str, heartbeat_within_s: float | None) -> list[tuple[bool, str]]:
    return [
        _checked(lambda: _check_switch(api, namespace, name)),
        _checked(lambda: _check_kinds(api)),
        _checked(lambda: _check_heartbeat(api, namespace, name, heartbeat_within_s=heartbeat_within_s)),
    ]


def _checked(probe: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
    try:
        return probe()
    except ApiError as error:
        hint = "install the chart again, its Roles are missing" if error.status in (401, 403) else "try again"
        return False, f"{error} - {hint}"
    except UnreachableError as error:
        return False, f"the API server does not answer ({error}) - check network policies and try again"


def _check_switch(api: Api, namespace: str, name: str) -> tuple[bool, str]:
    state = switch.read(api, namespace, name)
    where = f"ConfigMap {namespace}/{names.switch_name(name)}"
    if not state.exists:
        return False, f"{where} is missing, so nothing will be held - run `helm upgrade` to create it again"
    if state.immutable:
        return False, f"{where} was made immutable, so nobody can switch it - delete it and run `helm upgrade`"
    holding = "locked" if state.locked else "on" if state.enabled else "off"
    return True, f"{where} is readable: holding is {holding}"


def _check_kinds(api: Api) -> tuple[bool, str]:
    path = f"/apis/{names.GROUP}/{names.VERSION}"
    try:
        served = {str(r.get("name")) for r in api.get(path).get("resources") or ()}
    except ApiError as error:
        if error.status != 404:
            raise
        served = set()
    missing = [kind for kind in KINDS if kind not in served]
    if missing:
        return False, f"{', '.join(missing)} not served - apply the CRDs: kubectl apply -f manifests/crds/"
    return True, f"{', '.join(KINDS)} are served as {names.GROUP}/{names.VERSION}"


def _check_heartbeat(api: Api, namespace: str, name: str, *, heartbeat_within_s: float | None) -> tuple[bool, str]:
    where = f"Lease {namespace}/{names.heartbeat_name(name)}"
    hint = f"look at: kubectl -n {namespace} logs -l app.kubernetes.io/name=embellie --all-containers"
    lease = read_lease(api, namespace, names.heartbeat_name(name))
    if lease is None:
        return heartbeat_within_s is None, f"{where} is not there yet: no turn was completed so far - {hint}"
    last = f"{where} is readable: last completed turn {(lease.get('spec') or {}).get('renewTime')}"
    beaten_at = renew_time(lease)
    if heartbeat_within_s is None:
        return True, last
    # Either side of now: the operator's node may have another clock than ours.
    if beaten_at is None or abs((datetime.now(UTC) - beaten_at).total_seconds()) > heartbeat_within_s:
        return False, f"{last}, which is not within {heartbeat_within_s:.0f} s of now - {hint}"
    return True, last
