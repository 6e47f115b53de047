# SPDX-License-Identifier: Apache-2.0
"""`embellie card`: the footprint of one workload, as a line for a paper."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from embellie.accounting.footprint import Footprint
from embellie.cli.ledger import ledger_option
from embellie.cli.session import Where, cluster_options, parse_target
from embellie.domain.reasons import SignalKind
from embellie.domain.sums import add_tables
from embellie.ledger import Entry, Kind, LedgerError, LedgerReader


@click.command()
@click.argument("target")
@click.option("--uid", help="Which of several workloads of that name.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="The format.")
@ledger_option
@cluster_options
def card(where: Where, target: str, uid: str | None, output: str, ledger: Path) -> None:
    """Write the footprint of TARGET (job/NAME or pod/NAME) as a line for a paper."""
    kind, name = parse_target(target)
    namespace = where.current_namespace()
    try:
        with LedgerReader(ledger) as reader:
            found = footprints(reader.entries(kinds=[Kind.ACCOUNT]), f"{namespace}/{kind.lower()}/{name}")
    except LedgerError as error:
        raise click.ClickException(str(error)) from error
    if uid is not None:
        found = {key: one for key, one in found.items() if key == uid}
    if not found:
        what = f"the ledger has no account of {kind.lower()} {name!r} in namespace {namespace!r}"
        why = "it may not have run for a whole interval yet, or its accounts were compacted into daily sums"
        raise click.ClickException(f"{what}; {why}")
    if len(found) > 1:
        raise click.ClickException(f"{len(found)} workloads had that name; choose one with --uid: {', '.join(found)}")
    footprint = next(iter(found.values()))
    if output == "json":
        low, high = footprint.interval_g
        document = {
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
            "signalKind": footprint.signal_kind,
            "gpuHours": footprint.gpu_hours,
            "method": footprint.method,
        }
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(footprint.line())


def footprints(entries: Iterable[Entry], wanted: str) -> dict[str, Footprint]:
    """Add up the accounts of every workload of a name, by uid."""
    sums: dict[str, dict[str, Any]] = {}
    for entry in entries:
        body = entry.content
        uids = {uid for uid, name in body.get("names", {}).items() if name == wanted} | sums.keys()
        for uid in uids & body["adds"].get("workloads", {}).keys():
            sums[uid] = add_tables(sums.get(uid, {}), body["adds"]["workloads"][uid])
    return {uid: _footprint(wanted, row) for uid, row in sums.items()}


def _footprint(name: str, row: Mapping[str, Any]) -> Footprint:
    kinds = [str(kind) for kind in (SignalKind.AVERAGE_LIFECYCLE, SignalKind.AVERAGE_DIRECT)]
    kind = next((kind for kind in kinds if kind in row.get("grams", {})), "")
    kwh = row["dynamicKwh"] + row["idleKwh"] + row["overheadKwh"]
    if not kind:
        raise click.ClickException(
            f"no carbon intensity is known for the hours of {name}; its energy was {kwh:.1f} kWh"
        )
    return Footprint(
        name=name,
        dynamic_kwh=row["dynamicKwh"],
        idle_kwh=row["idleKwh"],
        overhead_kwh=row["overheadKwh"],
        estimated_kwh=row["estimatedKwh"],
        g_per_kwh=row["grams"][kind] / kwh if kwh else 0.0,
        embodied_g=row["embodiedG"],
        gpu_hours=row["gpuSeconds"] / 3600.0,
        signal_kind=kind,
    )
