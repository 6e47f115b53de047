# SPDX-License-Identifier: Apache-2.0
"""Users who submit, edit, start, suspend and delete work at random, each in a thread with a connection of its own."""

import contextlib
import random
import subprocess
import threading
from typing import Any

from embellie_testbed.product import program
from embellie_testbed.rest import ApiError, Rest
from embellie_testbed.soak.site import TEAMS, UNANSWERED, Site
from embellie_testbed.soak.spells import now
from embellie_testbed.soak.trail import FLEX, suspended, waits
from embellie_testbed.soak.work import GROUP, RESIDENCIES, UNREADABLE, draw

MERGE = "application/merge-patch+json"
_AS_USER = "fieldManager=a-user"


class User:
    """One user."""

    def __init__(self, site: Site, seed: str) -> None:
        self._site = site
        self._name = seed.rpartition("/")[2]
        self._rng = random.Random(seed)
        self._rest = site.plane.rest()
        self.created = 0

    def run(self, stop: threading.Event) -> None:
        """Do something every now and then, in rushes and lulls."""
        while not stop.wait(self._rng.choice((0.1, 0.3, 1.0, 1.0, 2.0, 4.0))):
            act = self._rng.choices(
                (self.create, self.edit, self.delete, self.suspend, self.start, self.go, self.unmark),
                (62, 14, 6, 6, 6, 4, 2),
            )[0]
            with contextlib.suppress(*UNANSWERED):
                act()
        self._rest.close()

    def create(self) -> None:
        """Submit something."""
        self.created += 1
        submit(self._rest, draw(self._rng, f"{self._name}-{self.created:03}", self._rng.choice(TEAMS), now()))

    def edit(self) -> None:
        """Change the words on something, most often on what waits."""
        raw = self._some(lambda obj: waits(obj) or self._rng.random() < 0.2)
        keys: dict[str, Any] = self._rng.choice(
            (
                {f"{GROUP}/max-delay": f"{self._rng.randint(1, 30)}s"},
                {f"{GROUP}/max-delay": "10h"},
                {f"{GROUP}/max-delay": self._rng.choice(UNREADABLE)},
                {f"{GROUP}/residency": self._rng.choice(RESIDENCIES)},
                {f"{GROUP}/duration": f"{self._rng.randint(1, 300)}s"},
                {f"{GROUP}/deadline": "2040-01-01T00:00:00Z"},
                {f"{GROUP}/paused-at": "2026-01-01T00:00:00Z", f"{GROUP}/cell": "east.east-r1"},
                {f"{GROUP}/pause-by": "2026-01-01T00:00:00Z"},
            )
        )
        change: dict[str, Any] = {"annotations": keys}
        if self._rng.random() < 0.15:
            change = {"labels": {FLEX: self._rng.choice((None, "rigid", "bonus"))}}
        self._patch(raw, {"metadata": change})

    def delete(self) -> None:
        """Delete something."""
        raw = self._some(lambda _: True)
        policy = self._rng.choice(("Background", "Foreground", "Orphan"))
        self._rest.request("DELETE", _path(raw), {"propagationPolicy": policy})

    def suspend(self) -> None:
        """Suspend a Job that runs by hand: it is its user's to start again."""
        raw = self._some(lambda obj: obj["kind"] == "Job" and not suspended(obj) and not obj["status"].get("succeeded"))
        self._patch(raw, {"spec": {"suspend": True}})

    def start(self) -> None:
        """Start a suspended Job by hand, be it suspended by its user or held."""
        raw = self._some(lambda obj: obj["kind"] == "Job" and suspended(obj))
        self._patch(raw, {"spec": {"suspend": False}})

    def go(self) -> None:
        """Start something that waits with the command."""
        raw = self._some(waits)
        meta = raw["metadata"]
        command = [program("embellie"), "go", f"{raw['kind'].lower()}/{meta['name']}", "-n", meta["namespace"]]
        subprocess.run(command, env=self._site.plane.environment(), capture_output=True, check=False, timeout=60)

    def unmark(self) -> None:
        """Take the marker off something that waits, or put it on something that does not."""
        raw = self._some(lambda _: True)
        held = None if waits(raw) else "true"
        self._patch(raw, {"metadata": {"labels": {f"{GROUP}/held": held}}})

    def _some(self, fits: Any) -> dict[str, Any]:
        """Return a Job or bare pod that fits; raise `ApiError` where there is none."""
        team = self._rng.choice(TEAMS)
        found = []
        for kind in ("Job", "Pod"):
            items = self._rest.get(_folder(kind, team))["items"]
            found += [{"kind": kind, **item} for item in items if not item["metadata"].get("ownerReferences")]
        found = [obj for obj in found if fits(obj) and "deletionTimestamp" not in obj["metadata"]]
        if not found:
            raise ApiError(404, "nothing like that")
        return self._rng.choice(found)

    def _patch(self, raw: dict[str, Any], change: dict[str, Any]) -> None:
        self._rest.request("PATCH", f"{_path(raw)}?{_AS_USER}", change, MERGE)


def newcomer(name: str, team: str) -> dict[str, Any]:
    """Return plain work that would be held if anything held."""
    spec = {"restartPolicy": "Never", "containers": [{"name": "train", "image": "example.com/train:1"}]}
    meta = {"name": name, "namespace": team, "labels": {FLEX: "patient"}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": {"spec": spec}}}


def submit(rest: Rest, raw: dict[str, Any]) -> None:
    """Create work as a user."""
    rest.request("POST", f"{_folder(raw['kind'], raw['metadata']['namespace'])}?{_AS_USER}", raw)


def _folder(kind: str, namespace: str) -> str:
    if kind == "Job":
        return f"/apis/batch/v1/namespaces/{namespace}/jobs"
    return f"/api/v1/namespaces/{namespace}/pods"


def _path(raw: dict[str, Any]) -> str:
    return f"{_folder(raw['kind'], raw['metadata']['namespace'])}/{raw['metadata']['name']}"
