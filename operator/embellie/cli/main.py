# SPDX-License-Identifier: Apache-2.0
"""The command `embellie`; installed as `kubectl-embellie` it is the plugin `kubectl embellie`."""

import sys
from pathlib import Path

import click

from embellie import __version__
from embellie.cli.backtest import backtest
from embellie.cli.card import card
from embellie.cli.forecast import forecast
from embellie.cli.go import go
from embellie.cli.ledger import ledger_group
from embellie.cli.model import model_group
from embellie.cli.operator import operator_group
from embellie.cli.plan import plan
from embellie.cli.release import release
from embellie.cli.replay import replay
from embellie.cli.report import report
from embellie.cli.session import ReadableGroup, Where, cluster_options
from embellie.cli.thermal import thermal
from embellie.cli.why import why


@click.group(cls=ReadableGroup, context_settings={"help_option_names": ["-h", "--help"]})
@cluster_options
def cli(where: Where) -> None:
    """Wait for the break in the weather, never past the deadline."""


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"embellie {__version__}")


for command in (
    why,
    plan,
    go,
    release,
    operator_group,
    thermal,
    report,
    card,
    ledger_group,
    forecast,
    backtest,
    model_group,
    replay,
):
    cli.add_command(command)


def main() -> None:
    """Run the command under the name that it was called by."""
    as_plugin = Path(sys.argv[0]).name.startswith("kubectl-")
    cli(prog_name="kubectl embellie" if as_plugin else "embellie")


if __name__ == "__main__":
    main()
