# SPDX-License-Identifier: Apache-2.0
"""Submits each job of the scenario at its time, as a user would: one `batch/v1` Job each."""

import http.client
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from embellie.domain.clock import Clock
from embellie.domain.durations import format_duration
from embellie.domain.names import DURATION, FLEX_LABEL, GPU_RESOURCE, MAX_DELAY, WATTS_PER_GPU
from embellie_testbed.demo.record import Record
from embellie_testbed.demo.scenario import DemoJob, Flex, Scenario
from embellie_testbed.rest import ApiError, Rest

RUN_SECONDS = "testbed.embellie.io/run-seconds"
TESTBED_WATTS = "testbed.embellie.io/watts-per-gpu"
_ATTEMPTS, _PAUSE_S = 3, 0.3


def manifest(job: DemoJob, *, namespace: str, factor: float) -> dict[str, Any]:
    """Write a job as the Job object that its user submits.

    An unlabelled job carries nothing of `embellie.io`; how long its containers run and what they draw is told to the
    testbed alone.
    """
    labels, notes = {}, {}
    if job.labelled:
        labels[FLEX_LABEL] = job.flex.value
        notes[WATTS_PER_GPU] = str(job.watts_per_gpu)
        if job.stated_duration is not None:
            notes[DURATION] = format_duration(job.stated_duration)
        if job.flex is Flex.PATIENT and job.max_delay is not None:
            notes[MAX_DELAY] = format_duration(job.max_delay)
    run_seconds = f"{job.duration.total_seconds() / factor:.3f}"
    gpus = str(job.gpus_per_pod)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name, "namespace": namespace, "labels": labels, "annotations": notes},
        "spec": {
            "parallelism": job.pods,
            "completions": job.pods,
            "backoffLimit": 100,
            "template": {
                "metadata": {"annotations": {RUN_SECONDS: run_seconds, TESTBED_WATTS: str(job.watts_per_gpu)}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 0,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [
                        {
                            "name": "train",
                            "image": "registry.example/train:1",
                            "resources": {"requests": {GPU_RESOURCE: gpus}, "limits": {GPU_RESOURCE: gpus}},
                        }
                    ],
                },
            },
        },
    }


class Feeder(threading.Thread):
    """Walks through the scenario's jobs in the order of their submission."""

    def __init__(
        self, *, rest: Rest, scenario: Scenario, clock: Clock, factor: float, namespace: str, record: Record,
        failed: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Prepare; `start()` begins."""
        super().__init__(name="feeder", daemon=True)
        self._rest, self._scenario, self._clock, self._factor = rest, scenario, clock, factor
        self._namespace, self._record, self._failed = namespace, record, failed
        self._stop_asked = threading.Event()
        self.done = threading.Event()

    def stop(self) -> None:
        """Submit nothing more."""
        self._stop_asked.set()

    def run(self) -> None:
        """Submit each job when its time has come."""
        path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs"
        for job in self._scenario.jobs:
            wait_s = (self._clock.to_wall(job.submit)).timestamp() - time.time()
            if self._stop_asked.wait(max(0.0, wait_s)):
                break
            body = manifest(job, namespace=self._namespace, factor=self._factor)
            self._record.submitted(job.name, flex=job.flex.value, watts_per_gpu=job.watts_per_gpu, now=time.time())
            self._submit(path, body)
        self._rest.close()
        self.done.set()

    def _submit(self, path: str, body: dict[str, Any]) -> None:
        """Create one Job; a lost answer is asked for again, and a Job that is there already has been created."""
        problem = ""
        for _ in range(_ATTEMPTS):
            try:
                self._rest.request("POST", path, body)
            except ApiError as error:
                if error.status == HTTPStatus.CONFLICT:
                    return
                problem = str(error)
            except (OSError, http.client.HTTPException) as error:
                problem = str(error)
            else:
                return
            self._stop_asked.wait(_PAUSE_S)
        self._failed(f"{body['metadata']['name']} could not be submitted: {problem}")
