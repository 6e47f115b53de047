# SPDX-License-Identifier: Apache-2.0
"""`embellie operator run`: starts the operator; its libraries are loaded only here."""

import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click

from embellie.cli.values import FiniteRange
from embellie.control.options import Options

_DEFAULTS: dict[str, Any] = {
    field.name: field.default_factory if field.default is MISSING else field.default for field in fields(Options)
}


def _flag(name: str, text: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flag of one field of `Options`, with its default; the environment may set it too."""
    field = name.removeprefix("--").replace("-", "_")
    default = _DEFAULTS[field]
    shown = bool(default) and not callable(default)
    return click.option(
        name, envvar=f"EMBELLIE_{field.upper()}", default=default, show_default=shown, help=text, **settings
    )


@click.group(name="operator")
def operator_group() -> None:
    """Commands that run inside the cluster."""


@operator_group.command()
@_flag("--namespace", "The namespace of the installation.")
@_flag("--name", "Its name.")
@_flag("--identity", "Who is acting, as told in Leases and Events (default: the host's name).")
@_flag("--prometheus-url", "Where sensors are read; without it no reading counts as fresh.")
@_flag(
    "--forecast-dir",
    "The directory shared with the forecaster.",
    type=click.Path(path_type=Path, file_okay=False),
)
@_flag("--turn-seconds", "The time between two turns, in the operator's clock.", type=FiniteRange(0.05, 1e6))
@_flag(
    "--max-limit-hold-seconds",
    "How long a limit may hold past the bound, pause or taint; 0: not at all.",
    type=FiniteRange(0, 1e6),
)
@_flag("--release-rate", "The most releases per second.", type=FiniteRange(0, 10000, min_open=True))
@_flag("--metrics-port", "Where /metrics and /healthz are answered; 0: nowhere.", type=click.IntRange(0, 65535))
@_flag("--workload-metrics", "Show a series for each held workload.", is_flag=True)
@_flag(
    "--ledger-path",
    "The ledger's file; without it nothing is recorded.",
    type=click.Path(path_type=Path, dir_okay=False),
)
@_flag("--ledger-interval-seconds", "Length of an account, in the operator's clock.", type=FiniteRange(60, 3600))
@_flag("--ledger-retention-days", "Older records become daily accounts.", type=FiniteRange(7, 36500))
@_flag("--team-label", "The label of namespaces that names their team, for reports by team.")
@_flag(
    "--log-level",
    "How much is logged.",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
)
@_flag("--clock", "system, or replay:ORIGIN,WALL_ORIGIN,FACTOR.")
@_flag("--kubeconfig", "Instead of the pod's own token.", type=click.Path(dir_okay=False))
def run(**options: Any) -> None:
    """Run the operator until it is told to stop."""
    from embellie.control.main import run as run_operator

    sys.exit(run_operator(Options(**options)))
