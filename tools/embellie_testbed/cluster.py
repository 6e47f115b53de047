# SPDX-License-Identifier: Apache-2.0
"""A cluster that stays: control plane, simulated GPU nodes, exporter and Prometheus, until it is told to go.

python -m embellie_testbed.cluster up        start it and print how to use it (`make cluster`)
python -m embellie_testbed.cluster status    print that again
python -m embellie_testbed.cluster down      stop it; nothing is left (`make cluster-down`)
python -m embellie_testbed.cluster token NAMESPACE SERVICEACCOUNT    print a kubeconfig of that account
"""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from embellie_testbed import build
from embellie_testbed.controlplane import ControlPlane, token_kubeconfig
from embellie_testbed.exporter import start_exporter
from embellie_testbed.kubelet import start_kubelet
from embellie_testbed.nodes import gpu_nodes
from embellie_testbed.paths import cache_folder
from embellie_testbed.processes import until
from embellie_testbed.prometheus import start_prometheus

_UP_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of the running cluster."""

    pid: int
    started: float
    """When that process was created: a process id alone may have been given to another since [POSIX seconds]."""
    nodes: int
    kubeconfig: str
    binaries: str
    prometheus_url: str
    exporter_control: str


def state_file() -> Path:
    """Return where the running cluster is written down."""
    return cache_folder() / "cluster.json"


def environment_file() -> Path:
    """Return the file that a shell reads to use the running cluster."""
    return cache_folder() / "cluster.env"


def environment(state: State) -> str:
    """Return the shell lines that point kubectl, helm and `kubectl embellie` at a running cluster."""
    folders = f"{state.binaries}:{Path(sys.executable).parent}"
    return "".join(
        f"export {line}\n"
        for line in (
            f"KUBECONFIG={shlex.quote(state.kubeconfig)}",
            f'PATH={shlex.quote(folders)}:"$PATH"',
            f"PROMETHEUS_URL={shlex.quote(state.prometheus_url)}",
        )
    )


def running() -> State | None:
    """Return the running cluster, or None."""
    try:
        state = State(**json.loads(state_file().read_text(encoding="utf-8")))
        alive = psutil.Process(state.pid).create_time() == state.started
    except (FileNotFoundError, psutil.NoSuchProcess, TypeError, json.JSONDecodeError):
        return None
    return state if alive else None


def describe(state: State) -> str:
    """Say how to use a running cluster."""
    return "\n".join(
        (
            f"The cluster is running: {state.nodes} simulated nodes of 8 GPUs in the zones west and east,",
            "and two nodes whose pods run as processes of this machine (an installed chart runs there).",
            "",
            "Use it, in any shell (this sets KUBECONFIG, PATH and PROMETHEUS_URL):",
            "",
            f"  source {shlex.quote(str(environment_file()))}",
            "",
            f"Its kubeconfig: {state.kubeconfig}",
            f"Prometheus:     {state.prometheus_url}",
            f"To make its sensors misbehave, edit: {state.exporter_control}",
            "To stop it: make cluster-down",
        )
    )


def up(*, nodes: int, ambient: str) -> int:
    """Start the cluster in the background, unless it runs, and print how to use it."""
    found = running()
    if found is not None:
        print(describe(found))
        return 0
    build.binaries()
    log = cache_folder() / "cluster.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "embellie_testbed.cluster", "serve", "--nodes", str(nodes), "--ambient", ambient],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    print(f"starting the control plane, {nodes} nodes, exporter and Prometheus ...", flush=True)
    until(
        lambda: running() is not None or process.poll() is not None, seconds=_UP_SECONDS, what=f"it starts, see {log}"
    )
    state = running()
    if state is None:
        print(f"the cluster did not start:\n{log.read_text(encoding='utf-8')}", file=sys.stderr)
        return 1
    print(describe(state))
    return 0


def serve(*, nodes: int, ambient: str) -> int:
    """Be the process that owns the cluster, until SIGTERM."""
    asked_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.set())
    with ControlPlane.start(scheduler=True, kwok=True) as plane:
        plane.add_nodes(*gpu_nodes(nodes, only_gpu_pods=True))
        start_kubelet(plane)
        exporter = start_exporter(plane, ambient=_number_or_path(ambient))
        prometheus = start_prometheus(plane, [exporter.target])
        me = psutil.Process()
        state = State(
            pid=me.pid,
            started=me.create_time(),
            nodes=nodes,
            kubeconfig=str(plane.kubeconfig),
            binaries=str(plane.binaries),
            prometheus_url=prometheus.url,
            exporter_control=str(exporter.control),
        )
        environment_file().write_text(environment(state), encoding="utf-8")
        draft = state_file().with_suffix(".draft")
        draft.write_text(json.dumps(asdict(state)), encoding="utf-8")
        draft.rename(state_file())
        try:
            asked_to_stop.wait()
        finally:
            state_file().unlink(missing_ok=True)
            environment_file().unlink(missing_ok=True)
    return 0


def down() -> int:
    """Stop the cluster and wait until it is gone."""
    state = running()
    if state is None:
        state_file().unlink(missing_ok=True)
        environment_file().unlink(missing_ok=True)
        print("no cluster is running")
        return 0
    process = psutil.Process(state.pid)
    process.terminate()
    process.wait(timeout=60)
    print("the cluster is stopped")
    return 0


def status() -> int:
    """Print how to use the running cluster."""
    state = running()
    if state is None:
        print("no cluster is running; start one with: make cluster")
        return 1
    print(describe(state))
    return 0


def token(*, namespace: str, service_account: str) -> int:
    """Print the path of a kubeconfig that carries a ServiceAccount's token."""
    state = running()
    if state is None:
        return status()
    print(token_kubeconfig(Path(state.kubeconfig), namespace, service_account))
    return 0


def _number_or_path(text: str) -> float | Path:
    try:
        return float(text)
    except ValueError:
        return Path(text).resolve()


def main(arguments: list[str] | None = None) -> int:
    """Obey one command."""
    parser = argparse.ArgumentParser(prog="python -m embellie_testbed.cluster", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("up", "start it"), ("serve", "own it in the foreground; `up` does this in the background")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--nodes", type=int, default=16, help="simulated nodes of 8 GPUs (default 16)")
        command.add_argument("--ambient", default="15", help="outside temperature [degC], or a CSV file of it")
    commands.add_parser("down", help="stop it")
    commands.add_parser("status", help="print how to use it")
    command = commands.add_parser("token", help="print a kubeconfig with a ServiceAccount's token")
    command.add_argument("namespace")
    command.add_argument("service_account")
    options = vars(parser.parse_args(arguments))
    actions: dict[str, Callable[..., int]] = {"up": up, "serve": serve, "down": down, "status": status, "token": token}
    try:
        return actions[options.pop("command")](**options)
    except build.BuildError as error:
        print(f"embellie-testbed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
