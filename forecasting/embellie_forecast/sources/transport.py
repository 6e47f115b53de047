# SPDX-License-Identifier: Apache-2.0
"""HTTP for all sources: one session, deadlines, bounded retries, Retry-After, a disk cache, no secrets in errors."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib import metadata
from urllib.parse import urlsplit

import requests

from embellie_forecast.sources.base import Fault, SourceError
from embellie_forecast.sources.credentials import Secret
from embellie_forecast.sources.diskcache import DiskCache

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_BYTES = 64 << 20
CLOCK_TOLERANCE = timedelta(hours=1)
Params = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for what."""

    connect_s: float = 5.0
    silence_s: float = 15.0
    """No byte for so long ends an attempt [s]."""
    attempt_s: float = 60.0
    """An attempt ends after this long, also if bytes still drip in [s]."""
    attempts: int = 3
    backoff_s: float = 1.0
    """The first wait between attempts; it doubles, and each wait is drawn between half and all of it [s]."""
    longest_wait_s: float = 20.0
    """A Retry-After beyond this ends the call; the host is then left alone for that long [s]."""


@dataclass(slots=True)
class Http:
    """Gets bodies. One object serves all sources of a process, so that hosts that ask for peace get it."""

    patience: Patience = field(default_factory=Patience)
    cache: DiskCache | None = None
    pause: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = field(default_factory=lambda: random.SystemRandom().random)
    _session: requests.Session = field(default_factory=requests.Session, init=False, repr=False)
    _last_kept: tuple[str, Params] | None = field(default=None, init=False, repr=False)
    _quiet_until: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def get(
        self,
        url: str,
        *,
        source: str,
        now: datetime,
        params: Params = (),
        secret_params: Mapping[str, Secret] | None = None,
        secret_headers: Mapping[str, Secret] | None = None,
        fresh_for: timedelta = timedelta(0),
    ) -> bytes:
        """Return the body of a 200, from the cache where it is younger than `fresh_for`.

        Raises:
            SourceError: Everything else; the sentence names host and path, never the query.
        """
        if self.cache is not None and fresh_for:
            self._last_kept = (url, params)
            kept = self.cache.get(url, params, now=now, fresh_for=fresh_for)
            if kept is not None:
                return kept
        host = _host(url)
        quiet = self._quiet_until.get(host, 0.0) - time.monotonic()
        if quiet > 0.0:
            raise SourceError(
                Fault.RATE_LIMITED,
                f"{source}: {host} asked to be left alone for {quiet:.0f} s more",
                retry_after_s=quiet,
            )
        query = [*params, *((name, secret.value) for name, secret in (secret_params or {}).items())]
        headers = {name: secret.value for name, secret in (secret_headers or {}).items()}
        body = self._persist(url, query, headers, source=source, now=now)
        if self.cache is not None and fresh_for:
            self.cache.put(url, params, body, now=now)
        return body

    def forget_last(self) -> None:
        """Drop the last body that was kept: it turned out to be of no use, and is asked for again."""
        if self.cache is not None and self._last_kept is not None:
            self.cache.drop(*self._last_kept)

    def _persist(self, url: str, query: Params, headers: Mapping[str, str], *, source: str, now: datetime) -> bytes:
        for attempt in range(1, self.patience.attempts + 1):
            try:
                return self._attempt(url, query, headers, source=source, now=now)
            except SourceError as error:
                last = attempt == self.patience.attempts
                if error.fault not in {Fault.RATE_LIMITED, Fault.UNAVAILABLE, Fault.TIMEOUT}:
                    raise
                wait = self.patience.backoff_s * 2 ** (attempt - 1) * (0.5 + 0.5 * self.jitter())
                if error.retry_after_s is not None:
                    wait = max(error.retry_after_s, 0.0)
                    if last or wait > self.patience.longest_wait_s:
                        self._quiet_until[_host(url)] = time.monotonic() + min(wait, 86_400.0)
                        raise
                if last:
                    raise
                self.pause(min(wait, self.patience.longest_wait_s))
        raise AssertionError("an attempt returns or raises")

    def _attempt(self, url: str, query: Params, headers: Mapping[str, str], *, source: str, now: datetime) -> bytes:
        where = f"{source} ({_host(url)}{urlsplit(url).path[:80]})"
        # Errors are told in our own words and `from None`: those of requests hold the whole query, with the key.
        try:
            with self._session.get(
                url,
                params=list(query),
                headers={"User-Agent": _user_agent(), "Accept-Encoding": "gzip", **headers},
                timeout=(self.patience.connect_s, self.patience.silence_s),
                stream=True,
                allow_redirects=False,
            ) as response:
                _refuse_status(response, where)
                _refuse_clock(response, now, source)
                return self._body(response, where)
        except requests.Timeout:
            raise SourceError(Fault.TIMEOUT, f"{where} stayed silent for {self.patience.silence_s:g} s") from None
        except requests.RequestException as error:
            if "Read timed out" in str(error):
                raise SourceError(Fault.TIMEOUT, f"{where} fell silent for {self.patience.silence_s:g} s") from None
            raise SourceError(Fault.UNAVAILABLE, f"{where} cannot be reached: {type(error).__name__}") from None

    def _body(self, response: requests.Response, where: str) -> bytes:
        began, parts, size = time.monotonic(), [], 0
        for part in response.iter_content(1 << 16):
            parts.append(part)
            size += len(part)
            if size > MAX_BYTES:
                raise SourceError(Fault.MALFORMED, f"{where} sent more than {MAX_BYTES >> 20} MiB")
            if time.monotonic() - began > self.patience.attempt_s:
                raise SourceError(Fault.TIMEOUT, f"{where} took longer than {self.patience.attempt_s:g} s")
        return b"".join(parts)


def _host(url: str) -> str:
    """Return host and port, without the user and the password that a mirror's address may hold."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _refuse_status(response: requests.Response, where: str) -> None:
    status = response.status_code
    if status == 200:
        return
    if status == 401:
        raise SourceError(Fault.UNAUTHORIZED, f"{where} refused the credential (401): renew it")
    if status == 403:
        raise SourceError(
            Fault.FORBIDDEN, f"{where} does not allow this (403): look at what the credential's plan covers"
        )
    if status == 429:
        raise SourceError(
            Fault.RATE_LIMITED, f"{where} was asked too often (429)", retry_after_s=_retry_after(response)
        )
    if status in RETRIED:
        raise SourceError(
            Fault.UNAVAILABLE, f"{where} is not available ({status})", retry_after_s=_retry_after(response)
        )
    if 300 <= status < 400:
        raise SourceError(Fault.MALFORMED, f"{where} has moved ({status}): credentials are not sent elsewhere")
    raise SourceError(Fault.MALFORMED, f"{where} answered with status {status}")


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date; None where it is neither."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - datetime.fromtimestamp(time.time(), UTC)).total_seconds())


def _refuse_clock(response: requests.Response, now: datetime, source: str) -> None:
    try:
        theirs = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return
    if theirs.tzinfo is None:
        return
    apart = now - theirs
    if abs(apart) > CLOCK_TOLERANCE:
        hours = apart.total_seconds() / 3600
        side = "ahead of" if hours > 0 else "behind"
        raise SourceError(
            Fault.CLOCK,
            f"this machine's clock is {abs(hours):.0f} h {side} that of {source}: set it",
        )


def _user_agent() -> str:
    try:
        return f"embellie-forecast/{metadata.version('embellie')}"
    except metadata.PackageNotFoundError:
        return "embellie-forecast"
