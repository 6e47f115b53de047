# SPDX-License-Identifier: Apache-2.0
"""`embellie why`: reads with the caller's own rights, and prints the explanation."""

from datetime import UTC

import click

from embellie.cli.explain import explain
from embellie.cli.session import Where, cluster_options, parse_target, read_plan, read_workload
from embellie.domain.clock import parse_clock
from embellie.watchdog.api import Api, ApiError, Object, namespaced

MOST_PODS = 500


@click.command()
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
    path = namespaced("api/v1", workload["metadata"]["namespace"], "pods")
    try:
        answer = api.get(path, labelSelector=f"batch.kubernetes.io/controller-uid={uid}", limit=str(MOST_PODS))
    except ApiError as error:
        if error.status != 403:
            raise
        return []
    return list(answer.get("items") or ())


def _events(api: Api, workload: Object) -> list[Object]:
    """Return the events about the workload, in which a refused quota shows."""
    path = namespaced("api/v1", workload["metadata"]["namespace"], "events")
    selector = f"involvedObject.uid={workload['metadata']['uid']}"
    try:
        answer = api.get(path, fieldSelector=selector, limit=str(MOST_PODS))
    except ApiError as error:
        if error.status != 403:
            raise
        return []
    return list(answer.get("items") or ())
