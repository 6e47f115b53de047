# SPDX-License-Identifier: Apache-2.0
"""`embellie thermal`: fit heat models to measurements."""

from pathlib import Path

import click

from embellie.cli.session import Where, cluster_options
from embellie.cli.thermal_drill import drill
from embellie.cli.values import FiniteRange, NewFile, readable, write_json

FILES = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def thermal() -> None:
    """Learn how nodes and rooms heat, and check it."""


class _Fit(click.Command):
    """Takes every file that follows `--test` as one to predict, once a file to fit came."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write `--test` before each of them."""
        spread: list[str] = []
        option, fitted = "", False
        rest = iter(args)
        for word in rest:
            if word.startswith("-"):
                option = word.partition("=")[0] if word.startswith("--") else word[:2]
                spread.append(word)
                if word == option and option not in ctx.help_option_names:
                    spread += [value for value in [next(rest, None)] if value is not None]
            elif option == "--test" and fitted:
                spread += [option, word]
            else:
                spread.append(word)
                fitted = True
        return super().parse_args(ctx, spread)


@thermal.command(cls=_Fit)
@click.argument("files", nargs=-1, type=FILES)
@click.option(
    "--test", "tests", multiple=True, type=FILES, metavar="FILE...", help="Files to predict instead of learning from."
)
@click.option("--test-runs", metavar="GLOB", help="Hold out the runs whose name or label matches, such as '*/fp64/*'.")
@click.option("--zone", metavar="NAME", help="Fit a ThermalZone from Prometheus instead of files.")
@click.option("--prometheus-url", envvar="EMBELLIE_PROMETHEUS_URL", help="Where to ask with --zone.")
@click.option(
    "--hours", type=click.IntRange(1, 24 * 30), default=72, show_default=True, help="How far back with --zone."
)
@click.option("--margin-floor", type=FiniteRange(0, 20), default=0.0, help="Margins never fall below this [K].")
@click.option("--plot", type=NewFile(), help="Draw into this PNG file.")
@click.option("--json", "json_file", type=NewFile(), help="Write the figures here.")
@cluster_options
def fit(
    where: Where,
    files: tuple[Path, ...],
    tests: tuple[Path, ...],
    test_runs: str | None,
    zone: str | None,
    prometheus_url: str | None,
    hours: int,
    margin_floor: float,
    plot: Path | None,
    json_file: Path | None,
) -> None:
    """Fit heat models to FILES and say how far they can be trusted.

    A file holds samples of a machine's GPUs, samples of GPUs and node, or hourly averages of a server; which one is
    told by its columns (docs/thermal-setup.md). Without --test or --test-runs each run is predicted by the others.
    """
    from embellie.cli.thermal_data import DataError
    from embellie.cli.thermal_report import fit_files, report

    if bool(files) == bool(zone):
        raise click.UsageError("give either FILES or --zone NAME")
    with readable(DataError):
        if zone:
            from embellie.cli.thermal_zone import fit_zone

            outcome = fit_zone(where, zone, prometheus_url, hours)
        else:
            outcome = fit_files(files, tests, test_runs, margin_floor)
        click.echo(report(outcome, plot))
    write_json(outcome.as_json(), json_file)


thermal.add_command(drill)
