# SPDX-License-Identifier: Apache-2.0
"""Records what the loop decides and what the cluster draws, on a thread of its own.

The loop hands over references and goes on: a slow disk, a full one or a dead Prometheus never delays a turn. What could
not be recorded is kept for a while, then counted, and told by a `gap` record as soon as there is room again.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from embellie import __version__
from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.store import View
from embellie.control.assembly.assemble import Assembly
from embellie.control.assembly.occupancy import expected_kw
from embellie.control.assembly.zone_states import DEFAULT_GRID
from embellie.control.recording.account_measures import count_accounts
from embellie.control.recording.accountant import Accountant
from embellie.control.recording.outbox import Outbox
from embellie.control.recording.people import People
from embellie.control.recording.prices import PROVISIONAL
from embellie.control.recording.records import DecisionLog, Scene
from embellie.control.recording.savings_desk import SavingsDesk
from embellie.control.recording.witness import Track, Witness, run_draft
from embellie.domain.clock import Clock
from embellie.ledger import (
    ChangedRecordError,
    Draft,
    Kind,
    Ledger,
    LedgerError,
    LedgerReader,
    LedgerUnavailableError,
    compact,
)
from embellie.telemetry.energy import EnergySource
from embellie.telemetry.intensity import IntensityFolder
from embellie.telemetry.metrics import accounts as told
from embellie.telemetry.tariffs import TariffFolder
from embellie.thermal.job_power import LearntPower

logger = logging.getLogger(__name__)

KEPT = 20_000
"""Records that wait for a ledger that cannot be written; older ones are lost and counted."""
BATCH = 500
RETRY_S = 5.0
FLUSH_S = 5.0
"""Longest time between the writing of a record and its safety from a power cut (real time)."""
TICK_S = 0.5
HEALTH_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerOptions:
    """How the ledger is kept."""

    path: Path
    interval: timedelta = timedelta(minutes=15)
    retention: timedelta = timedelta(days=400)
    """Older records become daily accounts."""
    team_label: str = ""
    """Label of namespaces that names their team."""


class Recorder:
    """Writes one leader's segment of the ledger."""

    def __init__(
        self,
        options: LedgerOptions,
        *,
        clock: Clock,
        source: EnergySource | None,
        exchange: Path,
        identity: str,
        is_leader: Callable[[], bool],
    ) -> None:
        self._options, self._clock, self._identity, self._is_leader = options, clock, identity, is_leader
        self._witness = Witness()
        self._witness_lock = threading.Lock()
        self._accountant = Accountant(
            clock=clock,
            source=source,
            intensity=IntensityFolder(exchange / "intensity"),
            tariffs=TariffFolder(exchange / "prices"),
            witness=self._witness,
            interval=options.interval,
            team_label=options.team_label,
        )
        self._log = DecisionLog()
        self._people = People(options.path)
        self._outbox = Outbox(KEPT)
        self._came: list[Track] = []
        """What started, or went on after a pause, and is to be recorded."""
        self._ended: list[Track] = []
        self._first: datetime | None = None
        """From when on this leader accounts; what ended before, the one before it has recorded."""
        self._scene: Scene | None = None
        self._ledger: Ledger | None = None
        self._trouble = ""
        self._retry_at = 0.0
        self._last_at: datetime | None = None
        self._flush_at: float | None = None
        """When what was written has to be safe from a power cut; None while it is."""
        self._compacted_on = ""
        self._health_at = 0.0
        self._savings = SavingsDesk(options.path)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> None:
        """Begin to record."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Write what is left and close the ledger."""
        self._stop.set()
        self._thread.join(seconds)

    def watch(self, view: View) -> None:
        """See gangs come and go while another replica leads: what ends before this one does is in its accounts."""
        try:
            with self._witness_lock:
                self._witness.look(view, self._clock.now(), self._clock.from_wall, {})
                self._witness.forget(self._clock.now() - PROVISIONAL)
        except Exception:  # a boundary, as in a turn
            logger.exception("what runs could not be seen")

    def turn(
        self,
        assembly: Assembly,
        view: View,
        records: Sequence[PlanRecord],
        promised: Mapping[str, datetime],
        learnt: LearntPower,
    ) -> None:
        """Take in a turn that came to its end. Never fails, never waits for the disk.

        Args:
            assembly: What the turn decided on.
            view: What there was in the cluster.
            records: What was decided.
            promised: Workload uid -> its bound.
            learnt: What jobs draw, from what ran before: for work that nothing measures.
        """
        try:
            now = assembly.snapshot.now
            self._outbox.put(self._log.drafts(records, assembly, view))
            with self._witness_lock:
                came, ended = self._witness.lead(view, now, self._clock.from_wall, promised)
                self._came += came
                self._ended += ended
                for track in self._witness.tracks.values():
                    if track.ended is None and (known := learnt.class_power(track.namespace, track.name)) is not None:
                        track.class_watts = known.mean_w
                self._scene = Scene(assembly=assembly, view=view)
        except Exception:  # a boundary: what cannot be recorded must not end a turn
            logger.exception("a turn could not be recorded")

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            self._once()
        self._savings.stop()
        self._once()
        if self._ledger is not None:
            # Closing writes all into the one file, and to the disk.
            self._ledger.close()

    def _once(self) -> None:
        try:
            if self._is_leader() and time.monotonic() >= self._retry_at:
                self._open()
                self._tell_what_runs()
                self._write_pending()
                self._account()
                self._revise()
                self._compact()
                self._flush()
                self._savings.poll(self._clock.now())
                self._trouble = ""
        except LedgerError as error:
            self._give_way(error)
        except Exception:  # a boundary: the next tick tries again
            logger.exception("accounts could not be kept this time")
            self._retry_at = time.monotonic() + RETRY_S
        if time.monotonic() >= self._health_at:
            self._tell_health()
            self._health_at = time.monotonic() + HEALTH_S

    def _open(self) -> None:
        if self._ledger is not None:
            return
        ledger = Ledger(self._options.path, leader=self._identity, version=__version__)
        try:
            self._restore()
        except Exception:
            # Nothing is written before it is known up to where the accounts are.
            ledger.close()
            raise
        self._ledger = ledger
        told.show_revisions(self._accountant.revision_grams())
        logger.info("the ledger is %s", self._options.path)

    def _restore(self) -> None:
        now = self._clock.now()
        with LedgerReader(self._options.path) as reader:
            self._accountant.restore(reader.entries(kinds=[Kind.ACCOUNT, Kind.RUN], since=now - PROVISIONAL), now)

    def _give_way(self, error: LedgerError) -> None:
        """Say once what is wrong, and try again later; the operator goes on."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            logger.error("decisions and accounts cannot be recorded: %s", error)
        self._retry_at = time.monotonic() + RETRY_S
        # Whoever was overtaken reads anew up to where the accounts are.
        if self._ledger is not None and (self._ledger.overtaken or not isinstance(error, LedgerUnavailableError)):
            self._ledger.close()
            self._ledger = None
        self._health_at = 0.0

    def _tell_what_runs(self) -> None:
        """Record what started since. Not in a turn: a new leader first reads when what was paused began."""
        with self._witness_lock:
            came, self._came = self._came, []
            if self._scene is not None:
                assembly, now = self._scene.assembly, self._scene.assembly.snapshot.now
                self._outbox.put([self._run_draft(track, assembly, now) for track in came if track.ended is None])

    def _write_pending(self) -> None:
        lost = self._outbox.lost
        if lost:
            why = self._trouble or "more came than could be kept"
            self._append([Draft(kind=Kind.GAP, at=self._clock.now(), body={"lost": lost, "why": why})])
            self._outbox.said(lost)
        while batch := self._outbox.take(BATCH):
            try:
                self._append(batch)
            except LedgerError:
                self._outbox.put_back(batch)
                raise

    def _append(self, drafts: Sequence[Draft], *, alone: bool = False) -> None:
        """Write; a record that JSON cannot hold is left out and counted, the others are written.

        Accounts are written `alone`: not where another leader has written since, who may have accounted the same.
        """
        if self._ledger is None or not drafts:
            return
        drafts = [self._people.disguise(draft) for draft in drafts]
        try:
            self._ledger.append(drafts, alone=alone)
        except ValueError as error:
            if len(drafts) == 1:
                logger.error("a record is left out: %s", error)  # noqa: TRY400 - a sentence, not a trace
                self._outbox.lose(1)
                return
            for draft in drafts:
                self._append([draft], alone=alone)
            return
        self._last_at = drafts[-1].at
        if self._flush_at is None:
            self._flush_at = time.monotonic() + FLUSH_S

    def _flush(self) -> None:
        if self._ledger is not None and self._flush_at is not None and time.monotonic() >= self._flush_at:
            self._ledger.flush()
            self._flush_at = None

    def _account(self) -> None:
        scene = self._scene
        if scene is None or self._ledger is None:
            return
        self._accountant.prices.observe(scene.assembly.snapshot)
        now = self._clock.now()
        settle = min(timedelta(seconds=60), self._options.interval / 4)
        if self._accountant.was_set_back(now):
            why = f"the clock was set back to {now.isoformat()}: accounts go on from where they were before it"
            self._append([Draft(kind=Kind.GAP, at=now, body={"lost": 0, "why": why})])
            self._restore()
        skipped = self._accountant.skipped(now)
        if skipped is not None:
            why = f"nothing was accounted from {skipped[0].isoformat()} to {skipped[1].isoformat()}"
            self._append([Draft(kind=Kind.GAP, at=now, body={"lost": 0, "why": why})])
        for start, end in self._accountant.due(now, settle):
            with self._witness_lock:
                pods = {pod: node for pod, (_, node) in self._witness.pods.items()}
            # Without the lock, for which a turn waits: a Prometheus that does not answer takes minutes.
            samples = self._accountant.samples(start, end, scene, pods)
            if samples is None or not self._is_leader():
                break
            with self._witness_lock:
                drafts = self._accountant.close(start, end, scene, samples)
            self._append(drafts, alone=True)
            self._accountant.closed(drafts, end)
            count_accounts(drafts)
            told.show_revisions(self._accountant.revision_grams())
            self._first = self._first or start
            self._finish_runs(scene, end, self._first)

    def _finish_runs(self, scene: Scene, closed: datetime, first: datetime) -> None:
        """Record gangs whose last interval is accounted: only now is it known what they drew."""
        done = [track for track in self._ended if (track.ended or closed) <= closed]
        if not done:
            return
        with self._witness_lock:
            drafts = [self._run_draft(one, scene.assembly, closed) for one in done if (one.ended or closed) > first]
        self._append(drafts)
        with self._witness_lock:  # a turn adds to it meanwhile
            self._ended = [track for track in self._ended if track not in done]

    def _run_draft(self, track: Track, assembly: Assembly, now: datetime) -> Draft:
        node = next(iter(track.seats.values())).node
        zone = assembly.layout.cell_of_node.get(node, "").partition(".")[0]
        spec = next((z.spec for z in assembly.grid_zones if z.metadata.name == zone), DEFAULT_GRID)
        gpus = sum(seat.gpus for seat in track.seats.values() if seat.end is None) or max(
            seat.gpus for seat in track.seats.values()
        )
        watts = self._accountant.classes.watts(track, float(spec.gpu_rated_power_watts))
        added_kw = expected_kw(gpus, watts, spec)
        metered = 0.0
        track.began = self._accountant.began.get(track.uid)
        if track.ended is not None:
            kwh, estimated, gpu_hours = self._accountant.drawn(track.uid)
            hours = (track.ended - track.start).total_seconds() / 3600.0
            if hours > 0.0 and gpu_hours > 0.0:
                # Of a long run only the last days are at hand: their power for each GPU, for the GPUs that it held. Of
                # one that was paused before a restart, the accounts know more than the pods.
                held = sum(stay.gpus * (stay.end_s - stay.start_s) for stay in track.stays) / 3600.0
                added_kw = kwh / gpu_hours * max(held, gpu_hours) / hours
                host = 1.0 + spec.host_overhead_percent / 100.0
                watts = spec.gpu_idle_power_watts + 1000.0 * kwh / gpu_hours / host
                metered = gpu_hours if estimated < 0.5 * kwh else 0.0
                self._accountant.classes.learn(track.namespace, watts, metered)
        return run_draft(track, assembly.layout, now, added_kw=added_kw, watts_per_gpu=watts, metered_gpu_hours=metered)

    def _revise(self) -> None:
        found = self._accountant.revisions()
        if not found:
            return
        for first in range(0, len(found), BATCH):
            batch = found[first : first + BATCH]
            self._append([draft for draft, _, _ in batch], alone=True)
            # At once: a disk that is full by the next batch must not have this one written again.
            for draft, item, total in batch:
                self._accountant.revised(item, draft, total)
        told.show_revisions(self._accountant.revision_grams())

    def _compact(self) -> None:
        now = self._clock.now()
        if self._ledger is None or now.date().isoformat() == self._compacted_on:
            return
        self._compacted_on = now.date().isoformat()
        try:
            done = compact(self._ledger, now - self._options.retention, now)
        except ChangedRecordError as error:
            # Recording goes on; the old records stay as they are, for `embellie ledger verify`.
            logger.warning("old records are not made into daily accounts: %s", error)
            return
        if done.removed:
            logger.info("%d old records became %d daily accounts", done.removed, done.spans)

    def _tell_health(self) -> None:
        records = size = 0
        try:
            size = self._options.path.stat().st_size
            if self._ledger is not None:
                records = self._ledger.count
        except OSError:
            pass
        told.show_ledger(
            told.LedgerHealth(
                recording=self._ledger is not None and not self._trouble,
                records=records,
                failures=self._outbox.lost_ever,
                last_record_at=self._last_at,
                size_bytes=size,
            )
        )
