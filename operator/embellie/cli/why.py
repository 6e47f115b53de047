# SPDX-License-Identifier: Apache-2.0
"""`embellie why`: reads with the caller's own rights, and prints the explanation."""

from datetime import UTC

import click

from embellie.cli.explain import explain
from embellie.cli.session import Where, cluster_options, parse_target, read_plan, read_workload
from embellie.domain import names
from embellie.domain.clock import parse_clock
from embellie.watchdog.api import Api, ApiError, Object, namespaced

MOST = 500


@click.command(short_help="Say why a job or pod waits, and until when.")
@click.argument("target")
@click.option("--utc", is_flag=True, help="Write times in UTC instead of this machine's zone.")
@click.option("--clock", default="system", envvar="EMBELLIE_CLOCK", hidden=True, help="The operator's clock.")
@cluster_options
def why(where: Where, target: str, utc: bool, clock: str) -> None:
    """Say in at most six lines why TARGET (job/NAME or pod/NAME) waits, and until when."""
    kind, name = parse_target(target)
    api = where.api()
    workload = read_workload(api, kind, where.current_namespace(), name)
    plan = _plan(api, workload)
    lines = explain(
        plan,
        workload,
        _pods(api, workload),
        _events(api, workload),
        now=parse_clock(clock).now(),
        zone=UTC if utc else None,
        held_pods=len(_listed(api, workload, "pods", labelSelector=f"{names.HELD_LABEL}=true")),
    )
    for line in lines:
        click.echo(line)


def _plan(api: Api, workload: Object) -> Object | None:
    try:
        return read_plan(api, workload)
    except ApiError as error:
        if error.status != 403:
            raise
        click.echo("You may not read WorkloadPlans here, so only the workload itself can be explained.", err=True)
        return None


def _pods(api: Api, workload: Object) -> list[Object]:
    """Return a Job's pods; enough of them to tell what holds them up."""
    if workload["kind"] == "Pod":
        return [workload]
    uid = workload["metadata"]["uid"]
    return _listed(api, workload, "pods", labelSelector=f"batch.kubernetes.io/controller-uid={uid}")


def _events(api: Api, workload: Object) -> list[Object]:
    """Return the events about the workload, in which a refused quota shows."""
    return _listed(api, workload, "events", fieldSelector=f"involvedObject.uid={workload['metadata']['uid']}")


def _listed(api: Api, workload: Object, plural: str, **selector: str) -> list[Object]:
    """Return some of what is in the workload's namespace; nothing where the caller may not read it."""
    path = namespaced("api/v1", workload["metadata"]["namespace"], plural)
    try:
        answer = api.get(path, **selector, limit=str(MOST))
    except ApiError as error:
        if error.status != 403:
            raise
        return []
    return list(answer.get("items") or ())
