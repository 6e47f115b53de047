# SPDX-License-Identifier: Apache-2.0
"""Work as users write it, well and badly, drawn at random; pure, so that a seed tells what its users wanted."""

import random
from datetime import datetime, timedelta
from typing import Any

from embellie_testbed.soak.trail import FLEX, HELD, NEVER, TAKES, WAITS_AT_MOST

GROUP = "embellie.io"
AGENT = "soak.example.com/agent"
"""How the program of a Job answers when it is told to pause: `agents.py`."""
AGENTS = ("prompt", "prompt", "on-pods", "late", "never", "wrong")
RUNS = "testbed.embellie.io/run-seconds"
RESIDENCIES = ("US-CA", "US", "FR", "FR, US-CA", "fr", "DE", "Atlantis", "")
UNREADABLE = ("soon", "", "-5m", "1e9s", "10 parsecs", "9999999999d", "ein Tag", "0s")
COPIED = {
    f"{GROUP}/cell": "west.west-r1",
    f"{GROUP}/paused-at": "2026-01-01T00:00:00Z",
    f"{GROUP}/pause-by": "2026-01-01T00:00:00Z",
    f"{GROUP}/released-at": "2026-01-01T00:00:00Z",
    f"{GROUP}/release-reason": "BestNow",
    f"{GROUP}/go": "somebody",
    f"{GROUP}/checkpointed": "2026-01-01T00:00:00Z",
}


def draw(rng: random.Random, name: str, namespace: str, now: datetime) -> dict[str, Any]:
    """Return a Job or a bare pod as some user would send it now."""
    is_job = rng.random() < 0.7
    flex = rng.choices(("patient", "bonus", "rigid", None, "Patient"), (70, 10, 7, 11, 2))[0]
    willing = flex in ("patient", "bonus")
    notes = _terms(rng, now) | _place(rng)
    inner = {RUNS: str(rng.randint(8, 45))}
    if is_job:
        notes |= {AGENT: rng.choice(AGENTS)} | _checkpoint(rng, willing=willing)
        if TAKES in notes:
            # What may be paused runs long enough for it.
            inner[RUNS] = str(rng.randint(40, 120))
        if rng.random() < 0.7 and f"{GROUP}/checkpoint" in notes:
            inner[f"{GROUP}/checkpoint"] = notes[f"{GROUP}/checkpoint"]
    labels = {FLEX: flex} if flex else {}
    if rng.random() < 0.08:
        notes |= COPIED
        # A suspended Job with our marker is a copy of a held one, and as good as held; what is not is never marked.
        labels |= {HELD: "true"}
    raw = _body(rng, name, namespace, is_job=is_job, labels=labels, notes=notes, inner=inner)
    _exempt(rng, raw, willing=willing)
    return raw


def _terms(rng: random.Random, now: datetime) -> dict[str, str]:
    """Draw what bounds the wait, well written or not, and what it comes to at most."""
    notes: dict[str, str] = {}
    at_most: list[float] = []
    if rng.random() < 0.5:
        notes[f"{GROUP}/duration"] = rng.choice((*UNREADABLE, *(f"{rng.randint(10, 90)}s" for _ in range(40))))
    if rng.random() < 0.6:
        seconds = rng.randint(5, 75)
        good = rng.random() < 0.92
        notes[f"{GROUP}/max-delay"] = f"{seconds}s" if good else rng.choice(UNREADABLE)
        at_most.append(seconds if good else 0)
    if rng.random() < 0.2:
        seconds = rng.choice((-3600, *range(20, 200, 10)))
        moment = now + timedelta(seconds=seconds)
        good = rng.random() < 0.9
        notes[f"{GROUP}/deadline"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}" if good else f"{moment:%d.%m.%Y %H:%M}"
        # Created up to two seconds later than it was written.
        at_most.append(max(0, seconds) if good else 0)
    if at_most:
        notes[WAITS_AT_MOST] = str(min(at_most))
    return notes


def _place(rng: random.Random) -> dict[str, str]:
    notes: dict[str, str] = {}
    if rng.random() < 0.25:
        notes[f"{GROUP}/residency"] = rng.choice(RESIDENCIES)
    if rng.random() < 0.2:
        notes[f"{GROUP}/watts-per-gpu"] = rng.choice(("650", "300", "nan", "-1", "many"))
    if rng.random() < 0.05:
        notes[f"{GROUP}/dead-line"] = "tomorrow"
    return notes


def _checkpoint(rng: random.Random, *, willing: bool) -> dict[str, str]:
    if rng.random() < 0.4:
        return {}
    if rng.random() < 0.1:
        return {f"{GROUP}/checkpoint": rng.choice(("yes", "takes=2h", "takes=", "every=1h", "takes=5s,takes=6s"))}
    takes = rng.randint(2, 12)
    words = {f"{GROUP}/checkpoint": f"takes={takes}s" + rng.choice(("", ",every=1m"))}
    return words | ({TAKES: str(takes)} if willing else {})


def _body(
    rng: random.Random,
    name: str,
    namespace: str,
    *,
    is_job: bool,
    labels: dict[str, str],
    notes: dict[str, str],
    inner: dict[str, str],
) -> dict[str, Any]:
    gpus = rng.choices((1, 2, 4, 8, 0, 16), (40, 20, 15, 20, 4, 1))[0]
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [{"name": "train", "image": "example.com/train:1", "resources": {"limits": limits}}],
    }
    if rng.random() < 0.1:
        spec["nodeSelector"] = {"topology.kubernetes.io/zone": rng.choice(("west", "east"))}
    if rng.random() < 0.1:
        spec["affinity"] = _affinity(rng)
    meta = {"name": name, "namespace": namespace, "labels": labels, "annotations": notes}
    if not is_job:
        if rng.random() < 0.1:
            spec["schedulingGates"] = [{"name": "data.example/staged"}]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "annotations": notes | inner}, "spec": spec}
    pods = rng.choices((1, 2, 3, 6), (70, 15, 10, 5))[0]
    template = {"metadata": {"annotations": inner}, "spec": spec}
    job = {"parallelism": pods, "completions": pods, "backoffLimit": 2, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": job}


def _affinity(rng: random.Random) -> dict[str, Any]:
    def term() -> dict[str, Any]:
        rows = rng.sample(("west-r1", "west-r2", "east-r1", "east-r2"), rng.randint(1, 3))
        return {"matchExpressions": [{"key": "example.com/row", "operator": "In", "values": rows}]}

    terms = [term() for _ in range(rng.randint(1, 2))]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _exempt(rng: random.Random, raw: dict[str, Any], *, willing: bool) -> None:
    """Make some of it what nobody may hold, and write that down on it."""
    meta, spec = raw["metadata"], raw["spec"]
    how = rng.choices(("no", "hook", "queue", "suspended", "managed"), (90, 3, 3, 3, 1))[0]
    if how == "hook":
        meta["annotations"]["helm.sh/hook"] = "post-install"
    elif how == "queue":
        meta["labels"]["kueue.x-k8s.io/queue-name"] = "somewhere"
    elif how == "suspended" and raw["kind"] == "Job" and HELD not in meta["labels"]:
        spec["suspend"] = True
    elif how == "managed" and raw["kind"] == "Job":
        spec["managedBy"] = "example.com/another-controller"
    elif willing:
        return
    meta["annotations"][NEVER] = how
