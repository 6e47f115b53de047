# SPDX-License-Identifier: Apache-2.0
"""`embellie operator run`: starts the operator; its libraries are loaded only here."""

import importlib
import socket
import sys
from pathlib import Path
from typing import Any

import click

from embellie.cli.values import FiniteRange


@click.group(name="operator")
def operator_group() -> None:
    """Commands that run inside the cluster."""


@operator_group.command()
@click.option(
    "--namespace",
    envvar="EMBELLIE_NAMESPACE",
    default="embellie-system",
    show_default=True,
    help="The namespace of the installation.",
)
@click.option("--name", envvar="EMBELLIE_NAME", default="embellie", show_default=True, help="Its name.")
@click.option(
    "--identity",
    envvar="EMBELLIE_IDENTITY",
    default=socket.gethostname,
    help="Who is acting, as told in Leases and Events (default: the host's name).",
)
@click.option(
    "--prometheus-url",
    envvar="EMBELLIE_PROMETHEUS_URL",
    default="",
    help="Where sensors are read; without it no reading counts as fresh.",
)
@click.option(
    "--forecast-dir",
    envvar="EMBELLIE_FORECAST_DIR",
    default="/var/lib/embellie",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The directory shared with the forecaster.",
)
@click.option(
    "--turn-seconds",
    envvar="EMBELLIE_TURN_SECONDS",
    default=15.0,
    show_default=True,
    type=FiniteRange(0.05, 1e6),
    help="The time between two turns, in the operator's clock.",
)
@click.option(
    "--max-limit-hold-seconds",
    envvar="EMBELLIE_MAX_LIMIT_HOLD_SECONDS",
    default=14400.0,
    show_default=True,
    type=FiniteRange(0, 1e6),
    help="How long a limit may hold past the bound.",
)
@click.option(
    "--release-rate",
    envvar="EMBELLIE_RELEASE_RATE",
    default=400.0,
    show_default=True,
    type=FiniteRange(0, 10000, min_open=True),
    help="The most releases per second.",
)
@click.option(
    "--metrics-port",
    envvar="EMBELLIE_METRICS_PORT",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Where /metrics and /healthz are answered; 0: nowhere.",
)
@click.option(
    "--workload-metrics",
    envvar="EMBELLIE_WORKLOAD_METRICS",
    is_flag=True,
    help="Show a series for each held workload.",
)
@click.option(
    "--ledger-path",
    envvar="EMBELLIE_LEDGER_PATH",
    default=None,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The ledger's file; without it nothing is recorded.",
)
@click.option(
    "--ledger-interval-seconds",
    envvar="EMBELLIE_LEDGER_INTERVAL_SECONDS",
    default=900.0,
    show_default=True,
    type=FiniteRange(60, 3600),
    help="Length of an account, in the operator's clock.",
)
@click.option(
    "--ledger-retention-days",
    envvar="EMBELLIE_LEDGER_RETENTION_DAYS",
    default=400.0,
    show_default=True,
    type=FiniteRange(7, 36500),
    help="Older records become daily accounts.",
)
@click.option(
    "--team-label",
    envvar="EMBELLIE_TEAM_LABEL",
    default="",
    help="The label of namespaces that names their team, for reports by team.",
)
@click.option(
    "--log-level",
    envvar="EMBELLIE_LOG_LEVEL",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    help="How much is logged.",
)
@click.option(
    "--clock",
    envvar="EMBELLIE_CLOCK",
    default="system",
    show_default=True,
    help="system, or replay:ORIGIN,WALL_ORIGIN,FACTOR.",
)
@click.option(
    "--kubeconfig",
    envvar="EMBELLIE_KUBECONFIG",
    default=None,
    type=click.Path(dir_okay=False),
    help="Instead of the pod's own token.",
)
def run(**options: Any) -> None:
    """Run the operator until it is told to stop."""
    control = importlib.import_module("embellie.control.main")
    sys.exit(control.run(control.Options(**options)))
