# SPDX-License-Identifier: Apache-2.0
"""The programs inside of Jobs that are told to pause: some acknowledge, some late, some never, some wrongly."""

import contextlib
import threading
from typing import Any

from embellie_testbed.rest import Rest
from embellie_testbed.soak.site import TEAMS, UNANSWERED, Site
from embellie_testbed.soak.spells import now
from embellie_testbed.soak.trail import notes
from embellie_testbed.soak.users import MERGE
from embellie_testbed.soak.work import AGENT, GROUP

_DELAY_S = {"prompt": 1.0, "on-pods": 1.0, "late": 15.0, "wrong": 1.0}


class Agents:
    """All of them, in one thread."""

    def __init__(self, site: Site) -> None:
        self._rest: Rest = site.plane.rest()
        self._heard: dict[tuple[str, str], float] = {}
        self._answered: set[tuple[str, str]] = set()

    def run(self, stop: threading.Event) -> None:
        """Look for announcements, and answer each as its Job does."""
        while not stop.wait(0.5):
            with contextlib.suppress(*UNANSWERED):
                for team in TEAMS:
                    for job in self._rest.get(f"/apis/batch/v1/namespaces/{team}/jobs")["items"]:
                        self._look_at(job, team)
        self._rest.close()

    def _look_at(self, job: dict[str, Any], team: str) -> None:
        by, how = notes(job).get(f"{GROUP}/pause-by"), notes(job).get(AGENT, "never")
        if by is None or how == "never":
            return
        seen = (job["metadata"]["uid"], by)
        heard = self._heard.setdefault(seen, now().timestamp())
        if seen in self._answered or now().timestamp() < heard + _DELAY_S[how]:
            return
        word = {"metadata": {"annotations": {f"{GROUP}/checkpointed": "yes" if how == "wrong" else by}}}
        for path in self._told(job, team, how):
            self._rest.request("PATCH", path, word, MERGE)
        self._answered.add(seen)

    def _told(self, job: dict[str, Any], team: str, how: str) -> list[str]:
        name = job["metadata"]["name"]
        if how != "on-pods":
            return [f"/apis/batch/v1/namespaces/{team}/jobs/{name}"]
        pods = self._rest.get(f"/api/v1/namespaces/{team}/pods?labelSelector=job-name%3D{name}")["items"]
        return [f"/api/v1/namespaces/{team}/pods/{pod['metadata']['name']}" for pod in pods]
