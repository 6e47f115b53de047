# SPDX-License-Identifier: Apache-2.0
"""Watches from outside when work is released."""

import contextlib
import json
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import requests

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane


class Watch:
    """Notes when each workload was first seen released."""

    def __init__(self, plane: ControlPlane) -> None:
        self.seen: dict[str, float] = {}
        self.delays_s: list[float] = []
        self._stop = threading.Event()
        ready = threading.Barrier(3)
        for path in ("/apis/batch/v1/jobs", "/api/v1/pods"):
            threading.Thread(target=self._follow, args=(plane, path, ready), daemon=True).start()
        ready.wait(60.0)

    def _follow(self, plane: ControlPlane, path: str, ready: threading.Barrier) -> None:
        """List and watch, again and again: a watch that cannot keep up is cut off by the API server."""
        kube, first = KubeClient.from_environment(plane.kubeconfig), True
        while not self._stop.is_set():
            listing = kube.list_all(path, {"labelSelector": "embellie.io/flex"})
            for raw in listing:
                self._note(raw, time.time())
            if first:
                ready.wait(60.0)
                first = False
            with contextlib.suppress(requests.exceptions.RequestException):  # cut off, or the control plane ends
                self._watch(kube, path, listing.resource_version)

    def _watch(self, kube: KubeClient, path: str, version: str) -> None:
        configuration = kube.configuration
        query = f"{kube.host}{path}?watch=true&labelSelector=embellie.io/flex&resourceVersion={version}"
        headers = {"Authorization": kube.authorization()} if kube.authorization() else {}
        cert = None
        if configuration.cert_file and configuration.key_file:
            cert = configuration.cert_file, configuration.key_file
        with requests.get(
            query, headers=headers, cert=cert, verify=configuration.ssl_ca_cert, stream=True, timeout=600
        ) as response:
            for line in response.iter_lines(chunk_size=65536):
                if self._stop.is_set():
                    return
                if not line:
                    continue
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._note(event["object"], time.time())

    def _note(self, raw: Mapping[str, Any], at: float) -> None:
        meta = raw["metadata"]
        released = meta.get("annotations", {}).get("embellie.io/released-at")
        if released and meta["uid"] not in self.seen:
            self.seen[meta["uid"]] = at
            self.delays_s.append(at - datetime.fromisoformat(released).timestamp())

    def stop(self) -> None:
        """Stop with the next event."""
        self._stop.set()
