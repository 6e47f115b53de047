# SPDX-License-Identifier: Apache-2.0
"""What is kept on disk between questions: responses and archives. Losing it costs time, never a wrong number."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from embellie_forecast.gathering import Gatherer
from embellie_forecast.sources.archive import Archive
from embellie_forecast.sources.base import Licence
from embellie_forecast.sources.catalogue import parse_spec
from embellie_forecast.sources.diskcache import DiskCache
from embellie_forecast.sources.frame import Rows
from embellie_forecast.sources.transport import Http

NOW = datetime(2026, 6, 20, 12, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHO = Licence(name="x", url="", attribution="x")
QUERY = [("zone", "FR")]


def test_a_body_is_kept_for_its_time_and_no_longer_and_not_for_the_past(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.put("http://a/b", QUERY, b"body", now=NOW)
    assert cache.get("http://a/b", QUERY, now=NOW + HOUR, fresh_for=HOUR) == b"body"
    assert cache.get("http://a/b", QUERY, now=NOW + 2 * HOUR, fresh_for=HOUR) is None
    assert cache.get("http://a/b", QUERY, now=NOW - HOUR, fresh_for=HOUR) is None, "the clock has jumped back"
    assert cache.get("http://a/b", [("zone", "DE")], now=NOW, fresh_for=HOUR) is None


def test_a_body_that_was_changed_on_disk_is_asked_for_again(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.put("http://a/b", QUERY, b"body", now=NOW)
    (file,) = tmp_path.glob("*.body")
    for spoilt in (file.read_bytes()[:-1] + b"X", b"", b"garbage", b"{}\nbody"):
        file.write_bytes(spoilt)
        assert cache.get("http://a/b", QUERY, now=NOW, fresh_for=HOUR) is None


def test_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    cache = DiskCache(blocked)
    cache.put("http://a/b", QUERY, b"body", now=NOW)
    assert cache.get("http://a/b", QUERY, now=NOW, fresh_for=HOUR) is None


def test_the_oldest_bodies_go_when_there_are_too_many(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=5_000)
    for k in range(10):
        cache.put(f"http://a/{k}", (), b"x" * 1_000, now=NOW)
    assert 2_500 < sum(file.stat().st_size for file in tmp_path.iterdir()) <= 5_000


def test_a_cache_that_is_full_is_not_counted_at_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: counted.append(1) or glob(folder, pattern))
    cache = DiskCache(tmp_path, max_bytes=50_000)
    for k in range(150):
        cache.put(f"http://a/{k}", (), b"x" * 1_000, now=NOW)
    assert len(counted) < 20


def readings(first: datetime, values: list[float]) -> Any:
    rows = Rows(source="t", licence=WHO, step=HOUR)
    for k, value in enumerate(values):
        rows.add(first + k * HOUR, "ci_direct_g_per_kwh", value)
    return rows.tidy(first, first + len(values) * HOUR, now=NOW)


def test_an_archive_survives_a_restart_and_takes_corrections(tmp_path: Path) -> None:
    first = NOW.replace(minute=0) - 5 * HOUR
    Archive(tmp_path, "neso").add(readings(first, [10.0, 20.0, 30.0]), now=NOW)
    again = Archive(tmp_path, "neso")
    again.add(readings(first + HOUR, [21.0, 31.0, 41.0]), now=NOW)
    assert list(Archive(tmp_path, "neso").frame["ci_direct_g_per_kwh"]) == [10.0, 21.0, 31.0, 41.0]


@pytest.mark.parametrize(
    ("one", "other"), [("file:path=/a_b", "file:path=/a-b"), ("x" * 90 + " hourly", "x" * 90 + " finer")]
)
def test_two_sources_never_share_an_archive(one: str, other: str, tmp_path: Path) -> None:
    Archive(tmp_path, one).add(readings(NOW.replace(minute=0) - HOUR, [10.0]), now=NOW)
    assert not Archive(tmp_path, one).frame.empty
    assert Archive(tmp_path, other).frame.empty


def test_a_file_that_was_put_right_is_read_anew_by_the_next_process(tmp_path: Path) -> None:
    file, first = tmp_path / "grid.csv", NOW.replace(minute=0) - 38 * 24 * HOUR
    spec = parse_spec(f"file:path={file}")
    for direct in (400, 300):
        rows = [f"{first + k * HOUR:%Y-%m-%dT%H:%M:%SZ},{direct + k % 5}" for k in range(38 * 24)]
        file.write_text("timestamp_utc,ci_direct_g_per_kwh\n" + "\n".join(rows))
        _, archive = Gatherer(Http(), tmp_path / "archives").ask(spec, NOW, [])
        assert archive.frame["ci_direct_g_per_kwh"].iloc[0] == direct
        assert len(archive.frame) == 38 * 24


@pytest.mark.parametrize(("minutes", "own_step"), [(15, 96), (60, 0)])
def test_what_is_told_in_quarters_is_kept_in_quarters_too(minutes: int, own_step: int, tmp_path: Path) -> None:
    file, first = tmp_path / "grid.csv", NOW.replace(minute=0) - 24 * HOUR
    slots = [first + timedelta(minutes=minutes) * k for k in range(24 * 60 // minutes)]
    rows = [f"{slot:%Y-%m-%dT%H:%M:%SZ},{200 + k % 7}" for k, slot in enumerate(slots)]
    file.write_text("timestamp_utc,ci_direct_g_per_kwh\n" + "\n".join(rows))
    gatherer, spec = Gatherer(Http(), None), parse_spec(f"file:path={file}")
    _, hours = gatherer.ask(spec, NOW, [])
    assert (len(hours.frame), len(gatherer.fine(spec).frame)) == (24, own_step)


@pytest.mark.parametrize(("hourly", "days"), [(True, 800), (False, 60)])
def test_an_archive_grows_no_older_than_it_is_kept(hourly: bool, days: int) -> None:
    archive = Archive(None, "neso", hourly=hourly)
    newest = NOW.replace(minute=0) - HOUR
    for age in (timedelta(days=days), timedelta(days=days) - HOUR, timedelta(0)):
        archive.add(readings(newest - age, [10.0]), now=NOW)
    assert list(archive.frame.index) == [newest - timedelta(days=days) + HOUR, newest]


def test_an_archive_that_was_torn_begins_anew(tmp_path: Path) -> None:
    Archive(tmp_path, "neso").add(readings(NOW.replace(minute=0) - HOUR, [10.0]), now=NOW)
    (file,) = tmp_path.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    assert Archive(tmp_path, "neso").frame.empty


def test_what_a_clock_that_ran_ahead_has_left_behind_goes(tmp_path: Path) -> None:
    archive = Archive(tmp_path, "neso")
    ahead = NOW + timedelta(days=1)
    rows = Rows(source="t", licence=WHO, step=HOUR)
    rows.add(ahead.replace(minute=0), "ci_direct_g_per_kwh", 10.0)
    archive.add(rows.tidy(NOW, ahead + HOUR, now=ahead), now=ahead)
    archive.add(readings(NOW.replace(minute=0) - HOUR, [20.0]), now=NOW)
    assert archive.frame.index.max() < pd.Timestamp(NOW)


def test_a_page_that_came_instead_of_old_hours_is_not_kept_in_their_place(
    feed_of: Callable[[str], Any], behaviour: Any, tmp_path: Path
) -> None:
    feed = feed_of("eia")
    feed.http.cache = DiskCache(tmp_path / "responses")
    gatherer, archive = Gatherer(feed.http, None), Archive(None, "eia")
    archive.add(readings(NOW.replace(minute=0) - timedelta(days=60), [10.0]), now=NOW)
    feed.server.behaviour = behaviour(body=lambda _body: b"<html>sign in to the guest network</html>")
    assert not gatherer.older(feed.source, archive, NOW, timedelta(days=90))
    feed.server.behaviour = behaviour()
    assert gatherer.older(feed.source, archive, NOW, timedelta(days=90))


def test_old_hours_that_could_not_be_had_are_asked_for_again_hours_later(
    feed_of: Callable[[str], Any], behaviour: Any
) -> None:
    feed = feed_of("eia")
    gatherer, archive = Gatherer(feed.http, None), Archive(None, "eia")
    archive.add(readings(NOW.replace(minute=0) - timedelta(days=60), [10.0]), now=NOW)
    feed.server.behaviour = behaviour(reply=lambda *_: (403, {}, b""))
    for _ in range(9):
        assert not gatherer.older(feed.source, archive, NOW, timedelta(days=90))
    assert len(feed.server.requests) == 3, "nor is a source that refuses asked twice a second"
    feed.server.behaviour = behaviour()
    assert not gatherer.older(feed.source, archive, NOW + HOUR, timedelta(days=90))
    feed.server.now = NOW + 7 * HOUR
    assert gatherer.older(feed.source, archive, NOW + 7 * HOUR, timedelta(days=90))


def test_old_hours_are_asked_for_once_and_no_key_is_written_to_disk(
    feed_of: Callable[[str], Any], tmp_path: Path
) -> None:
    feed = feed_of("eia")
    feed.http.cache = DiskCache(tmp_path / "responses")
    begin = NOW - timedelta(days=60)
    for _ in range(2):
        feed.read(begin, begin + timedelta(days=1))
    assert len(feed.server.requests) == 1
    kept = b"".join(file.read_bytes() for file in (tmp_path / "responses").iterdir())
    assert b"s3cr3t" not in kept
