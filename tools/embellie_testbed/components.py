# SPDX-License-Identifier: Apache-2.0
"""The command line of each program of the control plane; pure, so that the flags can be read in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embellie_testbed.credentials import Credentials

SERVICE_CIDR = "172.30.0.0/16"
POD_CIDR = "10.0.0.0/8"
_CLIENT_QPS = 1000
_CLIENT_BURST = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the programs, ports and folders of one control plane are."""

    binaries: Path
    directory: Path
    etcd_port: int
    etcd_peer_port: int
    api_port: int
    audit: Path | None = None
    """The API server's audit policy; None: it writes no audit log."""

    @property
    def audit_log(self) -> Path:
        """Where the API server writes its audit log."""
        return self.directory / "logs" / "audit.log"

    @property
    def server(self) -> str:
        """Address of the API server."""
        return f"https://127.0.0.1:{self.api_port}"

    def kubeconfig(self, name: str) -> Path:
        """Return the file of a component's kubeconfig."""
        return self.directory / f"{name}.kubeconfig"


def etcd(layout: Layout) -> list[str]:
    """Return the command of etcd: one member, no fsync, since nothing here has to survive a power cut."""
    client = f"http://127.0.0.1:{layout.etcd_port}"
    peer = f"http://127.0.0.1:{layout.etcd_peer_port}"
    return [
        str(layout.binaries / "etcd"),
        f"--data-dir={layout.directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        f"--quota-backend-bytes={4 * 2**30}",
        "--log-level=warn",
    ]


def kube_apiserver(layout: Layout, credentials: Credentials) -> list[str]:
    """Return the command of the API server: loopback, RBAC, static tokens, room for many requests at once."""
    return [
        str(layout.binaries / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{layout.etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={layout.api_port}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        # A pod that asks for GPUs tolerates the taint of GPU nodes, as on most clusters that have both.
        "--enable-admission-plugins=ExtendedResourceToleration",
        f"--token-auth-file={credentials.token_file}",
        f"--tls-cert-file={credentials.server_certificate}",
        f"--tls-private-key-file={credentials.server_key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={credentials.service_account_public_key}",
        f"--service-account-signing-key-file={credentials.service_account_key}",
        "--max-requests-inflight=1200",
        "--max-mutating-requests-inflight=800",
        "--allow-privileged=true",
        "--profiling=false",
        "--shutdown-delay-duration=0s",
        "--shutdown-watch-termination-grace-period=2s",
        "--v=0",
        *_audit_flags(layout),
    ]


def _audit_flags(layout: Layout) -> list[str]:
    """Return what makes the API server write each request down before it answers, in one file that never rotates."""
    if layout.audit is None:
        return []
    return [
        f"--audit-policy-file={layout.audit}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=100000",
    ]


def kube_controller_manager(layout: Layout, credentials: Credentials) -> list[str]:
    """Return the command of the controller manager, each controller with a ServiceAccount of its own."""
    return [
        str(layout.binaries / "kube-controller-manager"),
        f"--kubeconfig={layout.kubeconfig('kube-controller-manager')}",
        f"--root-ca-file={credentials.certificate_authority}",
        f"--service-account-private-key-file={credentials.service_account_key}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--secure-port=0",
        f"--kube-api-qps={_CLIENT_QPS}",
        f"--kube-api-burst={_CLIENT_BURST}",
        "--concurrent-job-syncs=20",
        "--profiling=false",
        "--v=0",
    ]


def kube_scheduler(layout: Layout) -> list[str]:
    """Return the command of the scheduler; its settings are `scheduler_configuration`."""
    return [
        str(layout.binaries / "kube-scheduler"),
        f"--config={layout.directory / 'scheduler.yaml'}",
        "--secure-port=0",
        "--v=0",
    ]


def scheduler_configuration(layout: Layout) -> dict[str, Any]:
    """Return the scheduler's settings: GPUs are packed, as GPU clusters do, so that whole nodes stay free for gangs."""
    fit = {
        "scoringStrategy": {
            "type": "MostAllocated",
            "resources": [{"name": "nvidia.com/gpu", "weight": 10}, {"name": "cpu", "weight": 1}],
        }
    }
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {
            "kubeconfig": str(layout.kubeconfig("kube-scheduler")),
            "qps": _CLIENT_QPS,
            "burst": _CLIENT_BURST,
        },
        "leaderElection": {"leaderElect": False},
        "profiles": [
            {
                "schedulerName": "default-scheduler",
                "pluginConfig": [{"name": "NodeResourcesFit", "args": fit}],
            }
        ],
    }


def kwok(layout: Layout) -> list[str]:
    """Return the command of kwok; its settings and stages are in one file."""
    return [
        str(layout.binaries / "kwok"),
        f"--kubeconfig={layout.kubeconfig('kwok')}",
        f"--config={layout.directory / 'kwok.yaml'}",
        "--v=WARN",
    ]


def kwok_configuration() -> dict[str, Any]:
    """Return kwok's settings: it plays the kubelet of nodes that carry its annotation, and of no other."""
    return {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "options": {
            "manageNodesWithAnnotationSelector": "kwok.x-k8s.io/node=fake",
            "nodeLeaseDurationSeconds": 40,
            "nodeLeaseParallelism": 16,
            "nodePlayStageParallelism": 16,
            "podPlayStageParallelism": 32,
            "podsOnNodeSyncParallelism": 16,
            "cidr": POD_CIDR,
            "nodeIP": "10.255.255.254",
            "nodePort": 0,
        },
    }
