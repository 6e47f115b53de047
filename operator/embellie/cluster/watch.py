# SPDX-License-Identifier: Apache-2.0
"""kopf feeds the store: `on.event` handlers only.

Every other kind of handler writes to the objects it handles (annotations, finalizers), and an index on a large kind
stalls the start. So there is no index, timer, daemon, finalizer or return value here; a test proves that nothing is
written. kopf runs in a thread with a loop of its own; when it ends, `on_exit` is called, because an operator that does
not watch must not go on deciding.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kopf

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.cluster.no_traces import NoDiffs, NoProgress
from embellie.cluster.plans import PlanList
from embellie.cluster.store import Resource, Store
from embellie.domain import names

# Nobody reads it, but without one kopf asks for the user's name, and the user of a container has none.
_IDENTITY: Any = "embellie"
CONNECTS_ANEW_S = 300
"""At each multiple of this kopf asks how to connect: for a new token it also asks when refused, for a new CA never."""
RELIST_S = 600.0
"""So often everything is listed anew."""
RELIST_AGAIN_S = 60.0
"""And so soon again where a list failed."""
LISTED_WITHIN_S = 1800.0
"""From a store that was not listed whole for so long nothing is decided."""
logger = logging.getLogger(__name__)


def bootstrap(client: KubeClient, store: Store) -> int:
    """List everything that is watched into the store; return how many stale objects were pruned.

    Raises ApiError when a list fails: a store that is not complete must not be decided from.
    """
    pruned = 0
    for resource in Resource:
        store.begin_list(resource)
        pruned += store.replace(resource, client.list_all(object_path(resource.api_version, resource)))
    return pruned


@dataclass(frozen=True, slots=True)
class Relisted:
    """What a full list found."""

    pruned: int
    """Stale objects."""
    plans: PlanList | None
    """None where they could not be listed."""


class Relists:
    """Puts right what watching missed, such as deletions, by a full list now and then, beside the turns.

    A list that fails is no reason to stop at once, and to have the watchdog release all that is held: the API server
    may be busy, and watching goes on, or ends the process where it cannot.
    """

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        read_plans: Callable[[], PlanList],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read_plans` lists the WorkloadPlans, which are not watched."""
        self._client, self._store, self._read_plans, self._monotonic = client, store, read_plans, monotonic
        self._listed_at = monotonic()
        self._due_at = self._listed_at + RELIST_S
        self._under_way: Future[Relisted] | None = None

    def step(self) -> Relisted | None:
        """Begin a list if it is time. Return what one that has ended found, None where none has.

        Raises ApiError while the last whole list is too long ago.
        """
        if self._under_way is None and self._monotonic() >= self._due_at:
            under_way: Future[Relisted] = Future()
            # Whoever ends does not wait for it.
            threading.Thread(target=self._list, args=(under_way,), name="relist", daemon=True).start()
            self._under_way = under_way
        found = self._ended()
        if found is None and self._monotonic() - self._listed_at > LISTED_WITHIN_S:
            raise ApiError(0, "Stale", f"nothing was listed whole for {LISTED_WITHIN_S:.0f} s")
        return found

    def _ended(self) -> Relisted | None:
        if self._under_way is None or not self._under_way.done():
            return None
        ended, self._under_way = self._under_way, None
        self._due_at = self._monotonic() + RELIST_AGAIN_S
        try:
            found = ended.result()
        except ApiError as error:
            logger.warning("a full list failed and is tried again in %.0f s: %s", RELIST_AGAIN_S, error)
            return None
        self._listed_at = self._monotonic()
        self._due_at = self._listed_at + (RELIST_S if found.plans is not None else RELIST_AGAIN_S)
        return found

    def _list(self, under_way: "Future[Relisted]") -> None:
        try:
            under_way.set_result(Relisted(bootstrap(self._client, self._store), self._plans()))
        except Exception as error:  # noqa: BLE001 - told to the turn that asks for it
            under_way.set_exception(error)

    def _plans(self) -> PlanList | None:
        """List the plans. Nothing is decided from what this finds, for a leader knows the bounds that it promised."""
        try:
            return self._read_plans()
        except ApiError as error:
            logger.warning("the list of workload plans failed and is tried again in %.0f s: %s", RELIST_AGAIN_S, error)
            return None


def _settings(settings: kopf.OperatorSettings) -> None:
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 660
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70
    settings.watching.reconnect_backoff = 1.0
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = [1, 2, 4, 8, 16]
    settings.queueing.idle_timeout = 5.0
    settings.execution.max_workers = 2
    settings.persistence.finalizer = f"{names.GROUP}/unused"
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.diffbase_storage = NoDiffs()


def connection_info(client: KubeClient) -> kopf.ConnectionInfo:
    """Tell kopf how to connect, with token and CA as they are now; it asks again when refused, or when this expires.

    What was refused is the same until it expires, so that kopf ends instead of trying it for ever.
    """
    configuration = client.configuration
    scheme, _, token = (client.authorization() or "").partition(" ")
    return kopf.ConnectionInfo(
        server=client.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme=scheme or None,
        token=token or None,
        expiration=datetime.fromtimestamp((time.time() // CONNECTS_ANEW_S + 1) * CONNECTS_ANEW_S, UTC),
    )


def build_registry(store: Store, client: KubeClient, on_end: Callable[[], None]) -> kopf.OperatorRegistry:
    """Register one event handler per watched resource; `on_end` is called when kopf begins to end."""
    registry = kopf.OperatorRegistry()

    def watch(resource: Resource) -> None:
        group, _, version = resource.api_version.rpartition("/")

        async def handle(event: kopf.RawEvent, **_: Any) -> None:
            store.apply(resource, event["type"], event["object"])

        kopf.on.event(group, version, resource.value, registry=registry, id=f"feed-{resource.value}")(handle)

    for resource in Resource:
        watch(resource)

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        _settings(settings)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return connection_info(client)

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        on_end()

    return registry


class Watcher:
    """Runs kopf in its own thread until stopped."""

    def __init__(self, store: Store, client: KubeClient, on_exit: Callable[[], None]) -> None:
        # When one stream fails kopf ends all, which may take for ever: tasks of its own miss that they are cancelled.
        self._registry = build_registry(store, client, self._ended)
        self._on_exit = on_exit
        self._stopping = threading.Event()
        self._stop_flag: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask kopf to end and wait for it."""
        self._stopping.set()
        if self._loop is not None and self._stop_flag is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop_flag.set)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:  # a task boundary: whatever ended kopf, the process must learn of it
            logger.exception("watching ended with an error")
        finally:
            self._ended()

    def _ended(self) -> None:
        if not self._stopping.is_set():
            self._on_exit()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop_flag = asyncio.Event()
        if self._stopping.is_set():
            return
        await kopf.operator(
            registry=self._registry,
            clusterwide=True,
            standalone=True,
            stop_flag=self._stop_flag,
            identity=_IDENTITY,
            settings=kopf.OperatorSettings(),
        )
