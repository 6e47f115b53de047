# SPDX-License-Identifier: Apache-2.0
"""The command `embellie`; installed as `kubectl-embellie` it is the plugin `kubectl embellie`."""

import errno
import importlib
import io
import os
import sys
from pathlib import Path

import click

from embellie import __version__
from embellie.cli.session import ReadableGroup, Where, cluster_options

VERBS = {
    "why": "embellie.cli.why:why",
    "plan": "embellie.cli.plan:plan",
    "go": "embellie.cli.go:go",
    "release": "embellie.cli.release:release",
    "operator": "embellie.cli.operator:operator_group",
    "thermal": "embellie.cli.thermal:thermal",
    "report": "embellie.cli.report:report",
    "card": "embellie.cli.card:card",
    "ledger": "embellie.cli.ledger:ledger_group",
    "forecast": "embellie.cli.forecast:forecast",
    "backtest": "embellie.cli.backtest:backtest",
    "model": "embellie.cli.model:model_group",
    "replay": "embellie.cli.replay:replay",
}
"""Where each verb lies. It is loaded when it is asked for: `why` needs no database, and half the time without one."""

_OUTPUT_ENDS = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class Verbs(ReadableGroup):
    """Finds its verbs in `VERBS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all verbs."""
        return sorted({*super().list_commands(ctx), *VERBS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one verb."""
        if cmd_name not in VERBS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = VERBS[cmd_name].partition(":")
        verb: click.Command = getattr(importlib.import_module(module), attribute)
        return verb


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="embellie", message="%(prog)s %(version)s")
@cluster_options
def cli(where: Where) -> None:
    """Wait for the break in the weather, never past the deadline."""


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"embellie {__version__}")


def main() -> None:
    """Run the command under the name that it was called by."""
    as_plugin = Path(sys.argv[0]).name.startswith("kubectl-")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale without our letters is no reason to say nothing
    try:
        try:
            cli(prog_name="kubectl embellie" if as_plugin else "embellie")
        finally:
            if sys.stdout:  # None where the caller closed it
                sys.stdout.flush()
    except OSError as error:
        # A file that cannot be written is named where it is written: this is the output, full or closed at its end.
        if error.errno not in _OUTPUT_ENDS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries once more as it goes
        if error.errno != errno.EPIPE:
            click.echo(f"Error: the output could not be written: {error.strerror}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
