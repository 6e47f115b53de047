# SPDX-License-Identifier: Apache-2.0
"""A very small kubelet: nodes whose pods run as ordinary processes of this machine.

kwok runs no containers, so on kwok nodes an installed chart would only look alive. Pods that the real scheduler binds
to these nodes really run: the same command, with a token of the pod's own ServiceAccount, restarted when it ends, told
to stop with SIGTERM and its grace period. It knows what the chart uses and no more: no images, init containers, limits
or liveness probes, and the files of a ConfigMap or Secret stay what they were when the pod came. `kubectl logs` works;
a container's id is `process://` and the process id, for those who kill it.
"""

import argparse
import http.client
import signal
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embellie_testbed.controlplane import token_kubeconfig
from embellie_testbed.nodes import is_ready
from embellie_testbed.paths import PACKAGE, REPOSITORY
from embellie_testbed.podlogs import serve_logs
from embellie_testbed.pods import Launch, declared_ports, files_of, launch_of, links_of, mounted_object, probe_target
from embellie_testbed.podstatus import RunningContainer, RunningPod, condition, should_start, status_of
from embellie_testbed.processes import Processes, ProgramError, free_port
from embellie_testbed.rest import ApiError, Rest
from embellie_testbed.watch import follow

if TYPE_CHECKING:
    from embellie_testbed.controlplane import ControlPlane

_TURN_SECONDS = 0.2
_PROBE_SECONDS = 1.0
_LEASE_SECONDS = 10.0
_BACKOFF_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0)


class Kubelet:
    """The pods of its nodes. Runs in one thread; the watches only write down what they see."""

    def __init__(self, kubeconfig: Path, nodes: list[str], *, certificate: Path, key: Path) -> None:
        self._kubeconfig = kubeconfig
        self._nodes = nodes
        self._rest = Rest.from_kubeconfig(kubeconfig)
        self._processes = Processes()
        self._lock = threading.Lock()
        self._seen: dict[str, dict[str, Any]] = {}
        self._running: dict[str, RunningPod] = {}
        self._renew_at = 0.0
        self._probe_at = 0.0
        self._port = free_port()
        serve_logs(
            self._port,
            certificate=certificate,
            key=key,
            log_of=lambda *names: self._processes.log("_".join(names)),
        )

    def run(self) -> None:
        """Register the nodes and keep their pods running, for ever."""
        for name in self._nodes:
            self._register(name)
            self._follow(name)
        while True:
            try:
                self._turn()
            except (OSError, http.client.HTTPException):
                # The API server is away: what runs goes on running, and is reported when it is back.
                self._rest.close()
            time.sleep(_TURN_SECONDS)

    def _turn(self) -> None:
        now = time.monotonic()
        with self._lock:
            pods = dict(self._seen)
        for uid, pod in pods.items():
            finished = pod["status"].get("phase") in ("Succeeded", "Failed")
            if uid not in self._running and not finished and "deletionTimestamp" not in pod["metadata"]:
                self._running[uid] = self._take_on(pod)
        probing = now >= self._probe_at
        if probing:
            self._probe_at = now + _PROBE_SECONDS
        for uid, running in list(self._running.items()):
            wanted = pods.get(uid)
            if wanted is None or "deletionTimestamp" in wanted["metadata"]:
                self._wind_down(uid, running, wanted, now)
            else:
                self._keep_up(running, now, probing=probing)
        for uid, pod in pods.items():
            if uid not in self._running and "deletionTimestamp" in pod["metadata"]:
                self._remove(uid, pod)
        if now >= self._renew_at:
            self._renew_at = now + _LEASE_SECONDS
            for name in self._nodes:
                self._renew(name)

    # Pods -------------------------------------------------------------------------------------------------------

    def _take_on(self, pod: dict[str, Any]) -> RunningPod:
        meta = pod["metadata"]
        folder = self._processes.directory / meta["uid"]
        volumes = {volume["name"]: folder / volume["name"] for volume in pod["spec"].get("volumes", [])}
        for volume in pod["spec"].get("volumes", []):
            volumes[volume["name"]].mkdir(parents=True, exist_ok=True)
            self._fill(volumes[volume["name"]], volume, f"/api/v1/namespaces/{meta['namespace']}")
        ports = {port: free_port() for port in declared_ports(pod)}
        containers = []
        for container in pod["spec"]["containers"]:
            for link, target in links_of(container, volumes).items():
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to(target)
            launch = launch_of(pod, container, volumes=volumes, ports=ports)
            program = f"{meta['namespace']}_{meta['name']}_{container['name']}"
            # What an earlier pod of the same name said is not this one's log.
            self._processes.log(program).unlink(missing_ok=True)
            containers.append(
                RunningContainer(
                    name=container["name"],
                    program=program,
                    launch=launch,
                    environment=self._environment(pod, launch),
                    probe=probe_target(container, ports),
                )
            )
        return RunningPod(
            path=f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}",
            restart_policy=pod["spec"].get("restartPolicy", "Always"),
            containers=containers,
            started=_timestamp(),
        )

    def _fill(self, folder: Path, volume: Mapping[str, Any], namespace: str) -> None:
        source = mounted_object(volume)
        try:
            found = self._rest.get(f"{namespace}/{source}") if source else {}
        except ApiError as error:
            if error.status != 404:
                raise OSError(str(error)) from error
            return
        for name, content in files_of(found).items():
            (folder / name).write_bytes(content)

    def _environment(self, pod: Mapping[str, Any], launch: Launch) -> dict[str, str]:
        # Never the kubeconfig of whoever started this: a container without a token has no way in.
        kubeconfig = "/nonexistent"
        if launch.wants_token:
            account = pod["spec"].get("serviceAccountName", "default")
            kubeconfig = str(token_kubeconfig(self._kubeconfig, pod["metadata"]["namespace"], account))
        return {
            **launch.environment,
            "KUBECONFIG": kubeconfig,
            # The code of this checkout, whatever is installed.
            "PYTHONPATH": ":".join(str(REPOSITORY / root) for root in ("operator", "forecasting")),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        }

    def _keep_up(self, running: RunningPod, now: float, *, probing: bool) -> None:
        for container in running.containers:
            if container.starts and container.exit_code is None:
                container.exit_code = self._processes.exit_code(container.program)
                container.ready = container.ready and container.exit_code is None
                container.retry_at = now + _BACKOFF_SECONDS[min(container.starts, len(_BACKOFF_SECONDS) - 1)]
            if should_start(container, running.restart_policy) and now >= container.retry_at:
                self._start(container)
            elif container.exit_code is None and probing:
                container.ready = container.probe is None or _answers(*container.probe)
        self._report(running)

    def _start(self, container: RunningContainer) -> None:
        container.starts += 1
        container.started = _timestamp()
        container.exit_code = None
        container.ready = container.probe is None
        try:
            container.pid = self._processes.start(container.program, container.launch.argv, env=container.environment)
        except ProgramError:
            container.exit_code = 127

    def _wind_down(self, uid: str, running: RunningPod, pod: dict[str, Any] | None, now: float) -> None:
        alive = [
            each
            for each in running.containers
            if each.starts and each.exit_code is None and self._processes.exit_code(each.program) is None
        ]
        if not alive:
            del self._running[uid]
            if pod is not None:
                self._remove(uid, pod)
            return
        if running.stop_by is None:
            grace = 0 if pod is None else pod["metadata"].get("deletionGracePeriodSeconds", 30)
            running.stop_by = now + grace
            number = signal.SIGTERM if grace else signal.SIGKILL
        elif now >= running.stop_by:
            number = signal.SIGKILL
        else:
            return
        for container in alive:
            self._processes.signal(container.program, number)

    def _remove(self, uid: str, pod: Mapping[str, Any]) -> None:
        meta = pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        try:
            self._rest.request("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise OSError(str(error)) from error
        with self._lock:
            self._seen.pop(uid, None)

    def _report(self, running: RunningPod) -> None:
        status = status_of(running)
        if status == running.reported:
            return
        try:
            self._rest.request("PATCH", f"{running.path}/status", {"status": status}, _STRATEGIC)
        except ApiError as error:
            if error.status not in (404, 409, 422):
                raise OSError(str(error)) from error
        running.reported = status

    # Nodes ------------------------------------------------------------------------------------------------------

    def _follow(self, node: str) -> None:
        def on_set(pod: dict[str, Any]) -> None:
            with self._lock:
                self._seen[pod["metadata"]["uid"]] = pod

        def on_gone(pod: dict[str, Any]) -> None:
            with self._lock:
                self._seen.pop(pod["metadata"]["uid"], None)

        def on_list(pods: list[dict[str, Any]]) -> None:
            uids = {pod["metadata"]["uid"] for pod in pods}
            with self._lock:
                for uid, pod in list(self._seen.items()):
                    if pod["spec"]["nodeName"] == node and uid not in uids:
                        del self._seen[uid]

        path = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}"
        arguments = (lambda: Rest.from_kubeconfig(self._kubeconfig), path, on_set, on_gone, on_list, threading.Event())
        threading.Thread(target=follow, args=arguments, daemon=True).start()

    def _register(self, name: str) -> None:
        resources = {"cpu": "16", "memory": "32Gi", "pods": "50"}
        self._rest.request(
            "POST",
            "/api/v1/nodes",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
                },
                "status": {
                    "capacity": resources,
                    "allocatable": resources,
                    "conditions": [condition("Ready", on=True, reason="Runs")],
                    # No host name: the API server would ask for it before it tries the address.
                    "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
                },
            },
        )

    def _renew(self, name: str) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": stamp}
        try:
            self._rest.request("PATCH", f"{leases}/{name}", {"spec": spec}, _MERGE)
        except ApiError as error:
            if error.status != 404:
                raise OSError(str(error)) from error
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
            self._rest.request("POST", leases, lease)
        # A machine that slept finds its nodes given up, and a lease alone does not bring them back.
        status = {"conditions": [condition("Ready", on=True, reason="Runs")]}
        try:
            self._rest.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, _STRATEGIC)
        except ApiError as error:
            raise OSError(str(error)) from error


_STRATEGIC = "application/strategic-merge-patch+json"
_MERGE = "application/merge-patch+json"


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def start_kubelet(plane: "ControlPlane", nodes: tuple[str, ...] = ("host-1", "host-2")) -> None:
    """Add nodes to a control plane whose pods run as processes of this machine, and wait until they are Ready."""
    command: list[str | Path] = [sys.executable, "-m", "embellie_testbed.kubelet", "--kubeconfig", plane.kubeconfig]
    command += ["--certificate", plane.server_certificate, "--key", plane.server_key, *nodes]
    plane.processes.start("kubelet", command, env={"PYTHONPATH": str(PACKAGE.parent)})
    rest = plane.rest()

    def ready() -> bool:
        found = {node["metadata"]["name"] for node in rest.objects("/api/v1/nodes") if is_ready(node)}
        return found >= set(nodes)

    try:
        plane.processes.wait_for("kubelet", ready, seconds=30.0, what="the nodes of the kubelet are Ready")
    finally:
        rest.close()


def main(arguments: list[str] | None = None) -> int:
    """Be the kubelet of some nodes until killed."""
    parser = argparse.ArgumentParser(prog="python -m embellie_testbed.kubelet", description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("nodes", nargs="+")
    options = parser.parse_args(arguments)
    Kubelet(options.kubeconfig, options.nodes, certificate=options.certificate, key=options.key).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
