# SPDX-License-Identifier: Apache-2.0
"""Every adapter against a server that answers as documented, and then in every way that feeds are known to fail."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from adapters import BEGIN, END, HOUR, NOW, FeedOf, every_adapter, every_web_adapter

from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.electricitymaps import ElectricityMaps
from embellie_forecast.sources.files import FileSource
from embellie_forecast.sources.frame import Rows
from embellie_forecast.sources.openmeteo import OpenMeteo, OpenMeteoPreviousRuns
from embellie_forecast.sources.prometheus import PrometheusMeter
from embellie_forecast.sources.transport import Http

SECRET = "s3cr3t-t0ken"
SPOILT = END - timedelta(hours=7)
"""The hour that a test spoils."""


def same(found: pd.DataFrame, truth: Any, column: str, step: timedelta, skip: tuple[datetime, ...] = ()) -> None:
    """Require the hourly truth in every hour, and nothing in the hours to skip."""
    want = truth(BEGIN, END, column, step)
    got = found[column].reindex(want.index)
    for hour in skip:
        assert math.isnan(got[hour]), f"{column} of {hour} is {got[hour]}"
    keep = [hour for hour in want.index if hour not in skip]
    assert np.allclose(got[keep], want[keep], atol=0.06), (column, (got - want).abs().max())


@every_adapter
def test_the_documented_format_comes_out_as_one_tidy_frame(name: str, feed_of: FeedOf, truth: Any) -> None:
    feed = feed_of(name)
    found = feed.read(BEGIN, END)
    for column in feed.kind.columns:
        same(found, truth, column, feed.kind.step)
    assert str(found.index.tz) == "UTC"
    assert found.index.is_unique
    assert found.index.is_monotonic_increasing
    assert found["estimated"].dtype == bool
    assert (found["known_at"] <= pd.Timestamp(NOW)).all()
    assert feed.source.licence.name
    assert feed.source.licence.attribution
    assert feed.source.usual_delay >= timedelta(0)


@every_web_adapter
@pytest.mark.parametrize(
    ("status", "fault"),
    [(401, Fault.UNAUTHORIZED), (403, Fault.FORBIDDEN), (400, Fault.MALFORMED), (302, Fault.MALFORMED)],
)
def test_a_refusal_is_one_clear_error_without_the_credential(
    name: str, status: int, fault: Fault, feed_of: FeedOf, behaviour: Any
) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(reply=lambda *_: (status, {"Location": "http://127.0.0.1:9/"}, SECRET.encode()))
    with pytest.raises(SourceError) as refused:
        feed.read(BEGIN, END)
    assert refused.value.fault is fault
    assert str(status) in str(refused.value)
    assert ("has moved" in str(refused.value)) is (status == 302)
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(refused.value.__cause__)
    assert feed.waits == []


@pytest.mark.parametrize("source", [OpenMeteo, OpenMeteoPreviousRuns])
def test_a_commercial_key_goes_to_the_customers_host_and_no_key_to_the_free_one(
    source: type[OpenMeteo], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def get(_self: Http, url: str, **_more: object) -> bytes:
        asked.append(url.split("/")[2])
        return b"{}"

    monkeypatch.setattr(Http, "get", get)
    for key in ("", SECRET):
        monkeypatch.setenv("OPENMETEO_API_KEY", key)
        with pytest.raises(SourceError):
            source(Http(), [(48.9, 2.4)]).read(BEGIN, END, now=NOW)
    free, paid = asked
    assert not free.startswith("customer-")
    assert paid == f"customer-{free}"


def test_a_password_in_a_mirrors_address_is_told_to_nobody(feed_of: FeedOf, behaviour: Any) -> None:
    feed = feed_of("prometheus")
    source = PrometheusMeter(feed.http, "up", url=feed.server.url.replace("http://", f"http://embellie:{SECRET}@"))
    for reply in ((401, {}, b""), (429, {"Retry-After": "600"}, b""), None):
        feed.server.behaviour = behaviour(reply=lambda *_, reply=reply: reply)
        with pytest.raises(SourceError) as refused:
            source.read(BEGIN, END, now=NOW)
        assert "127.0.0.1" in str(refused.value)
        assert SECRET not in str(refused.value)


@every_web_adapter
def test_429_with_retry_after_is_waited_for_and_then_answered(
    name: str, feed_of: FeedOf, behaviour: Any, truth: Any
) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(reply=lambda _s, n: (429, {"Retry-After": "7"}, b"") if n == 1 else None)
    same(feed.read(BEGIN, END), truth, feed.kind.column, feed.kind.step)
    assert feed.waits == [7.0]


@every_web_adapter
def test_a_long_retry_after_leaves_the_host_in_peace(name: str, feed_of: FeedOf, behaviour: Any) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(reply=lambda *_: (429, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}, b""))
    for _ in range(3):
        with pytest.raises(SourceError) as refused:
            feed.read(BEGIN, END)
        assert refused.value.fault is Fault.RATE_LIMITED
        assert refused.value.retry_after_s is not None
    assert len(feed.server.requests) == 1
    assert feed.waits == []


@every_web_adapter
@pytest.mark.parametrize("status", [429, 503])
def test_without_retry_after_it_backs_off_twice_and_gives_up(
    name: str, status: int, feed_of: FeedOf, behaviour: Any, truth: Any
) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(reply=lambda *_: (status, {}, b""))
    with pytest.raises(SourceError) as refused:
        feed.read(BEGIN, END)
    assert refused.value.fault in {Fault.RATE_LIMITED, Fault.UNAVAILABLE}
    assert feed.waits == [1.0, 2.0]
    feed.server.behaviour = behaviour()
    same(feed.read(BEGIN, END), truth, feed.kind.column, feed.kind.step)


@every_web_adapter
def test_silence_ends_in_time(name: str, feed_of: FeedOf, behaviour: Any) -> None:
    feed = feed_of(name)
    feed.http.patience = type(feed.http.patience)(silence_s=0.05, attempts=2)
    feed.server.behaviour = behaviour(silence_s=0.4)
    with pytest.raises(SourceError) as refused:
        feed.read(BEGIN, END)
    assert refused.value.fault is Fault.TIMEOUT
    assert len(feed.waits) == 1


@every_adapter
def test_an_answer_that_is_cut_off_is_refused(name: str, feed_of: FeedOf, behaviour: Any) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(body=lambda body: body[: len(body) * 2 // 3])
    if name in {"csv", "bundle"}:
        # A CSV that was cut between two lines cannot be told from a short one: it ends early, and says nothing wrong.
        found = feed.read(BEGIN, END)
        assert found.index[-1] < pd.Timestamp(END - 5 * HOUR)
        return
    with pytest.raises(SourceError) as refused:
        feed.read(BEGIN, END)
    assert refused.value.fault is Fault.MALFORMED


@every_web_adapter
def test_a_connection_that_breaks_off_is_tried_again(name: str, feed_of: FeedOf, behaviour: Any) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(short_length=True)
    with pytest.raises(SourceError) as refused:
        feed.read(BEGIN, END)
    assert refused.value.fault in {Fault.UNAVAILABLE, Fault.TIMEOUT}
    assert len(feed.waits) == 2


@every_adapter
@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><html><body>Sign in</body></html>", b"<html>Sorry</html>", b"", b"\xff\xfe\x00"]
)
def test_a_page_instead_of_data_is_refused(name: str, page: bytes, feed_of: FeedOf, behaviour: Any) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(body=lambda _: page)
    with pytest.raises(SourceError) as refused:
        feed.read(BEGIN, END)
    assert refused.value.fault is Fault.MALFORMED


@every_adapter
@pytest.mark.parametrize(
    "write", [str, lambda v: f"{v:.1f}".replace(".", ","), lambda v: f"{v:.1e}" if v == 0 else f" {v} "]
)
def test_numbers_as_text_and_with_decimal_commas_are_the_same_numbers(
    name: str, write: Callable[[float], str], feed_of: FeedOf, behaviour: Any, truth: Any
) -> None:
    if name == "parquet":
        pytest.skip("a Parquet file has types")
    feed = feed_of(name)
    feed.server.behaviour = behaviour(write=write)
    same(feed.read(BEGIN, END), truth, feed.kind.column, feed.kind.step)


@every_adapter
@pytest.mark.parametrize(
    "change", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2025, 10, 26, tzinfo=UTC)], ids=["spring", "autumn"]
)
def test_every_hour_of_a_clock_change_is_there_once(name: str, change: datetime, feed_of: FeedOf, truth: Any) -> None:
    feed = feed_of(name)
    begin, end = change - timedelta(hours=12), change + timedelta(hours=24)
    found = feed.read(begin, end)[feed.kind.column]
    want = truth(begin, end, feed.kind.column, feed.kind.step)
    assert list(found.index) == list(want.index)
    assert np.allclose(found, want, atol=0.06)


def again(records: list[Any], spoil: Callable[[dict[str, float]], dict[str, float]] = dict) -> list[Any]:
    return [
        x
        for moment, values in records
        for x in ([(moment, values)] + ([(moment, spoil(values))] if moment.replace(minute=0) == SPOILT else []))
    ]


@every_adapter
def test_an_hour_that_is_there_twice_counts_once(name: str, feed_of: FeedOf, behaviour: Any, truth: Any) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(mangle=again)
    same(feed.read(BEGIN, END), truth, feed.kind.column, feed.kind.step)


@every_adapter
def test_two_values_for_one_hour_are_both_not_believed(name: str, feed_of: FeedOf, behaviour: Any, truth: Any) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(mangle=lambda r: again(r, lambda v: {k: x * 1.02 + 0.3 for k, x in v.items()}))
    same(feed.read(BEGIN, END), truth, feed.kind.column, feed.kind.step, skip=(SPOILT,))


@every_adapter
def test_a_missing_hour_is_unknown_and_moves_no_other(name: str, feed_of: FeedOf, behaviour: Any, truth: Any) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(mangle=lambda r: [x for x in r if x[0].replace(minute=0) != SPOILT])
    same(feed.read(BEGIN, END), truth, feed.kind.column, feed.kind.step, skip=(SPOILT,))


@every_adapter
def test_a_time_of_which_nothing_is_known_is_one_clear_error(name: str, feed_of: FeedOf, behaviour: Any) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(mangle=lambda _: [])
    with pytest.raises(SourceError) as refused:
        feed.read(BEGIN, END)
    assert refused.value.fault in {Fault.EMPTY, Fault.MALFORMED, Fault.STALE}


@every_adapter
def test_hours_out_of_order_are_put_in_order(name: str, feed_of: FeedOf, behaviour: Any, truth: Any) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(mangle=lambda r: r[::-2] + r[-2::-2])
    same(feed.read(BEGIN, END), truth, feed.kind.column, feed.kind.step)


@every_adapter
@pytest.mark.parametrize("absurd", [1e9, -5000.0])
def test_an_absurd_value_is_unknown_and_harms_no_other(
    name: str, absurd: float, feed_of: FeedOf, behaviour: Any, truth: Any
) -> None:
    feed = feed_of(name)
    feed.server.behaviour = behaviour(
        mangle=lambda r: [(m, dict.fromkeys(v, absurd) if m.replace(minute=0) == SPOILT else v) for m, v in r]
    )
    same(feed.read(BEGIN, END), truth, feed.kind.column, feed.kind.step, skip=(SPOILT,))
    readings = feed.source.read(BEGIN, END, now=NOW)
    assert any("lies outside" in note for note in readings.notes)


@every_web_adapter
def test_a_clock_that_is_wrong_by_a_day_is_told(name: str, feed_of: FeedOf) -> None:
    feed = feed_of(name)
    for wrong in (NOW + timedelta(days=1), NOW - timedelta(days=1)):
        with pytest.raises(SourceError, match="clock") as refused:
            feed.read(BEGIN, END, now=wrong)
        assert refused.value.fault is Fault.CLOCK


@pytest.mark.parametrize("name", ["eco2mix", "electricitymaps", "csv"])
def test_a_measurement_from_the_future_tells_of_a_wrong_clock(
    name: str, feed_of: FeedOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = feed_of(name)
    monkeypatch.setattr("embellie_forecast.sources.transport._refuse_clock", lambda *_: None)
    with pytest.raises(SourceError, match="set this machine's clock"):
        feed.read(BEGIN, END, now=NOW - timedelta(hours=25))


@pytest.mark.parametrize("name", ["eia", "entsoe", "electricitymaps"])
def test_without_a_credential_it_says_which_one_to_set(
    name: str, feed_of: FeedOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = feed_of(name)
    for variable in ("EIA_API_KEY", "ELECTRICITYMAPS_TOKEN", "ENTSOE_API_KEY"):
        monkeypatch.delenv(variable)
    with pytest.raises(SourceError, match="_FILE") as refused:
        feed.read(BEGIN, END)
    assert refused.value.fault is Fault.NOT_CONFIGURED
    assert feed.server.requests == []


def test_a_credential_may_lie_in_a_file(feed_of: FeedOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("EIA_API_KEY", raising=False)
    feed = feed_of("eia")
    (tmp_path / "key").write_text(" from-a-file \n")
    monkeypatch.setenv("EIA_API_KEY_FILE", str(tmp_path / "key"))
    feed.read(BEGIN, END)
    assert feed.server.requests[0][1]["api_key"] == ["from-a-file"]


@pytest.mark.parametrize("rows", [-1, 3])
def test_times_without_a_zone_are_refused(rows: int, feed_of: FeedOf, behaviour: Any) -> None:
    feed = feed_of("csv")
    feed.server.behaviour = behaviour(body=lambda body: body.replace(b"Z;", b";", rows))
    with pytest.raises(SourceError, match=r"has no zone.*\('20"):
        feed.read(BEGIN, END)


def test_columns_in_capitals_and_with_blanks_are_those_columns(tmp_path: Path) -> None:
    file = tmp_path / "grid.csv"
    rows = [f"{BEGIN + k * HOUR:%Y-%m-%dT%H:%M:%SZ},{300 + k}" for k in range(24)]
    file.write_text("Timestamp_UTC, CI_Lifecycle_g_per_kWh\n" + "\n".join(rows))
    found = FileSource(file).read(BEGIN, END, now=NOW)
    assert found.frame["ci_lifecycle_g_per_kwh"].iloc[0] == 300.0


def test_the_least_and_the_most_that_there_can_be_are_believed_and_a_third_of_an_hour_is_not() -> None:
    third = timedelta(minutes=20)
    rows = Rows(source="x", licence=Licence(name="x", url="", attribution="x"), step=third)
    told = [0.0, 100.0, 100.0, 40.0, 60.0, None, 50.0, None, None, 100.1, -0.1, 50.0]
    for k, value in enumerate(told):
        rows.add(BEGIN + k * third, "re_pct", value)
    found = rows.tidy(BEGIN, BEGIN + 4 * HOUR, now=NOW).hourly().frame["re_pct"]
    np.testing.assert_allclose(found, [200.0 / 3.0, 50.0, np.nan, np.nan])


def test_a_life_cycle_intensity_in_kilograms_is_not_taken_for_a_clean_grid(tmp_path: Path) -> None:
    file = tmp_path / "grid.csv"
    rows = [f"{BEGIN + k * HOUR:%Y-%m-%dT%H:%M:%SZ},0.{300 + k},0.{200 + k}" for k in range(24)]
    file.write_text("timestamp_utc,ci_lifecycle_g_per_kwh,ci_direct_g_per_kwh\n" + "\n".join(rows))
    with pytest.raises(SourceError, match="is it in kg/kWh"):
        FileSource(file).read(BEGIN, END, now=NOW)


def test_a_plan_that_covers_the_last_day_only_still_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", SECRET)

    class Free(Http):
        def get(self, url: str, **_: Any) -> bytes:
            if "past-range" in url:
                raise SourceError(Fault.FORBIDDEN, "403")
            value = "carbonIntensity" if "carbon-intensity" in url else "renewablePercentage"
            hours = [{"datetime": f"{END - (k + 1) * HOUR:%Y-%m-%dT%H:%M:%SZ}", value: 40 + k} for k in range(24)]
            return json.dumps({"history": hours}).encode()

    found = ElectricityMaps(Free(), "DE").read(NOW.replace(minute=0) - timedelta(days=35), NOW, now=NOW)
    assert found.frame["ci_lifecycle_g_per_kwh"].notna().sum() == 24
