# SPDX-License-Identifier: Apache-2.0
"""What a soak runs on: a control plane with an audit log, the chart, sensors, and the product's own processes."""

import contextlib
import http.client
import json
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embellie_testbed.controlplane import CommandError, ControlPlane
from embellie_testbed.exporter import answers, start_exporter
from embellie_testbed.nodes import ROW_LABEL, ZONE_LABEL, gpu_nodes
from embellie_testbed.paths import CHART
from embellie_testbed.processes import ProgramError, until
from embellie_testbed.product import NAMESPACE, RELEASE, Program, start_operator, start_watchdog, switch_says
from embellie_testbed.prometheus import start_prometheus
from embellie_testbed.relay import Relay
from embellie_testbed.rest import ApiError
from embellie_testbed.soak.audit import POLICY
from embellie_testbed.soak.rules import Terms
from embellie_testbed.soak.spells import Journal, Part, now

UNANSWERED = (OSError, http.client.HTTPException, ApiError)
"""What people shrug off: the server is away, or says no; whether it may is for the judge to say."""
TEAMS = ("team-a", "team-b", "team-c")
JURISDICTIONS = {"west": "US-CA", "east": "FR"}
ROWS = ("west-r1", "west-r2", "east-r1", "east-r2")
LONGEST_DELAY_S = 80
SLOW_START_S = 60.0
TERMS = Terms(max_limit_hold_s=20.0, dead_man_s=24.0, release_s=8.0, longest_delay_s=LONGEST_DELAY_S)
_OPERATOR_FLAGS = ("--turn-seconds=1", f"--max-limit-hold-seconds={TERMS.max_limit_hold_s:g}")
_WATCHDOG_FLAGS = (f"--dead-man-seconds={TERMS.dead_man_s:g}", f"--release-seconds={TERMS.release_s:g}")


@dataclass(slots=True)
class Post:
    """A place for one process of the product, which is started again when it ends, as a Deployment would."""

    part: Part
    program: Program | None = None
    wanted: bool = False


class Site:
    """The cluster of one seed. Its posts are seen to by a thread of their own."""

    def __init__(self, plane: ControlPlane, journal: Journal, *, operators: int) -> None:
        self.plane, self.journal = plane, journal
        self.exchange = plane.directory / "exchange"
        self.operators = [Post(Part.OPERATOR) for _ in range(operators)]
        self.watchdog = Post(Part.WATCHDOG)
        self.exporter = start_exporter(plane, ambient=12.0)
        self.relay = Relay(start_prometheus(plane, [self.exporter.target]).port)
        self.ends: list[str] = []
        """Programs that ended without being told to, and their last words."""
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def posts(self) -> list[Post]:
        """All of them."""
        return [*self.operators, self.watchdog]

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects as an administrator."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(listed))

    def install(self) -> None:
        """Install the chart and make zones, rows, policies and teams."""
        self.plane.helm("install", RELEASE, CHART, "-n", NAMESPACE, "--create-namespace", "--wait=false")
        self.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        self.apply(*(grid_zone(name) for name in JURISDICTIONS), *(row(name) for name in ROWS))
        self.apply(*(policy(team) for team in TEAMS))
        for team in TEAMS:
            self.plane.kubectl("create", "namespace", team)
            self.plane.wait_for_default_service_account(team)

    def start(self, post: Post) -> None:
        """Man a post; a process that stands there still goes."""
        with self._lock:
            if self._closing.is_set():
                return
            if post.program is not None and post.program.running():
                post.program.stop(number=signal.SIGKILL)
            post.wanted = True
            if post.part is Part.WATCHDOG:
                post.program = start_watchdog(self.plane, flags=_WATCHDOG_FLAGS)
            else:
                url = self.relay.url
                post.program = start_operator(self.plane, self.exchange, flags=_OPERATOR_FLAGS, prometheus_url=url)

    def stop(self, post: Post, number: int = signal.SIGTERM) -> None:
        """Leave a post unmanned until it is started again."""
        with self._lock:
            post.wanted = False
            if post.program is not None:
                post.program.stop(number=number, seconds=20.0)

    def see_to_posts(self) -> None:
        """Start again what ended by itself, until the site closes."""
        while not self._closing.wait(1.0):
            for post in self.posts:
                if not post.wanted or post.program is None or post.program.running():
                    continue
                self.ends.append(f"{now():%H:%M:%S} {post.program.name} ended: {post.program.log()[-300:]}")
                # The API server that it asks for a token may be away; it is tried again in a second.
                with contextlib.suppress(OSError, ProgramError, RuntimeError):
                    self.start(post)
                threading.Thread(target=self._comes_back, args=(post,), daemon=True).start()

    def _comes_back(self, post: Post) -> None:
        with self.journal.spell("ended by itself", post.part):
            self.wait_until_at_work(post)

    def wait_until_at_work(self, post: Post) -> None:
        """Wait until what was started does its work, but no longer than even a slow machine takes to start it."""
        begin = now()

        def at_work() -> bool:
            if self._closing.is_set() or post.program is None:
                return True
            return answers(post.program.port) if post.part is Part.WATCHDOG else self._beats_since(begin)

        with contextlib.suppress(TimeoutError):
            until(at_work, "it is at work", SLOW_START_S, every_seconds=0.5)

    def _beats_since(self, begin: datetime) -> bool:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{RELEASE}-heartbeat"
        try:
            rest = self.plane.rest()
            renewed = rest.get(path)["spec"]["renewTime"]
            rest.close()
        except UNANSWERED:
            return False
        return datetime.fromisoformat(renewed) > begin

    def restart_prometheus(self, number: int) -> None:
        """End Prometheus and start another, which remembers nothing."""
        self.plane.processes.stop("prometheus", number=number)
        self.relay.upstream_port = start_prometheus(self.plane, [self.exporter.target]).port

    def insist(self, mend: Callable[[], object]) -> None:
        """Mend what was broken, however often the API server refuses to hear of it."""

        def mended() -> bool:
            try:
                mend()
            except (*UNANSWERED, CommandError):
                return False
            return True

        until(mended, "what was broken is mended", 120.0, every_seconds=1.0)

    def wait_until_it_holds(self) -> None:
        """Wait until new work is held."""
        until(lambda: switch_says(self.plane).get("enabled") == "true", "the switch is on", 90.0)

    def close(self) -> None:
        """Start nothing any more."""
        self._closing.set()
        with self._lock:
            self.relay.leave()


@contextlib.contextmanager
def open_site(rng: random.Random, journal: Journal) -> Iterator[Site]:
    """Start everything, and end it again; the logs stay where something was raised or `keep_logs` was asked for."""
    with ControlPlane.start(scheduler=True, kwok=True, audit=POLICY) as plane:
        plane.add_nodes(*gpu_nodes(8))
        plane.kubectl("label", "nodes", "-l", f"{ROW_LABEL}=west-r1", "embellie.io/power-cap-agent=true")
        site = Site(plane, journal, operators=rng.choice((1, 1, 2)))
        try:
            site.install()
            threading.Thread(target=site.see_to_posts, daemon=True).start()
            yield site
        finally:
            site.close()


def object_of(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """Return one of our cluster-scoped objects."""
    return {"apiVersion": "embellie.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def grid_zone(name: str, **spec: Any) -> dict[str, Any]:
    """Return a GridZone of the soak as it is when nothing is wrong."""
    meter = {"query": f'max(facility_power_watts{{zone="{name}"}})', "unit": "Watt", "maxAgeSeconds": 10}
    usual = {
        "nodeSelector": {ZONE_LABEL: name},
        "gridRegion": "US-CISO",
        "jurisdiction": JURISDICTIONS.get(name, "DE"),
        "contractedPowerKilowatts": 400,
        "powerSensor": meter,
    }
    return object_of("GridZone", name, **{**usual, **spec})


def row(name: str) -> dict[str, Any]:
    """Return a row's ThermalZone."""
    query = f'max(ipmi_temperature_celsius{{row="{name}"}})'
    sensor = {"name": "inlet", "role": "Inlet", "unit": "Celsius", "query": query, "maxAgeSeconds": 10}
    ladder = {"minimumDwellSeconds": 30}
    zone = name.partition("-")[0]
    return object_of(
        "ThermalZone", name, nodeSelector={ROW_LABEL: name}, gridZoneName=zone, sensors=[sensor], ladder=ladder
    )


def policy(team: str, **spec: Any) -> dict[str, Any]:
    """Return a team's EnergyPolicy."""
    usual = {
        "mode": "enforce",
        "namespaceSelector": {"matchNames": [team]},
        "maxDelaySeconds": 60,
        "bonusMaxDelaySeconds": LONGEST_DELAY_S,
        "assumedDurationSeconds": 60,
        "maxPausesPerDay": 50,
    }
    return object_of("EnergyPolicy", team, **{**usual, **spec})
