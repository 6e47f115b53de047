# SPDX-License-Identifier: Apache-2.0
"""A real control plane: etcd, API server and controller manager, and on request scheduler and kwok.

    with ControlPlane.start(scheduler=True, kwok=True) as cp:
        print(cp.kubectl("get", "namespaces"))

Everything listens on free loopback ports and writes to one temporary directory; several run side by side. Nothing is
left behind when the block ends, on Ctrl-C, or when this process is killed. The logs survive a failure.
"""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import yaml

from embellie_testbed import build, components
from embellie_testbed.components import Layout
from embellie_testbed.credentials import make_credentials, write_kubeconfig
from embellie_testbed.nodes import NodePool, add_nodes
from embellie_testbed.paths import STAGES
from embellie_testbed.processes import Processes, ProgramError, free_port, until
from embellie_testbed.rest import ApiError, Rest

_TOKEN_SECONDS = 7 * 24 * 3600
_START_ATTEMPTS = 3


class CommandError(RuntimeError):
    """A kubectl or helm command failed; carries what it wrote to stderr."""

    def __init__(self, command: list[str], code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"{' '.join(command)} ended with {code}: {stderr.strip() or stdout.strip()}")
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


class ControlPlane:
    """A running control plane; use `ControlPlane.start` and a `with` block, or call `stop`."""

    def __init__(self, *, binaries: Path, audit: Path | None = None) -> None:
        self.processes = Processes()
        """Its programs; more can be started beside them (Prometheus, an exporter, the operator under test)."""
        self.directory = self.processes.directory
        self._binaries = binaries
        self._audit = audit
        self._keep_logs = False
        self._layout = self._new_layout()
        self._credentials = make_credentials(self.directory / "credentials")

    @classmethod
    def start(cls, *, scheduler: bool = False, kwok: bool = False, audit: Path | None = None) -> "ControlPlane":
        """Start a control plane and return it when the API server answers and the controllers work.

        With an audit policy, `audit_log` tells what was asked of the API server.
        """
        plane = cls(binaries=build.binaries(), audit=audit)
        try:
            plane._start_with_free_ports()
            plane._start_others(scheduler=scheduler, kwok=kwok)
        except BaseException:
            plane._keep_logs = True
            plane.stop()
            raise
        return plane

    # What it offers ---------------------------------------------------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of an admin."""
        return self._layout.kubeconfig("admin")

    @property
    def server(self) -> str:
        """Address of the API server; the same after a restart."""
        return self._layout.server

    @property
    def audit_log(self) -> Path:
        """What was asked of the API server, one JSON line each; it stays with the logs."""
        return self._layout.audit_log

    @property
    def binaries(self) -> Path:
        """Folder of kubectl, helm, prometheus, promtool and the rest."""
        return self._binaries

    @property
    def server_certificate(self) -> Path:
        """A certificate for loopback, with which others may serve too."""
        return self._credentials.server_certificate

    @property
    def server_key(self) -> Path:
        """The key of `server_certificate`."""
        return self._credentials.server_key

    def kubectl(self, *arguments: str | Path, input: str | None = None, check: bool = True) -> str:  # noqa: A002
        """Run kubectl as admin and return what it wrote to stdout; raises `CommandError` unless `check` is off."""
        return self._command("kubectl", arguments, input, check=check)

    def helm(self, *arguments: str | Path) -> str:
        """Run helm as admin and return what it wrote to stdout; raises `CommandError`."""
        return self._command("helm", arguments)

    def environment(self) -> dict[str, str]:
        """Return the environment in which kubectl and helm, also started by others, meet this control plane only."""
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.directory / "kubectl-cache"),
            "HELM_CACHE_HOME": str(self.directory / "helm" / "cache"),
            "HELM_CONFIG_HOME": str(self.directory / "helm" / "config"),
            "HELM_DATA_HOME": str(self.directory / "helm" / "data"),
            "PATH": f"{self._binaries}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def rest(self) -> Rest:
        """Open a REST connection as admin; the caller closes it."""
        return Rest.from_kubeconfig(self.kubeconfig)

    def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """Write a kubeconfig with a week-long token of a ServiceAccount, waiting for the account to appear."""
        return token_kubeconfig(self.kubeconfig, namespace, service_account)

    def add_nodes(self, *pools: NodePool) -> None:
        """Create simulated GPU nodes and wait until they are Ready; needs kwok."""
        add_nodes(self.rest, pools)

    def apply(self, *paths: Path) -> None:
        """Apply manifests (files or folders) and wait until every CRD among them is served."""
        for path in paths:
            self.kubectl("apply", "--server-side", "--force-conflicts", "-R", "-f", path)
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s", check=False)

    def wait_for_default_service_account(self, namespace: str) -> None:
        """Wait until pods can be created in a new namespace."""
        rest = self.rest()
        try:
            wait_for_object(rest, f"/api/v1/namespaces/{namespace}/serviceaccounts/default", seconds=30.0)
        finally:
            rest.close()

    # Disturbing it ----------------------------------------------------------------------------------------------

    def stop_apiserver(self, *, number: int = signal.SIGTERM) -> None:
        """Stop the API server and wait until it is gone; it drains its requests for a while and keeps its port."""
        self.processes.stop("kube-apiserver", number=number, seconds=30.0)

    def start_apiserver(self) -> None:
        """Start the API server on its port, on the data that is there, and wait until it is ready."""
        self.processes.start("kube-apiserver", components.kube_apiserver(self._layout, self._credentials))
        self.processes.wait_for("kube-apiserver", self._is_ready, seconds=60.0, what="the API server is ready")

    def restart_apiserver(self, *, down_seconds: float = 0.0, number: int = signal.SIGTERM) -> None:
        """Stop and start the API server; data, port and every kubeconfig stay valid."""
        self.stop_apiserver(number=number)
        time.sleep(down_seconds)
        self.start_apiserver()

    # Its end ----------------------------------------------------------------------------------------------------

    def keep_logs(self) -> None:
        """Copy the logs to the cache folder when this control plane stops, and print where they are."""
        self._keep_logs = True

    def stop(self) -> None:
        """Kill all programs and remove the temporary directory; does nothing the second time."""
        if self._keep_logs and self.directory.exists():
            print(f"logs of the control plane: {self.processes.keep_logs()}", file=sys.stderr, flush=True)
            self._keep_logs = False
        self.processes.close()

    def __enter__(self) -> "ControlPlane":
        """Return itself: it runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop; keep the logs if the block failed for another reason than Ctrl-C."""
        self._keep_logs = self._keep_logs or (kind is not None and issubclass(kind, Exception))
        self.stop()

    # How it starts ----------------------------------------------------------------------------------------------

    def _new_layout(self) -> Layout:
        return Layout(
            binaries=self._binaries,
            directory=self.directory,
            etcd_port=free_port(),
            etcd_peer_port=free_port(),
            api_port=free_port(),
            audit=self._audit,
        )

    def _start_with_free_ports(self) -> None:
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._write_kubeconfigs()
            # The API server waits for etcd by itself, so both start at once.
            self.processes.start("etcd", components.etcd(self._layout))
            try:
                self.start_apiserver()
            except ProgramError:
                said = self.processes.log_tail("etcd") + self.processes.log_tail("kube-apiserver")
                if attempt == _START_ATTEMPTS or "address already in use" not in said:
                    raise
                # Somebody took a port between our look and our bind: all ports anew, and a fresh etcd.
                self.processes.stop("kube-apiserver", number=signal.SIGKILL)
                self.processes.stop("etcd", number=signal.SIGKILL)
                shutil.rmtree(self.directory / "etcd", ignore_errors=True)
                self._layout = self._new_layout()
            else:
                return

    def _start_others(self, *, scheduler: bool, kwok: bool) -> None:
        self.processes.start(
            "kube-controller-manager", components.kube_controller_manager(self._layout, self._credentials)
        )
        if scheduler:
            settings = components.scheduler_configuration(self._layout)
            (self.directory / "scheduler.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
            self.processes.start("kube-scheduler", components.kube_scheduler(self._layout))
        if kwok:
            documents = [yaml.safe_dump(components.kwok_configuration())]
            documents += [stage.read_text(encoding="utf-8") for stage in sorted(STAGES.glob("*.yaml"))]
            (self.directory / "kwok.yaml").write_text("---\n".join(documents), encoding="utf-8")
            self.processes.start("kwok", components.kwok(self._layout))
        self.wait_for_default_service_account("default")
        for name in ["kube-controller-manager", *["kube-scheduler"] * scheduler, *["kwok"] * kwok]:
            if self.processes.exit_code(name) is not None:
                raise ProgramError(f"{name} ended while starting:\n{self.processes.log_tail(name)}")

    def _write_kubeconfigs(self) -> None:
        for user, token in self._credentials.tokens.items():
            write_kubeconfig(
                self._layout.kubeconfig(user.removeprefix("system:")),
                server=self.server,
                certificate_authority_pem=self._credentials.certificate_authority.read_text(encoding="ascii"),
                user=user,
                token=token,
            )

    def _is_ready(self) -> bool:
        rest = self.rest()
        try:
            return rest.text("/readyz") == "ok"
        except (OSError, ssl.SSLError, ApiError):
            return False
        finally:
            rest.close()

    def _command(
        self, program: str, arguments: tuple[str | Path, ...], text: str | None = None, *, check: bool = True
    ) -> str:
        command = [str(self._binaries / program), *map(str, arguments)]
        # Without input stdin is empty, never the terminal: a command that asks must fail, not wait.
        done = subprocess.run(
            command, input=text or "", env=self.environment(), capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise CommandError([program, *command[1:]], done.returncode, done.stdout, done.stderr)
        return done.stdout


def token_kubeconfig(admin: Path, namespace: str, service_account: str) -> Path:
    """Ask as admin for a ServiceAccount's token and write a kubeconfig with it beside the admin's own."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": _TOKEN_SECONDS},
    }
    rest = Rest.from_kubeconfig(admin)
    try:
        wait_for_object(rest, path, seconds=20.0)
        answer = rest.request("POST", f"{path}/token", body)
    finally:
        rest.close()
    return write_kubeconfig(
        admin.with_name(f"{namespace}.{service_account}.kubeconfig"),
        server=rest.server,
        certificate_authority_pem=rest.certificate_authority_pem,
        user=service_account,
        token=answer["status"]["token"],
        namespace=namespace,
    )


def wait_for_object(rest: Rest, path: str, *, seconds: float) -> None:
    """Wait until an object exists."""

    def exists() -> bool:
        try:
            rest.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    until(exists, seconds=seconds, what=f"{path} exists")
