# SPDX-License-Identifier: Apache-2.0
"""`embellie report`: energy, emissions and savings of a period, out of the ledger."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from embellie.cli.ledger import ledger_option
from embellie.cli.values import NewFile, readable, write
from embellie.ledger import LedgerError, open_records, unchanged


@click.command()
@click.option("--from", "first", required=True, help="First day or instant: 2026-03-01 or 2026-03-01T06:00:00Z.")
@click.option("--to", "last", required=True, help="Day or instant at which the report ends; not part of it itself.")
@click.option(
    "--by",
    type=click.Choice(["cluster", "zone", "namespace", "team"]),
    default="cluster",
    show_default=True,
    help="What a row is. Teams are named by a label of namespaces (--team-label of the operator).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "html"]),
    default="table",
    show_default=True,
    help="How it is written.",
)
@click.option("--tz", default="UTC", show_default=True, help="Time zone of days, such as Europe/Paris.")
@click.option("--rename", multiple=True, metavar="OLD=NEW", help="Join a zone's old name to its new one; repeatable.")
@click.option("--out", type=NewFile(), help="Write to this file instead.")
@click.option("--draws", default=30, show_default=True, type=click.IntRange(19, 500), help="Replays for the intervals.")
@ledger_option
def report(
    first: str,
    last: str,
    by: str,
    form: str,
    tz: str,
    rename: tuple[str, ...],
    out: Path | None,
    draws: int,
    ledger: Path,
) -> None:
    """Report energy, emissions and savings from --from to --to.

    A figure whose inputs cover less than 95 % of the hours is refused, and the report says what is missing.
    """
    from embellie.cli.reporting.books import read_books
    from embellie.cli.reporting.figures import make_report
    from embellie.cli.reporting.page import as_html
    from embellie.cli.reporting.period import ReportError, parse_period
    from embellie.cli.reporting.text import as_csv, as_table

    with readable(LedgerError, ReportError):
        period = parse_period(first, last, tz, datetime.now(UTC))
        with open_records(ledger) as reader:
            books = read_books(unchanged(reader.entries()), period, _renamed(rename))
            head = str(reader.head)
        document = make_report(books, by, draws=draws, head=head)
    if form == "json":
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    else:
        text = {"table": as_table, "csv": as_csv, "html": as_html}[form](document)
    write(text, out)


def _renamed(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise click.BadParameter(f"{pair!r} must be OLD=NEW", param_hint="--rename")
        found[old] = new
    return found
