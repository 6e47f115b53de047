# SPDX-License-Identifier: Apache-2.0
"""`embellie release --all`: let everything go, in pace, earliest latest start first."""

import getpass
import os
import time

import click

from embellie.cli.session import Where, cluster_options
from embellie.cli.values import FiniteRange
from embellie.cluster import rights
from embellie.watchdog import commands
from embellie.watchdog.api import Api, ApiError
from embellie.watchdog.clearing import run_on
from embellie.watchdog.log import silence
from embellie.watchdog.release import Held
from embellie.watchdog.sweep import list_held


@click.command()
@click.option("--all", "everything", is_flag=True, help="Yes, everything that is held, in all namespaces.")
@click.option("--lock", is_flag=True, help="Also keep the operator from holding again, until it is unlocked.")
@click.option(
    "--release-seconds",
    type=FiniteRange(0.5, 86400),
    default=300.0,
    show_default=True,
    help="Spread the releases over this time.",
)
@click.option("--install-namespace", default="embellie-system", show_default=True, help="Where Embellie is installed.")
@click.option("--install-name", default="embellie", show_default=True, help="The name of the installation.")
@cluster_options
def release(
    where: Where, everything: bool, lock: bool, release_seconds: float, install_namespace: str, install_name: str
) -> None:
    """Switch holding off and release everything that is held."""
    if not everything:
        raise click.UsageError("releases everything that is held; say so with --all, or use: embellie go job/NAME")
    api = where.api()
    # Whoever may not see or release what is held is told so at once, before anything is switched off.
    list_held(api)
    for group, plural in (("batch", "jobs"), ("", "pods")):
        if not _may_patch(api, group, plural):
            raise click.ClickException(
                f"you may not patch {plural} in all namespaces, so nothing is switched off or released; "
                "where you may, release one by one: kubectl embellie go job/NAME -n NAMESPACE"
            )
    silence()
    fault = commands.switch_off(api, install_namespace, install_name, lock=lock, until=time.monotonic() + 5.0)
    if fault:
        click.echo(f"warning: holding could not be switched off ({fault}); new work may still be held", err=True)
    elif lock:
        click.echo(
            "Holding is switched off and locked. To unlock: kubectl patch configmap "
            f'{install_name}-switch -n {install_namespace} --type=merge -p \'{{"data":{{"locked":"false"}}}}\''
        )
    else:
        click.echo("Holding is switched off. A living operator switches it on again; to prevent that, use --lock.")

    def said(held: Held) -> None:
        click.echo(f"released {held.kind.lower()}/{held.name} in {held.namespace}")

    identity = f"embellie-cli-{_user()}"
    progress = commands.release_all(
        api,
        identity=identity,
        release_seconds=release_seconds,
        timeout_seconds=release_seconds + 60.0,
        on_release=said,
    )
    # After the release, which must not wait for many pods that take their time.
    left = run_on(api, identity)
    if left:
        click.echo(f"warning: {left}", err=True)
    click.echo(f"{progress.released} released.")
    if not progress.clean:
        why = "; ".join(progress.failures) or "new work was held meanwhile, or the time was up"
        raise click.ClickException(f"{progress.left} still held: {why}")


def _user() -> str:
    """Return the caller's name, or their number: in a container a user often has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _may_patch(api: Api, group: str, plural: str) -> bool:
    """Ask the API server whether the caller may change objects of a kind everywhere; True where it does not tell."""
    try:
        return rights.is_allowed(api.create(rights.REVIEWS, rights.review("patch", group, plural)))
    except ApiError:
        return True
