# SPDX-License-Identifier: Apache-2.0
"""Keeps the savings' metrics fresh: the report of the last day, week and month, made by a process of its own.

Replaying a month takes many seconds of processor time; beside the loop, in the same interpreter, it would delay turns.
"""

import json
import logging
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from embellie.domain.reasons import SignalKind
from embellie.telemetry.metrics import accounts as told

logger = logging.getLogger(__name__)

WINDOWS = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
EVERY_S = 3600.0
"""Real time between two rounds [s]."""
GIVE_UP_S = 900.0
_LOW_PRIORITY = "import os; os.nice(19); from embellie.cli.main import main; main()"


class SavingsDesk:
    """Asks for one report after another, never waiting for any."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._queue: list[str] = []
        self._running: tuple[str, float, subprocess.Popen[bytes]] | None = None
        self._next_at = time.monotonic() + 60.0
        self._shown: dict[str, list[told.Saving]] = {}

    def poll(self, now: datetime) -> None:
        """Take in what is ready, and start what is due; `now` is in the operator's clock."""
        if self._running is not None:
            self._collect()
        elif self._queue:
            self._start(self._queue.pop(0), now)
        elif time.monotonic() >= self._next_at:
            self._queue = list(WINDOWS)
            self._next_at = time.monotonic() + EVERY_S

    def stop(self) -> None:
        """End what still runs."""
        if self._running is not None:
            self._running[2].kill()
            self._running[2].wait()
            self._out(self._running[0]).unlink(missing_ok=True)
            self._running = None

    def _start(self, window: str, now: datetime) -> None:
        end = now.replace(minute=0, second=0, microsecond=0)
        command = [
            sys.executable, "-c", _LOW_PRIORITY, "report", "--ledger", str(self._ledger), "--by", "zone",
            "--format", "json", "--from", (end - WINDOWS[window]).isoformat(), "--to", end.isoformat(),
            "--out", str(self._out(window)),
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._running = (window, time.monotonic(), process)

    def _out(self, window: str) -> Path:
        return self._ledger.with_name(f"{self._ledger.name}.savings-{window}.json")

    def _collect(self) -> None:
        if self._running is None:
            return
        window, began, process = self._running
        if process.poll() is None:
            if time.monotonic() - began > GIVE_UP_S:
                logger.warning("the savings of %s took too long and are left as they were", window)
                self.stop()
            return
        self._running = None
        said = process.stderr.read().decode(errors="replace") if process.stderr is not None else ""
        if process.stderr is not None:
            process.stderr.close()
        if process.returncode != 0:
            # Most often there are no accounts of the window yet.
            logger.info("no savings of %s: %s", window, said.strip()[-300:])
            return
        try:
            document = json.loads(self._out(window).read_text(encoding="utf-8"))
            self._out(window).unlink()
            self._shown[window] = savings_of(document, window)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("the savings of %s cannot be read: %s", window, error)
            return
        told.show_savings([saving for found in self._shown.values() for saving in found])


def savings_of(document: dict[str, Any], window: str) -> list[told.Saving]:
    """Read the savings of a report, the cluster's and by zone; none where the report refused them."""
    whole = document["cluster"]["saving"]
    if whole is None:
        return []
    kind = SignalKind(whole["signalKind"])
    cluster = {**whole, "shiftedKwh": whole["shiftedKwh"]["value"], "peakChangeKw": None}
    found = {told.WHOLE: cluster} | {row["name"]: row["saving"] for row in document["rows"]}
    return [_saving(zone, saving, kind, window) for zone, saving in found.items() if saving is not None]


def _saving(zone: str, saving: dict[str, Any], kind: SignalKind, window: str) -> told.Saving:
    saved, peak = saving["savedKg"], saving["peakChangeKw"]
    return told.Saving(
        zone=zone,
        signal_kind=kind,
        window=window,
        saved_grams=(1000.0 * saved["low"], 1000.0 * saved["value"], 1000.0 * saved["high"]),
        naive_grams=1000.0 * saving["naiveKg"],
        lost_gpu_seconds=3600.0 * saving["gpuHoursLost"],
        shifted_joules=3.6e6 * saving["shiftedKwh"],
        peak_change_watts=None if peak is None else 1000.0 * peak["value"],
    )
