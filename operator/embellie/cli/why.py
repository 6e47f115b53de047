# SPDX-License-Identifier: Apache-2.0
"""`embellie why`: reads with the caller's own rights, and prints the explanation."""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import TextIO, TypeGuard

import click
import yaml

from embellie.cli.explain import explain
from embellie.cli.session import RESOURCES, Where, cluster_options, parse_target, read_plan, read_workload
from embellie.cli.words import one_line
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
        for line in _preview(api, where, manifests(filename), now, zone):
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


def manifests(file: TextIO) -> list[Object]:
    """Return the Jobs and pods of a manifest: of all its documents, and of the lists among them."""
    try:
        objects = [raw for document in yaml.safe_load_all(file) for raw in _items(document)]
    except (yaml.YAMLError, ValueError) as error:
        raise click.ClickException(f"{file.name} is no manifest: {error}") from error
    found = [raw for raw in objects if _is_work(raw)]
    if not found:
        raise click.ClickException(f"{file.name} has neither a Job (batch/v1) nor a Pod in it{_others(objects)}")
    return found


def _others(objects: list[object]) -> str:
    """Name what a file has instead of work: whoever labelled a CronJob believes that it waits."""
    whole = (each for each in objects if isinstance(each, dict) and "kind" in each)
    kinds = dict.fromkeys(f"{each['kind']} ({each.get('apiVersion')})" for each in whole)
    told = one_line(", ".join(kinds), 200)
    return f", but {told}: what other kinds make has an owner, and is never held" if told else ""


def _items(document: object) -> list[object]:
    """Return what is in a list, as kubectl takes it (`kind: List`, `kind: JobList`); anything else is alone."""
    if not isinstance(document, dict) or not isinstance(document.get("items"), list):
        return [document]
    kind = str(document.get("kind")).removesuffix("List")
    # The items of an API server's list do not say what they are.
    told = {"apiVersion": document.get("apiVersion"), "kind": kind} if kind else {}
    return [{**told, **item} if isinstance(item, dict) else item for item in document["items"]]


def _is_work(raw: object) -> TypeGuard[Object]:
    if not isinstance(raw, dict) or not isinstance(raw.get("metadata"), dict):
        return False
    # Others have a kind of the name Job too.
    return any(
        (raw.get("apiVersion"), raw.get("kind")) == (path.partition("/")[2], kind)
        for kind, (path, _) in RESOURCES.items()
    )


def _preview(api: Api, where: Where, works: list[Object], now: datetime, zone: tzinfo | None) -> Iterator[str]:
    """Let the API server make each without keeping it, and say what would become of it."""
    # What only a preview needs; every other answer comes without numpy and pydantic.
    from embellie.api.energypolicy import EnergyPolicy
    from embellie.api.gridzone import GridZone
    from embellie.api.thermalzone import ThermalZone
    from embellie.cli.preview import Site, preview
    from embellie.cluster.records import NamespaceRecord, parse_node
    from embellie.control.assembly.own_objects import OwnObjects

    own, of_kind = OwnObjects(), f"/apis/{names.API_VERSION}"
    policies = own.parse(EnergyPolicy, api.list(f"{of_kind}/energypolicies"))
    nodes = _if_allowed(api, "/api/v1/nodes")
    site = Site(
        grid_zones=own.parse(GridZone, api.list(f"{of_kind}/gridzones")),
        thermal_zones=own.parse(ThermalZone, _if_allowed(api, f"{of_kind}/thermalzones") or ()),
        nodes=None if nodes is None else tuple(filter(None, map(parse_node, nodes))),
    )
    for each in (_made(api, where, manifest) for manifest in works):
        namespace = each["metadata"]["namespace"]
        labels = api.get(f"/api/v1/namespaces/{namespace}")["metadata"].get("labels") or {}
        record = NamespaceRecord(name=namespace, labels=labels)
        jobs = api.list(namespaced("apis/batch/v1", namespace, "jobs"))
        yield from preview(each, record, policies, site, jobs, now=now, zone=zone)


def _made(api: Api, where: Where, manifest: Object) -> Object:
    """Return what the API server would make of a manifest."""
    meta = manifest["metadata"]
    namespace = where.namespace or meta.get("namespace") or where.current_namespace()
    prefix, plural = RESOURCES[manifest["kind"]]
    # Under a name of its own, for one that exists already would be refused.
    name = meta.get("name") or str(meta.get("generateName", "")).rstrip("-")
    copy = {**manifest, "metadata": {**meta, "generateName": f"{name}-"}}
    copy["metadata"].pop("name", None)
    made = api.call("POST", namespaced(prefix, namespace, plural), query={"dryRun": "All"}, body=copy)
    return {**made, "kind": manifest["kind"], "metadata": {**made["metadata"], "name": name}}


def _if_allowed(api: Api, path: str) -> list[Object] | None:
    """List what the caller may read; None where they may not."""
    try:
        return api.list(path)
    except ApiError as error:
        if error.status != 403:
            raise
        return None


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
