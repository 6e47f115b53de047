# SPDX-License-Identifier: Apache-2.0
"""`embellie go`: the user's own patch that starts a held workload, with or without a living operator."""

import time

import click

from embellie.cli.session import Where, cluster_options, parse_target, read_workload
from embellie.domain import names
from embellie.watchdog.api import Api, ApiError, Object
from embellie.watchdog.release import Held, is_held, release_patch
from embellie.watchdog.residency import parse_residency, zones_inside

ATTEMPTS_SECONDS = 5.0


@click.command(short_help="Start a held job or pod now.")
@click.argument("target")
@cluster_options
def go(where: Where, target: str) -> None:
    """Start TARGET (job/NAME or pod/NAME) now, instead of waiting for cleaner hours."""
    kind, name = parse_target(target)
    api, namespace = where.api(), where.current_namespace()
    until = time.monotonic() + ATTEMPTS_SECONDS
    while True:
        workload = read_workload(api, kind, namespace, name)
        held = Held(kind=kind, obj=workload)
        if not is_held(workload):
            click.echo(_not_held(held))
            return
        zones = _zones(api, held)
        try:
            api.json_patch(held.path, release_patch(held, {names.GO: _user(api)}, zones))
        except ApiError as error:
            if error.conflict and time.monotonic() < until:
                continue  # somebody wrote to it since we read it
            raise
        break
    click.echo(_done(held))


def _not_held(held: Held) -> str:
    """Say that it has been started already, or refuse what is not ours to start."""
    what = f"{held.kind.lower()}/{held.name}"
    if held.kind == "Job" and held.waits:
        raise click.ClickException(
            f"{what} is suspended, but not by Embellie, so it is left alone; if it is yours to start: kubectl patch "
            f'job {held.name} -n {held.namespace} --type=merge -p \'{{"spec":{{"suspend":false}}}}\''
        )
    return f"{what} is not held by Embellie: nothing to do (see: kubectl embellie why {what} -n {held.namespace})"


def _zones(api: Api, held: Held) -> list[Object] | None:
    """Return the GridZones if it must stay somewhere; refuse if no place is known where it may start."""
    if not held.residency:
        return None
    what = f"{held.kind.lower()}/{held.name} must stay in {held.residency[:80]} ({names.RESIDENCY})"
    try:
        zones = api.list(f"/apis/{names.API_VERSION}/gridzones")
    except ApiError as error:
        raise click.ClickException(
            f"{what}, and the GridZones that say where that is cannot be read ({error.message}); it stays held"
        ) from error
    if not zones_inside(zones, parse_residency(held.residency)):
        raise click.ClickException(
            f"{what}, and no GridZone lies there; it stays held. Correct the annotation, or ask an administrator"
        )
    return zones


def _user(api: Api) -> str:
    """Return who is calling, as the API server knows them; empty where it does not tell."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    except ApiError:
        return ""
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")[:253]


def _done(held: Held) -> str:
    what = f"{held.kind.lower()}/{held.name}"
    if held.queue:
        return f"{what} is left to the Kueue queue {held.queue[:80]}; only Embellie's marker was taken away"
    if not held.waits:
        return f"{what} had been started already; only Embellie's marker was taken away"
    did = "suspend is false" if held.kind == "Job" else f"the scheduling gate {names.GATE} is gone"
    place = f", and it stays in {held.residency}" if held.residency else ""
    return f"{what} is started: {did}{place}; the scheduler places it as soon as there is room"
