# SPDX-License-Identifier: Apache-2.0
"""`embellie plan`: everything that is held, oldest first; `embellie plan bench` measures the planner."""

import json
from datetime import UTC, datetime

import click

from embellie.cli.plan_bench import bench
from embellie.cli.rows import columns, rows_of, summary
from embellie.cli.session import RESOURCES, Where, cluster_options
from embellie.cli.words import in_columns
from embellie.domain import names
from embellie.domain.clock import parse_clock
from embellie.watchdog.api import Api, ApiError, Object, namespaced

SELECTOR = f"{names.HELD_LABEL}=true"


@click.group(invoke_without_command=True, short_help="Show what is held, why, and until when.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Show all namespaces.")
@click.option("-o", "--output", type=click.Choice(["table", "wide", "json"]), default="table", help="The format.")
@click.option("--tenants", is_flag=True, help="Show how tenants (namespaces) stand, and what that does to their plans.")
@click.option("--utc", is_flag=True, help="Write times in UTC instead of this machine's zone.")
@click.option("--clock", default="system", envvar="EMBELLIE_CLOCK", hidden=True, help="The operator's clock.")
@cluster_options
@click.pass_context
def plan(
    context: click.Context, where: Where, all_namespaces: bool, output: str, tenants: bool, utc: bool, clock: str
) -> None:
    """Show everything that is held, oldest first, with its reason, planned and latest start."""
    if context.invoked_subcommand is not None:
        return
    if tenants and output != "table":
        raise click.UsageError("--tenants is a table of its own: leave -o out")
    api = where.api()
    if tenants:
        _print_tenants(api, parse_clock(clock).now())
        return
    namespace = None if all_namespaces else where.current_namespace()
    held = [
        {"kind": kind, **item}
        for kind, (prefix, plural) in RESOURCES.items()
        for item in api.list(_path(prefix, plural, namespace), labelSelector=SELECTOR)
    ]
    plans = _plans(api, namespace)
    rows = rows_of(held, plans)
    if output == "json":
        click.echo(json.dumps([row.as_json() for row in rows], indent=2))
        return
    now, zone = parse_clock(clock).now(), UTC if utc else None
    shadowed = sum((p.get("status") or {}).get("state") == "Shadow" for p in plans)
    if rows:
        _print_table(*columns(rows, now=now, zone=zone, wide=output == "wide"))
    click.echo(summary(rows, where=f"namespace {namespace}" if namespace else "all namespaces", shadowed=shadowed))


plan.add_command(bench)


def _path(prefix: str, plural: str, namespace: str | None) -> str:
    return namespaced(prefix, namespace, plural) if namespace else f"/{prefix}/{plural}"


def _plans(api: Api, namespace: str | None) -> list[Object]:
    try:
        return api.list(_path(f"apis/{names.API_VERSION}", "workloadplans", namespace))
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        click.echo(f"WorkloadPlans cannot be read, so reasons are missing: {error.message}", err=True)
        return []


def _print_tenants(api: Api, now: datetime) -> None:
    # numpy is loaded here, so that every other verb answers without it.
    from embellie.cli.plan_tenants import evenness, table, use_of

    jobs, pods = (api.list(_path(*RESOURCES[kind], None), labelSelector=names.FLEX_LABEL) for kind in ("Job", "Pod"))
    found = use_of(jobs, pods, _plans(api, None), now)
    if found:
        _print_table(*table(found))
    click.echo(evenness(found))


def _print_table(header: list[str], lines: list[list[str]]) -> None:
    """Write columns as kubectl does: a terminal that is too narrow breaks lines, and no name is cut."""
    head, *rest = in_columns([header, *lines])
    click.echo("\n".join([click.style(head, bold=True), *rest]))
