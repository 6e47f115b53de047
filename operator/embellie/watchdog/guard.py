# SPDX-License-Identifier: Apache-2.0
"""`run`: watch the heartbeat, and release what is held when it stops."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from embellie.watchdog import names, switch
from embellie.watchdog.api import Api, ApiError, UnreachableError
from embellie.watchdog.clearing import clear_up
from embellie.watchdog.lease import Election, ElectionTimes, Heartbeat, read_lease
from embellie.watchdog.log import log
from embellie.watchdog.sweep import Order, sweep

AFTER_CLEAN_SECONDS = 5.0
"""How often an operator that stays away is swept after again."""
CLEAR_AGAIN_SECONDS = 30.0
"""So soon it is tried again to clear up what was left: all Jobs and pods of the cluster are looked through [s]."""
HANGS_AFTER_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardOptions:
    """Which installation is guarded, and how."""

    namespace: str
    name: str
    identity: str
    dead_man_seconds: float
    release_seconds: float

    @property
    def poll_seconds(self) -> float:
        """How often the heartbeat is read [s]."""
        return max(0.1, min(2.0, self.dead_man_seconds / 8))


class Guard:
    """Four loops: one elects, one reads the heartbeat, one releases when we lead and nothing beats, one clears up then.

    What is held does not wait for what is cleared up: that may be many pods, of which each takes its time.
    """

    def __init__(self, api: Api, options: GuardOptions, stop: threading.Event) -> None:
        self._api = api
        self._options = options
        self._stop = stop
        self._heartbeat = Heartbeat(options.dead_man_seconds, longest_gap_seconds=3 * options.poll_seconds)
        self._election = Election(
            api,
            namespace=options.namespace,
            name=options.name,
            identity=options.identity,
            monotonic=time.monotonic,
            times=ElectionTimes(),
        )
        self._turned_at = dict.fromkeys(("elect", "observe", "act"), time.monotonic())
        self._reported_stale = False
        self._is_clear = False
        self._clear_at = 0.0
        self._quiet_until = 0.0

    def alive(self) -> bool:
        """Whether every loop that a release hangs on has turned lately."""
        return time.monotonic() - min(self._turned_at.values()) < HANGS_AFTER_SECONDS

    def run(self) -> None:
        """Guard until told to stop."""
        log("started", **{k: getattr(self._options, k) for k in ("namespace", "name", "identity", "dead_man_seconds")})
        elector = self._thread("elect", self._election.step, self._election.times.retry_seconds)
        observer = self._thread("observe", self._observe, self._options.poll_seconds)
        self._thread("clear", self._clear, self._options.poll_seconds)
        self._turn("act", self._act, self._options.poll_seconds)
        elector.join(timeout=1)
        observer.join(timeout=1)
        self._election.resign()
        log("stopped")

    def _thread(self, name: str, step: Callable[[], None], every_seconds: float) -> threading.Thread:
        thread = threading.Thread(target=self._turn, args=(name, step, every_seconds), name=name, daemon=True)
        thread.start()
        return thread

    def _turn(self, name: str, step: Callable[[], None], every_seconds: float) -> None:
        while not self._stop.is_set():
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the boundary of a loop that must outlive any single fault
                log("loop-failed", loop=name, error=f"{type(error).__name__}: {error}")
            if name in self._turned_at:
                self._turned_at[name] = time.monotonic()
            self._stop.wait(every_seconds)

    def _observe(self) -> None:
        if not self._election.writes_pass:
            return
        try:
            lease = read_lease(self._api, self._options.namespace, names.heartbeat_name(self._options.name))
        except (ApiError, UnreachableError) as error:
            log("heartbeat-unreadable", error=str(error))
            return
        self._heartbeat.observe(lease, time.monotonic(), datetime.now(UTC))

    def _clear(self) -> None:
        """Clear up once for each time that the operator goes silent."""
        if not self._heartbeat.stale:
            self._is_clear, self._clear_at = False, 0.0
        elif self._election.leads and not self._is_clear and time.monotonic() >= self._clear_at:
            self._is_clear = clear_up(self._api, self._options.identity) is None
            self._clear_at = time.monotonic() + CLEAR_AGAIN_SECONDS

    def _act(self) -> None:
        if not self._heartbeat.stale:
            if self._reported_stale:
                log("heartbeat-returned")
            self._reported_stale, self._quiet_until = False, 0.0
            return
        if not self._election.leads or time.monotonic() < self._quiet_until:
            return
        if not self._reported_stale:
            self._reported_stale = True
            log("heartbeat-stale", silent_seconds=round(self._heartbeat.silent_seconds, 1))
        try:
            switch.turn_off(self._api, self._options.namespace, self._options.name)
        except (ApiError, UnreachableError) as error:  # what is held is released all the same
            log("switch-off-failed", error=str(error))
        order = Order(
            reason=names.OPERATOR_LOST,
            identity=self._options.identity,
            release_seconds=self._options.release_seconds,
            keep_going=self._must_go_on,
            stop=self._stop,
        )
        progress = sweep(self._api, order)
        if progress.released or progress.failures:
            log("sweep-ended", released=progress.released, clean=progress.clean, failures=dict(progress.failures))
        if progress.clean:
            self._quiet_until = time.monotonic() + AFTER_CLEAN_SECONDS

    def _must_go_on(self) -> bool:
        self._turned_at["act"] = time.monotonic()
        return self._heartbeat.stale and self._election.leads
