# SPDX-License-Identifier: Apache-2.0
"""`embellie why`: reads with the caller's own rights, and prints the explanation."""

from datetime import UTC, datetime, tzinfo
from typing import TextIO

import click
import yaml

from embellie.cli.explain import explain
from embellie.cli.session import RESOURCES, Where, cluster_options, parse_target, read_plan, read_workload
from embellie.domain import names
from embellie.domain.clock import parse_clock
from embellie.watchdog.api import Api, ApiError, Object, namespaced

MOST = 500


@click.command(short_help="Say why a job or pod waits, and until when.")
@click.argument("target", required=False)
@click.option(
    "-f",
    "--filename",
    type=click.File(encoding="utf-8"),
    help="A manifest: say whether its work would wait; create nothing.",
)
@click.option("--utc", is_flag=True, help="Write times in UTC instead of this machine's zone.")
@click.option("--clock", default="system", envvar="EMBELLIE_CLOCK", hidden=True, help="The operator's clock.")
@cluster_options
def why(where: Where, target: str | None, filename: TextIO | None, utc: bool, clock: str) -> None:
    """Say in at most six lines why TARGET (job/NAME or pod/NAME) waits, and until when."""
    if (target is None) is (filename is None):
        raise click.UsageError("name one of TARGET, such as job/train, and -f, a file with what is not created yet")
    api, now, zone = where.api(), parse_clock(clock).now(), UTC if utc else None
    if filename is not None:
        for manifest in _manifests(filename):
            for line in _preview(api, where, manifest, now, zone):
                click.echo(line)
        return
    kind, name = parse_target(str(target))
    workload = read_workload(api, kind, where.current_namespace(), name)
    plan = _plan(api, workload)
    lines = explain(
        plan,
        workload,
        _pods(api, workload),
        _events(api, workload),
        now=now,
        zone=zone,
        held_pods=len(_listed(api, workload, "pods", labelSelector=f"{names.HELD_LABEL}=true")),
    )
    for line in lines:
        click.echo(line)


def _manifests(file: TextIO) -> list[Object]:
    """Return the Jobs and pods of a manifest."""
    try:
        found = [raw for raw in yaml.safe_load_all(file) if _is_work(raw)]
    except (yaml.YAMLError, ValueError) as error:
        raise click.ClickException(f"{file.name} is no manifest: {error}") from error
    if not found:
        raise click.ClickException(f"{file.name} has neither a Job (batch/v1) nor a Pod in it")
    return found


def _is_work(raw: object) -> bool:
    if not isinstance(raw, dict) or not isinstance(raw.get("metadata"), dict):
        return False
    # Others have a kind of the name Job too.
    return any(
        (raw.get("apiVersion"), raw.get("kind")) == (path.partition("/")[2], kind)
        for kind, (path, _) in RESOURCES.items()
    )


def _preview(api: Api, where: Where, manifest: Object, now: datetime, zone: tzinfo | None) -> list[str]:
    """Let the API server make it without keeping it, and say what would become of it."""
    # What only a preview needs; every other answer comes without numpy and pydantic.
    from embellie.api.energypolicy import EnergyPolicy
    from embellie.api.gridzone import GridZone
    from embellie.cli.preview import preview
    from embellie.cluster.records import NamespaceRecord
    from embellie.control.own_objects import OwnObjects

    meta = manifest["metadata"]
    namespace = where.namespace or meta.get("namespace") or where.current_namespace()
    prefix, plural = RESOURCES[manifest["kind"]]
    # Under a name of its own, for one that exists already would be refused.
    name = meta.get("name") or str(meta.get("generateName", "")).rstrip("-")
    copy = {**manifest, "metadata": {**meta, "generateName": f"{name}-"}}
    copy["metadata"].pop("name", None)
    made = api.call("POST", namespaced(prefix, namespace, plural), query={"dryRun": "All"}, body=copy)
    made = {**made, "kind": manifest["kind"], "metadata": {**made["metadata"], "name": name}}
    labels = api.get(f"/api/v1/namespaces/{namespace}")["metadata"].get("labels") or {}
    own, of_kind = OwnObjects(), f"/apis/{names.API_VERSION}"
    return preview(
        made,
        NamespaceRecord(name=namespace, labels=labels),
        own.parse(EnergyPolicy, api.list(f"{of_kind}/energypolicies")),
        own.parse(GridZone, api.list(f"{of_kind}/gridzones")),
        api.list(namespaced("apis/batch/v1", namespace, "jobs")),
        now=now,
        zone=zone,
    )


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
