# SPDX-License-Identifier: Apache-2.0
"""What every verb shares: the kubectl options, the client with the caller's own rights, and readable failures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click

from embellie.domain import names
from embellie.watchdog.api import (
    SERVICE_ACCOUNT,
    Api,
    ApiError,
    ConfigurationError,
    Object,
    UnreachableError,
    connect,
    namespaced,
)

RESOURCES = {"Job": ("apis/batch/v1", "jobs"), "Pod": ("api/v1", "pods")}
KINDS = {
    **dict.fromkeys(("job", "jobs", "job.batch", "jobs.batch"), "Job"),
    **dict.fromkeys(("pod", "pods", "po"), "Pod"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which cluster and namespace, as kubectl would be told."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None

    def api(self) -> Api:
        """Return a client with the caller's own rights."""
        return connect(self.kubeconfig, self.context)

    def current_namespace(self) -> str:
        """Return the namespace that was named, else the context's, else `default`."""
        return self.namespace or _namespace_of_context(self.kubeconfig, self.context) or "default"


def _namespace_of_context(kubeconfig: Path | None, context: str | None) -> str | None:
    from kubernetes import config

    try:
        contexts, active = config.list_kube_config_contexts(str(kubeconfig) if kubeconfig else None)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        inside = SERVICE_ACCOUNT / "namespace"
        return inside.read_text().strip() if inside.is_file() else None
    chosen = next((c for c in contexts if c["name"] == context), None) if context else active
    return ((chosen or {}).get("context") or {}).get("namespace")


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command kubectl's options; they count on the group and on the verb, and the verb's win."""

    @click.option("-n", "--namespace", help="The workload's namespace (as for kubectl).")
    @click.option("--context", "context_name", help="The kubeconfig context to use.")
    @click.option("--kubeconfig", type=click.Path(path_type=Path, dir_okay=False), help="The kubeconfig file to use.")
    @click.pass_context
    @wraps(command)
    def wrapped(context: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        outer = context.obj if isinstance(context.obj, Where) else Where()
        context.obj = replace(
            outer,
            kubeconfig=kwargs.pop("kubeconfig") or outer.kubeconfig,
            context=kwargs.pop("context_name") or outer.context,
            namespace=kwargs.pop("namespace") or outer.namespace,
        )
        return context.invoke(command, context.obj, *args, **kwargs)

    return wrapped


class ReadableGroup(click.Group):
    """A group whose verbs end in a sentence when the cluster refuses or is away."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise click.ClickException(str(error)) from error
        except UnreachableError as error:
            raise click.ClickException(f"the API server does not answer: {error}") from error
        except ApiError as error:
            raise click.ClickException(explain_error(error)) from error


def explain_error(error: ApiError) -> str:
    """Say what an error of the API server means for the caller."""
    if error.status == 401:
        return "the cluster does not know you: log in again, or choose another --context"
    if error.status == 403:
        return f"you may not do this: {error.message}"
    return str(error)


def parse_target(text: str) -> tuple[str, str]:
    """Read `job/NAME` or `pod/NAME`; return the kind and the name."""
    kind, slash, name = text.partition("/")
    if not slash or kind.lower() not in KINDS or not name or "/" in name:
        told = "must be job/NAME or pod/NAME; of other kinds ask about the Jobs and pods that they made"
        raise click.BadParameter(f"{text!r} {told}", param_hint="TARGET")
    return KINDS[kind.lower()], name


def read_workload(api: Api, kind: str, namespace: str, name: str) -> Object:
    """Read a Job or pod, or say that there is none."""
    prefix, plural = RESOURCES[kind]
    try:
        return {"kind": kind, **api.get(namespaced(prefix, namespace, plural, name))}
    except ApiError as error:
        if error.status != 404:
            raise
        raise click.ClickException(
            f"there is no {kind.lower()} {name!r} in namespace {namespace!r}; choose another with -n, "
            f"or see what is there: kubectl get {plural} -n {namespace}"
        ) from error


def read_plan(api: Api, workload: Object) -> Object | None:
    """Read the WorkloadPlan of exactly this object; None where there is none."""
    meta = workload["metadata"]
    plans = namespaced(f"apis/{names.API_VERSION}", meta["namespace"], "workloadplans")
    name = f"{workload['kind'].lower()}-{meta['name']}"
    try:
        # A name that was too long for a plan was cut: then the reference finds it.
        found = [api.get(f"{plans}/{name}")] if len(name) <= 253 else api.list(plans)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    ours = (p for p in found if ((p.get("spec") or {}).get("workloadRef") or {}).get("uid") == meta["uid"])
    return next(ours, None)
