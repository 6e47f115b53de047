# SPDX-License-Identifier: Apache-2.0
"""A real cluster with two zones and an operator that tests start and feed; where wanted, with a real Prometheus."""

import http.client
import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from users_work import job

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.exporter import Exporter
from embellie_testbed.processes import until
from embellie_testbed.product import Program, start_operator, switch_says, write_forecast
from embellie_testbed.prometheus import Prometheus
from embellie_testbed.relay import Relay

LIMIT_HOLD_S = 10


class Site:
    """The cluster with two zones and an operator; what a test makes of it is taken away after it."""

    prometheus_url = ""

    def __init__(self, plane: ControlPlane, kube: KubeClient, exchange: Path, namespace: str = "") -> None:
        self.plane, self.kube, self.exchange, self.namespace = plane, kube, exchange, namespace
        self.operator: Program | None = None
        self._issues = count()
        self._first_issue = datetime.now(UTC) - timedelta(minutes=15)

    def start(self, *flags: str) -> Program:
        flags = ("--turn-seconds=1", *flags)
        self.operator = start_operator(self.plane, self.exchange, flags=flags, prometheus_url=self.prometheus_url)
        return self.operator

    def start_holding(self) -> Program:
        """Start, and wait until admission holds in the test's namespace."""
        operator = self.start()
        self.wait_for_switch()
        return operator

    def stop(self) -> None:
        if self.operator is not None and self.operator.running():
            self.operator.stop()
        self.operator = None

    def apply(self, kind: str, name: str, **spec: Any) -> str:
        body = {"apiVersion": "embellie.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        return self.plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body))

    def weather(self, values: list[float], *, now: datetime | None = None) -> None:
        """Make these the newest forecasts of both zones."""
        issued = now or self._first_issue + timedelta(seconds=next(self._issues))
        for zone in ("west", "east"):
            write_forecast(self.exchange, zone, values, now=issued)

    def no_weather(self) -> None:
        for path in (self.exchange / "forecasts").glob("*/*.json"):
            path.unlink()

    def hold(self, **policy: Any) -> None:
        """Make a policy for the test's namespace and wait until admission holds there."""
        spec = {"mode": "enforce", "namespaceSelector": {"matchNames": [self.namespace]}, **policy}
        self.apply("EnergyPolicy", self.namespace, **spec)
        self.wait_for_switch()

    def wait_for_switch(self) -> dict[str, str]:
        def on() -> dict[str, str] | None:
            assert self.operator is not None
            assert self.operator.running(), self.operator.log()[-3000:]
            switch = switch_says(self.plane)
            wanted = f",{self.namespace}," in switch.get("namespaces", "")
            return switch if wanted and switch.get("enabled") == "true" else None

        return until(on, f"admission holds in {self.namespace}")

    def create(self, raw: dict[str, Any]) -> dict[str, Any]:
        folder, plural = ("/apis/batch/v1", "jobs") if raw["kind"] == "Job" else ("/api/v1", "pods")
        path = f"{folder}/namespaces/{raw['metadata']['namespace']}/{plural}"
        # Not through `create`, which writes as Embellie: these are users' objects.
        return self.kube.request("POST", path, body=raw, params={"fieldManager": "a-user"})

    def train(self, name: str = "train", **fields: Any) -> dict[str, Any]:
        return self.create(job(name, fields.pop("namespace", self.namespace), **fields))

    def job(self, name: str = "train") -> dict[str, Any]:
        return self.kube.get(f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{name}")

    def pod(self, name: str) -> dict[str, Any]:
        return self.kube.get(f"/api/v1/namespaces/{self.namespace}/pods/{name}")

    def get(self, *what: str) -> dict[str, Any]:
        found = self.plane.kubectl("get", *what, "-o", "json", check=False)
        return json.loads(found) if found.strip() else {}

    def plan(self, name: str = "train", *, kind: str = "job") -> dict[str, Any]:
        return self.get("wp", f"{kind}-{name}", "-n", self.namespace)

    def plan_when(self, name: str = "train", *, state: str, kind: str = "job") -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            found = self.plan(name, kind=kind)
            return found if found.get("status", {}).get("state") == state else None

        return until(there, f"the plan of {kind} {name} says {state}", 90.0)

    def condition_when(self, kind: str, name: str, type_: str, status: str, words: str = "") -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            conditions = self.get(kind, name).get("status", {}).get("conditions", ())
            found = next((c for c in conditions if (c["type"], c["status"]) == (type_, status)), None)
            return found if found and words in found["message"] else None

        return until(there, f"{type_} of {kind} {name} is {status}")

    def turns(self) -> float:
        """Return how many turns the operator has completed."""
        assert self.operator is not None
        connection = http.client.HTTPConnection("127.0.0.1", self.operator.port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        return next(
            (float(n.split()[-1]) for n in lines if n.startswith('embellie_turns_total{outcome="complete"}')), 0
        )

    def is_well(self) -> None:
        """Fail where the operator died or a turn did."""
        assert self.operator is not None
        log = self.operator.log()
        assert self.operator.running(), log[-3000:]
        assert "turn failed" not in log, log[log.index("turn failed") - 200 :][:3000]


class MeteredSite(Site):
    """A site whose simulated sensors come through Prometheus, behind a relay that can hang or be gone."""

    def __init__(
        self,
        plane: ControlPlane,
        kube: KubeClient,
        exchange: Path,
        exporter: Exporter,
        prometheus: Prometheus,
        relay: Relay,
    ) -> None:
        super().__init__(plane, kube, exchange)
        self.exporter, self.prometheus, self.relay = exporter, prometheus, relay
        self.prometheus_url = relay.url

    def start(self, *flags: str) -> Program:
        return super().start(f"--max-limit-hold-seconds={LIMIT_HOLD_S}", *flags)
