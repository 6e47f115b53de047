# SPDX-License-Identifier: Apache-2.0
"""The operator process: wires the rooms together, and ends cleanly or at once."""

import gc
import json
import logging
import signal
import sys
import threading
import time
import uuid
from datetime import timedelta
from types import FrameType

from embellie import __version__
from embellie.cluster.actuate import Releaser
from embellie.cluster.client import ApiError, ConfigurationError, KubeClient
from embellie.cluster.events import EventRecorder
from embellie.cluster.lease import LeaseElector
from embellie.cluster.node_taints import NodeTaints
from embellie.cluster.pauses import Pauser
from embellie.cluster.plan_watch import PlanWatch
from embellie.cluster.plans import PlanWriter
from embellie.cluster.power_caps import PowerCaps
from embellie.cluster.store import Store
from embellie.cluster.switch import Switch
from embellie.cluster.watch import Watcher, bootstrap
from embellie.control.acting.actuation import Actuation
from embellie.control.acting.heat_acts import HeatActs
from embellie.control.acting.pause_desk import PauseDesk
from embellie.control.assembly.sensors import SensorDesk
from embellie.control.heat.heat_desk import HeatDesk
from embellie.control.lookout import Lookout
from embellie.control.loop import Loop
from embellie.control.options import Options
from embellie.control.recording.ledger_writer import LedgerOptions, Recorder
from embellie.domain.clock import Clock, parse_clock
from embellie.telemetry.energy import EnergySource
from embellie.telemetry.metrics import Server
from embellie.telemetry.prometheus import NoMetrics, PrometheusSource
from embellie.telemetry.tables import PrometheusTables

logger = logging.getLogger("embellie")

ALIVE_WITHIN_S = 90.0
"""A loop that has not gone round for so long is hung, and the liveness probe says so."""
WATCH_STOP_S = 3.0
GC_EVERY = 50_000
"""New objects until the youngest generation is searched for cycles; Python's 700 suits programs without a crowd."""


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(level: str) -> None:
    """Write one JSON object a line to stderr; kopf's own chatter only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # It warns that it ignores signals off the main thread, which is how we run it.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    logging.getLogger("urllib3").setLevel(logging.ERROR)


class _Ending:
    """How the process ends: asked to (0), or because something that it cannot do without is gone (1)."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.exit_code = 0

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        logger.info("stopping on %s", signal.Signals(number).name)
        self.stop.set()

    def fail(self, why: str) -> None:
        logger.error("stopping: %s", why)
        self.exit_code = 1
        self.stop.set()


def run(options: Options) -> int:
    """Run the operator until a signal; return the exit code."""
    set_up_logging(options.log_level)
    try:
        client = KubeClient.from_environment(options.kubeconfig)
        clock = parse_clock(options.clock, client.behind)
    except (ConfigurationError, ValueError) as error:
        logger.error("%s", error)  # noqa: TRY400 - a sentence for the admin, not a trace
        return 2
    ending = _Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ending.on_signal)
    return _Operator(options, client, clock, ending).serve()


class _Operator:
    """All parts of the process, which begin and end together."""

    def __init__(self, options: Options, client: KubeClient, clock: Clock, ending: _Ending) -> None:
        self._client, self._ending = client, ending
        self._store = store = Store()
        self._elector = elector = LeaseElector(
            client,
            options.namespace,
            # A restarted container has its predecessor's name, but must not take over its lease without waiting.
            f"{options.identity}_{uuid.uuid4().hex[:8]}",
            name=f"{options.name}-leader",
            on_started=store.wake.set,
            on_lost=lambda: ending.fail("the leader lease was lost"),
            on_rewound=lambda: ending.fail("the API server was restored from a backup, and must be watched anew"),
        )
        switch = Switch(client, options.namespace, f"{options.name}-switch")
        self._events = EventRecorder(client, instance=options.identity)
        self._heat = _heat_desk(options, client, clock, switch, elector)
        self._recorder = _recorder(options, clock, elector)
        plans = PlanWriter(client, may_write=elector.is_leader)
        self._plan_watch = PlanWatch(client, plans.hear, leads=elector.is_leader)
        sensors = SensorDesk(PrometheusSource(options.prometheus_url) if options.prometheus_url else NoMetrics())
        self._loop = loop = Loop(
            options=options,
            client=client,
            store=store,
            clock=clock,
            lookout=Lookout(options, store, clock, sensors, self._heat),
            heat=self._heat,
            elector=elector,
            actuation=Actuation(
                releaser=Releaser(client, may_write=elector.is_leader),
                plans=plans,
                events=self._events,
            ),
            pauses=PauseDesk(
                pauser=Pauser(client, may_write=elector.is_leader),
                releaser=Releaser(client, may_write=elector.is_leader),
                events=self._events,
                switch=switch,
                clock=clock,
                may_write=elector.is_leader,
            ),
            recorder=self._recorder,
            stop=ending.stop,
        )
        self._synced = threading.Event()
        self._server = Server(
            options.metrics_port,
            healthy=lambda: time.monotonic() - loop.alive_at < ALIVE_WITHIN_S,
            ready=self._synced.is_set,
        )
        self._watcher = Watcher(store, client, on_exit=lambda: ending.fail("watching ended"))
        logger.info("embellie %s starts as %s", __version__, options.identity)

    def serve(self) -> int:
        """Run until told to stop; return the exit code."""
        self._server.start()
        try:
            if _first_lists(self._client, self._store, self._loop, self._ending):
                self._synced.set()
                _rest_the_collector()
                self._go_round()
        finally:
            self._close()
        return self._ending.exit_code

    def _go_round(self) -> None:
        self._heat.start()
        self._watcher.start()
        self._plan_watch.start()
        self._elector.start()
        if self._recorder is not None:
            self._recorder.start()
        # A signal handler cannot wake a thread that waits for something else, so a helper passes the stop on.
        threading.Thread(target=_pass_on, args=(self._ending.stop, self._store.wake), daemon=True).start()
        self._loop.run()
        if self._ending.exit_code == 0:
            self._loop.shut_down()

    def _close(self) -> None:
        self._heat.stop()
        self._plan_watch.stop()
        self._watcher.stop(WATCH_STOP_S)
        if self._recorder is not None:
            self._recorder.stop()
        self._events.close()
        self._elector.stop()
        self._server.stop()
        self._client.close()


def _heat_desk(options: Options, client: KubeClient, clock: Clock, switch: Switch, elector: LeaseElector) -> HeatDesk:
    acts = HeatActs(
        caps=PowerCaps(client, may_write=elector.is_leader),
        taints=NodeTaints(client, may_write=elector.is_leader),
        switch=switch,
        max_taint_s=options.max_limit_hold_seconds,
    )
    return HeatDesk(PrometheusTables(options.prometheus_url) if options.prometheus_url else None, clock, acts)


def _rest_the_collector() -> None:
    """Look for cycles rarely, and never again among what the first lists brought: it would cost an eighth of a burst.

    Records hold no cycles; kopf's tasks do, and are still found.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_EVERY, 20, 20)


def _recorder(options: Options, clock: Clock, elector: LeaseElector) -> Recorder | None:
    if options.ledger_path is None:
        return None
    return Recorder(
        LedgerOptions(
            path=options.ledger_path,
            interval=timedelta(seconds=options.ledger_interval_seconds),
            retention=timedelta(days=options.ledger_retention_days),
            team_label=options.team_label,
        ),
        clock=clock,
        source=EnergySource(PrometheusTables(options.prometheus_url)) if options.prometheus_url else None,
        exchange=options.forecast_dir,
        identity=options.identity,
        is_leader=elector.is_leader,
    )


def _pass_on(stop: threading.Event, wake: threading.Event) -> None:
    stop.wait()
    wake.set()


def _first_lists(client: KubeClient, store: Store, loop: Loop, ending: _Ending) -> bool:
    """Fill the store before anything is decided; keep trying, because the API server may start after us."""
    while not ending.stop.is_set():
        started = time.monotonic()
        loop.alive_at = started
        try:
            bootstrap(client, store)
        except ApiError as error:
            logger.warning("first lists failed, trying again: %s", error)
            ending.stop.wait(1.0)
            continue
        view = store.view()
        logger.info(
            "complete snapshot after %.1f s: %d workloads, %d pods, %d nodes",
            time.monotonic() - started,
            len(view.workloads),
            len(view.pods),
            len(view.nodes),
        )
        return True
    return False
