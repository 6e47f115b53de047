# SPDX-License-Identifier: Apache-2.0
"""`embellie card`: the footprint of one workload, as a line for a paper."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embellie.cli.ledger import ledger_option
from embellie.cli.session import Where, cluster_options, parse_target
from embellie.cli.values import readable
from embellie.ledger import Kind, LedgerError, open_records, unchanged

if TYPE_CHECKING:
    from embellie.accounting.footprint import Footprint
    from embellie.cli.reporting.workload import WorkloadAccount


@click.command(short_help="Write a workload's footprint as a line for a paper.")
@click.argument("target")
@click.option("--uid", help="Which of several workloads of that name.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="The format.")
@ledger_option
@cluster_options
def card(where: Where, target: str, uid: str | None, output: str, ledger: Path) -> None:
    """Write the footprint of TARGET (job/NAME or pod/NAME) as a line for a paper.

    It is refused where accounts cover less than 95 % of its hours, or intensities less than 95 % of its energy.
    """
    from embellie.cli.reporting.period import ReportError
    from embellie.cli.reporting.workload import accounts_of

    kind, name = parse_target(target)
    namespace = where.current_namespace()
    with readable(LedgerError), open_records(ledger) as reader:
        entries = (e for e in unchanged(reader.entries()) if e.kind in (Kind.ACCOUNT, Kind.RUN))
        found, accounted = accounts_of(entries, f"{namespace}/{kind.lower()}/{name}")
    if uid is not None:
        found = {key: one for key, one in found.items() if key == uid}
    if not found:
        what = f"the ledger has no account of {kind.lower()} {name!r} in namespace {namespace!r}"
        why = "it may not have run for a whole interval yet, or its accounts were compacted into daily sums"
        raise click.ClickException(f"{what}; {why}")
    if len(found) > 1:
        raise click.ClickException(f"{len(found)} workloads had that name; choose one with --uid: {', '.join(found)}")
    account = next(iter(found.values()))
    with readable(ReportError):
        footprint = account.footprint(accounted)
    if output == "json":
        click.echo(json.dumps(_document(footprint, account), indent=2))
        return
    click.echo(footprint.line())
    if account.running:
        click.echo(f"It still runs: this is what it came to until {account.until:%Y-%m-%d %H:%M} UTC.")


def _document(footprint: "Footprint", account: "WorkloadAccount") -> dict[str, Any]:
    """Return what `-o json` writes."""
    from embellie.accounting.footprint import METHOD

    low, high = footprint.interval_g
    grid = footprint.g_per_kwh + footprint.spared_g_per_kwh
    return {
        "name": footprint.name,
        "energyKwh": {
            "dynamic": footprint.dynamic_kwh,
            "idle": footprint.idle_kwh,
            "overhead": footprint.overhead_kwh,
            "estimated": footprint.estimated_kwh,
        },
        "emissionsG": {
            "dynamic": footprint.dynamic_g,
            "idle": footprint.idle_g,
            "embodied": footprint.embodied_g,
            "total": footprint.total_g,
            "low": low,
            "high": high,
        },
        "intensityGPerKwh": footprint.g_per_kwh,
        **({"withoutOnSiteGPerKwh": grid} if footprint.spared_g_per_kwh else {}),
        "signalKind": footprint.signal_kind,
        "hours": footprint.hours,
        "gpuHours": footprint.gpu_hours,
        "method": {"accounts": footprint.accounts_method, "card": METHOD},
        "running": account.running,
        "accountedUntil": account.until.isoformat(),
    }
