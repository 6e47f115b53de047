# SPDX-License-Identifier: Apache-2.0
"""Grid data and prices that come late, are holed or absurd: what was booked is revised, and nothing is lost."""

import os
import zlib
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from recorder import HOUR, T0, Desk, Hand, Meters

from embellie.domain.reasons import SignalKind
from embellie.ledger import Kind
from embellie.telemetry.intensity import read_intensity
from embellie.telemetry.metrics import REGISTRY
from embellie.telemetry.metrics import accounts as told
from embellie.telemetry.tariffs import read_tariffs
from embellie.telemetry.zone_files import ZoneFileError


def test_late_grid_data_makes_a_revision_whose_difference_is_visible(tmp_path: Path) -> None:
    folder = tmp_path / "intensity"
    folder.mkdir()
    series = folder / "west.csv"
    series.write_text(
        "timestamp_utc,ci_lifecycle_g_per_kwh,estimated\n2026-07-01T00:00:00Z,400,1\n2026-07-01T01:00:00Z,400,1\n"
    )
    desk = Desk(tmp_path, Hand(T0), Meters())
    desk.turn()
    desk.clock.moment += timedelta(minutes=20)
    desk.turn()
    series.write_text(
        "timestamp_utc,ci_lifecycle_g_per_kwh,estimated\n2026-07-01T00:00:00Z,250,0\n2026-07-01T01:00:00Z,400,1\n"
    )
    os.utime(series, (1, 1))
    desk.turn()
    desk.turn()
    first, revision = desk.entries(Kind.ACCOUNT)
    assert first["adds"]["grams"]["AverageLifecycle"] == pytest.approx(400 * 1.8)
    assert (revision["revision"], revision["why"]) == (1, "late grid data")
    assert revision["adds"]["grams"]["AverageLifecycle"] == pytest.approx(-150 * 1.8)
    assert "kwh" not in revision["adds"]
    assert [p["gPerKwh"] for p in (*revision["before"], *revision["signals"])] == [400.0, 250.0]


def grid_series(folder: Path, text: str) -> None:
    """Write a zone's measured intensity; each text has another time of change."""
    path = folder / "intensity" / "west.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    changed = zlib.crc32(text.encode())
    os.utime(path, (changed, changed))


def shown(folder_zone: str = "west") -> float | None:
    labels = {"zone": folder_zone, "signal_kind": "AverageLifecycle"}
    return REGISTRY.get_sample_value("embellie_emissions_revision_grams", labels)


QUARTER_DAY = timedelta(hours=6)
HEADER = "timestamp_utc,ci_lifecycle_g_per_kwh,ci_direct_g_per_kwh,estimated\n"


def test_a_restart_among_revisions_older_than_what_is_read_back_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The first count of an interval may be older than three days, and its revision younger."""
    rows = [f"{(T0 + k * HOUR).isoformat()},400,,1\n" for k in range(130)]
    grid_series(tmp_path, HEADER + "".join(rows))
    clock = Hand(T0)
    first = Desk(tmp_path, clock, Meters(), interval=QUARTER_DAY)
    first.turns(6, QUARTER_DAY)
    # A day late, all that is still open is replaced.
    grid_series(tmp_path, HEADER + "".join(row.replace("400,,1", "250,,0") for row in rows))
    first.turns(8, QUARTER_DAY)
    first.stop()
    clock.moment += 2 * QUARTER_DAY
    second = Desk(tmp_path, clock, Meters(), interval=QUARTER_DAY)
    second.turns(3, QUARTER_DAY)
    accounts = second.entries(Kind.ACCOUNT)
    moments = [datetime.fromisoformat(a["start"]) for a in accounts if a["revision"] == 0]
    assert moments == [T0 + k * QUARTER_DAY for k in range(len(moments))]
    assert moments[-1] == clock.moment - 3 * QUARTER_DAY, "all but the interval that is not over by a minute yet"
    assert any(a["revision"] for a in accounts)
    grams = sum(a["adds"]["grams"]["AverageLifecycle"] for a in accounts)
    assert grams == pytest.approx(250 * 6 * 7.2 * len(moments))
    second.stop()


def test_what_late_data_changed_in_the_last_three_days_is_shown_again_after_a_restart(tmp_path: Path) -> None:
    rows = [f"{(T0 + k * HOUR).isoformat()},400,,1\n" for k in range(130)]
    grid_series(tmp_path, HEADER + "".join(rows))
    clock = Hand(T0)
    first = Desk(tmp_path, clock, Meters(), interval=QUARTER_DAY)
    first.turns(3, QUARTER_DAY)
    assert shown() == pytest.approx(0.0)
    grid_series(tmp_path, HEADER + "".join(row.replace("400,,1", "250,,0") for row in rows[:6]) + "".join(rows[6:]))
    first.turn()
    first.turn()
    assert shown() == pytest.approx(-150 * 6 * 7.2)
    first.stop()
    told.show_revisions({})
    second = Desk(tmp_path, clock, Meters(), interval=QUARTER_DAY)
    second.turn()
    assert shown() == pytest.approx(-150 * 6 * 7.2)
    for _ in range(12):
        clock.moment += QUARTER_DAY
        second.turn()
    assert shown() == pytest.approx(0.0), "those hours are more than three days ago"
    starts = [account["start"] for account in second.entries(Kind.ACCOUNT) if account["revision"] == 0]
    assert len(starts) == len(set(starts)), "a revision of an old interval is not where the accounts go on"
    second.stop()


def test_a_ledger_whose_accounts_cannot_be_read_back_is_not_written_to(desk: Desk, tmp_path: Path) -> None:
    desk.turn()
    desk.clock.moment += HOUR
    desk.turn()
    desk.stop()
    before = len(desk.entries())
    after = Desk(tmp_path, desk.clock, Meters())

    def unreadable(*_: object) -> None:
        raise KeyError("kwh")

    restore = after.recorder._accountant.restore
    after.recorder._accountant.restore = unreadable  # type: ignore[method-assign]
    after.turn()
    after.turn()
    assert len(desk.entries()) == before
    after.recorder._accountant.restore = restore  # type: ignore[method-assign]
    after.turn()
    assert after.recorder._accountant.cursor == T0 + timedelta(minutes=45)


def test_a_kind_of_signal_that_comes_late_takes_nothing_from_the_kind_that_was_booked(tmp_path: Path) -> None:
    hour = T0.isoformat()
    grid_series(tmp_path, HEADER + f"{hour},400,,1\n")
    desk = Desk(tmp_path, Hand(T0), Meters(), interval=HOUR)
    desk.turn()
    desk.clock.moment += HOUR + timedelta(minutes=2)
    desk.turn()
    grid_series(tmp_path, HEADER + f"{hour},,350,0\n")
    desk.turn()
    desk.turn()
    grid_series(tmp_path, HEADER + f"{hour},,,0\n{hour},,320,0\n")
    desk.turn()
    desk.turn()
    accounts = desk.entries(Kind.ACCOUNT)
    assert [a["revision"] for a in accounts] == [0, 1, 2]
    sums: dict[str, float] = {}
    for account in accounts:
        for kind, grams in account["adds"]["grams"].items():
            sums[kind] = sums.get(kind, 0.0) + grams
    assert sums == {"AverageLifecycle": pytest.approx(400 * 7.2), "AverageDirect": pytest.approx(320 * 7.2)}
    priced = sum(a["adds"].get("seconds", {}).get("pricedAverageLifecycle", 0.0) for a in accounts)
    assert priced == pytest.approx(3600)


def test_prices_are_booked_and_one_that_comes_late_is_added_by_a_revision(tmp_path: Path) -> None:
    folder = tmp_path / "prices"
    folder.mkdir()
    desk = Desk(tmp_path, Hand(T0), Meters())
    desk.turn()
    desk.clock.moment += timedelta(minutes=20)
    desk.turn()
    (folder / "west.csv").write_text("timestamp_utc,price_eur_per_mwh\n2026-07-01T00:00:00Z,-20\n")
    desk.turn()
    desk.turn()
    first, revision = desk.entries(Kind.ACCOUNT)
    assert first["tariff"] is None
    assert "cost" not in first["adds"]
    assert revision["tariff"] == {"perMwh": -20.0, "currency": "EUR", "source": "west.csv"}
    assert revision["adds"]["cost"] == {"EUR": pytest.approx(-20 * 1.8 / 1000)}
    assert "grams" not in revision["adds"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("timestamp_utc,price\n2026-07-01T00:00:00Z,1\n", "one price such as price_eur_per_mwh"),
        ("timestamp_utc,price_eur_per_mwh,price_usd_per_mwh\n2026-07-01T00:00:00Z,1,2\n", "more than one currency"),
        ('timestamp_utc,price_eur_per_mwh\n"' + "2026-07-01T00:00:00Z,1\n" * 8760, "stray quotation mark"),
    ],
)
def test_a_price_file_that_cannot_be_used_says_how_to_mend_it(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "west.csv"
    path.write_text(text)
    with pytest.raises(ZoneFileError, match=words):
        read_tariffs(path)


def test_prices_ahead_repeat_the_last_known_day_and_start_only_where_they_are_known(tmp_path: Path) -> None:
    path = tmp_path / "west.csv"
    rows = "".join(f"{(T0 + k * HOUR).isoformat()},{k}\n" for k in range(30))
    path.write_text(f"timestamp_utc,price_usd_per_mwh\n{rows}")
    tariffs = read_tariffs(path)
    assert tariffs.currency == "USD"
    ahead = tariffs.ahead(T0 + 2 * HOUR, HOUR, 96)
    assert ahead is not None
    assert ahead[:30].tolist() == [*range(2, 30), 6, 7]
    assert ahead[95] == ahead[95 - 24]
    assert tariffs.ahead(T0 + 40 * HOUR, HOUR, 24) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,ci\n1,2\n", "columns timestamp_utc"),
        ("timestamp_utc,ci_direct_g_per_kwh\n2026-07-01T00:00:00,1\n", "no time zone"),
        ("timestamp_utc,ci_direct_g_per_kwh\nyesterday,1\n", "is no time"),
        ("timestamp_utc,ci_direct_g_per_kwh\n2026-07-01T00:00:00Z,1\n2026-07-01T00:07:00Z,1\n", "15, 30 or 60"),
        ("timestamp_utc,ci_lifecycle_g_per_kwh\n2026-07-01T00:00:00Z,0.31\n", "is it in kg/kWh"),
    ],
)
def test_an_intensity_file_that_cannot_be_used_says_how_to_mend_it(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "west.csv"
    path.write_text(text)
    with pytest.raises(ZoneFileError, match=words):
        read_intensity(path)


def test_a_file_that_a_spreadsheet_wrote_is_read_in_spite_of_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "west.csv"
    path.write_text("timestamp_utc,price_eur_per_mwh\n2026-07-01T00:00:00Z,84.2\n", encoding="utf-8-sig")
    assert read_tariffs(path).at(T0) == 84.2


def test_holes_and_absurd_values_of_a_grid_series_are_holes_and_kinds_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "west.csv"
    path.write_text(
        "timestamp_utc,ci_lifecycle_g_per_kwh,ci_marginal_g_per_kwh\n2026-07-01T00:00:00Z,,700\n"
        "2026-07-01T01:00:00Z,-5,nan\n2026-07-01T02:00:00Z,9999,1\n2026-07-01T02:00:00Z,310,1\n"
    )
    found = read_intensity(path)
    assert found.at(SignalKind.AVERAGE_LIFECYCLE, T0) is None
    assert found.at(SignalKind.AVERAGE_LIFECYCLE, T0 + HOUR) is None
    revised = found.at(SignalKind.AVERAGE_LIFECYCLE, T0 + 2.5 * HOUR)
    assert revised is not None
    assert revised.g_per_kwh == 310
    assert found.at(SignalKind.AVERAGE_DIRECT, T0) is None
    marginal = found.at(SignalKind.MARGINAL, T0)
    assert marginal is not None
    assert marginal.g_per_kwh == 700
