# SPDX-License-Identifier: Apache-2.0
"""Bodies of responses on disk, so that a restart does not ask everything again. Losing it costs nothing but time."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from embellie_forecast.folders import replace_bytes

MAX_BYTES = 48 << 20


class DiskCache:
    """A folder of response bodies; keys hold no credential, and a full disk only means no cache."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._bytes = max_bytes
        """How much lies there: counted at the first write, and again whenever it may be too much."""

    def _path(self, url: str, params: Sequence[tuple[str, str]]) -> Path:
        key = hashlib.sha256(json.dumps([url, sorted(params)]).encode()).hexdigest()[:32]
        return self._folder / f"{key}.body"

    def get(self, url: str, params: Sequence[tuple[str, str]], *, now: datetime, fresh_for: timedelta) -> bytes | None:
        """Return a body that was stored at most `fresh_for` ago, and not in the future; None where there is none."""
        try:
            packed = self._path(url, params).read_bytes()
            head, _, body = packed.partition(b"\n")
            about = json.loads(head)
            stored = datetime.fromtimestamp(float(about["stored"]), UTC)
            if not timedelta(0) <= now - stored <= fresh_for:
                return None
            return body if hashlib.sha256(body).hexdigest() == about["sha256"] else None
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    def put(self, url: str, params: Sequence[tuple[str, str]], body: bytes, *, now: datetime) -> None:
        """Store a body, whole or not at all; where the disk refuses, it is asked for again."""
        head = json.dumps({"stored": now.timestamp(), "sha256": hashlib.sha256(body).hexdigest()}).encode()
        packed = head + b"\n" + body
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_bytes(self._path(url, params), packed)
            self._bytes += len(packed)
            if self._bytes > self._max_bytes:
                self._shrink()

    def drop(self, url: str, params: Sequence[tuple[str, str]]) -> None:
        """Forget a body."""
        self._path(url, params).unlink(missing_ok=True)

    def _shrink(self) -> None:
        """Count what lies there; where it is too much the oldest go, and some more, so that it lasts for a while."""
        files = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in self._folder.glob("*.body"))
        self._bytes = sum(size for _, size, _ in files)
        if self._bytes <= self._max_bytes:
            return
        for _, size, file in files:
            if self._bytes <= 0.75 * self._max_bytes:
                return
            file.unlink(missing_ok=True)
            self._bytes -= size
