# SPDX-License-Identifier: Apache-2.0
"""The demo's live view: what it draws and that it stays inside the terminal."""

import io
import math
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console

from embellie_testbed.demo import bars
from embellie_testbed.demo.picture import (
    Counters,
    ForecastHour,
    HeldPicture,
    Hour,
    Picture,
    RowPicture,
    Said,
    ZonePicture,
)
from embellie_testbed.demo.ribbon import Scale, axis, colour, ribbon, window_around
from embellie_testbed.demo.view import in_words, render, status_line

NOW = datetime(2022, 9, 6, 0, 20, tzinfo=UTC)
SCALE = Scale(low=200.0, high=420.0)
LONG = "Waits for 16:00 UTC in west, where the run is expected to emit 4.1 kg instead of 5.6 kg if it started now. " * 3


def zone(name: str) -> ZonePicture:
    first = NOW.replace(minute=0)
    swing = [300.0 + 90.0 * math.sin(k / 4) for k in range(80)]
    return ZonePicture(
        name=name,
        place="California, US-CISO",
        carbon_g_per_kwh=312.4,
        ambient_c=31.7,
        past=tuple(Hour(start=first - timedelta(hours=k), carbon_g_per_kwh=swing[k]) for k in range(24)),
        forecast=tuple(
            ForecastHour(
                start=first + timedelta(hours=k),
                low_g_per_kwh=swing[k] - 20,
                median_g_per_kwh=swing[k],
                high_g_per_kwh=swing[k] + 20,
            )
            for k in range(48)
        ),
        rung="Live",
        renewable_percent=41,
        power_kw=131.2,
        contracted_kw=130.0,
        power_history_kw=tuple(100.0 + k for k in range(50)),
        gpus=128,
        gpus_flexible=70,
        gpus_other=30,
        gpus_planned=144,
    )


def picture(**changes: object) -> Picture:
    values: dict[str, object] = {
        "now": NOW,
        "begin": NOW - timedelta(hours=12),
        "end_of_arrivals": NOW + timedelta(hours=36),
        "factor": 900.0,
        "zones": (zone("west"), zone("east")),
        "rows": tuple(
            RowPicture(name=n, inlet_c=t, limit_c=35.0, margin_k=1.0, inlet_history_c=(30.0, 34.5, 36.0))
            for n, t in (("west-a", 34.9), ("west-b", 36.0), ("east-a", 27.0), ("east-b", None))
        ),
        "held": tuple(
            HeldPicture(
                name=f"itp07-{k:05d}-with-a-name-that-is-much-too-long-for-any-column-of-any-terminal",
                flex="patient",
                gpus=2**k,
                zone="west",
                planned_start=NOW + timedelta(hours=k) if k else None,
                latest_start=NOW + timedelta(hours=k + 9),
                reason="CleanerWindow",
            )
            for k in range(7)
        ),
        "said": tuple(Said(when=NOW, workload=f"itp-{k}", state="Held", message=LONG) for k in range(30)),
        "counters": Counters(of_all=640, submitted=210, held=7, queued=2, running=66, finished=128, past_bound=1),
        "note": "arrivals have ended: waiting for what is held and running",
    }
    return Picture(**{**values, **changes})  # type: ignore[arg-type]


def drawn(shown: Picture, width: int, height: int) -> list[str]:
    # Wider than asked for, so that what does not fit shows instead of being folded by the console.
    console = Console(width=width + 40, height=height, file=io.StringIO(), record=True, color_system="truecolor")
    console.print(render(shown, width=width, height=height, scale=SCALE))
    return [line.rstrip() for line in console.export_text().rstrip("\n").split("\n")]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (100, 32), (120, 40), (140, 40), (200, 60)])
def test_the_view_is_never_wider_or_higher_than_the_terminal(width: int, height: int) -> None:
    lines = drawn(picture(), width, height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("width", [80, 140])
def test_the_view_has_something_to_show_before_anything_happened(width: int) -> None:
    blank = ZonePicture(name="west", place="", carbon_g_per_kwh=300.0, ambient_c=20.0, past=(), contracted_kw=130.0)
    row = RowPicture(name="west-a", inlet_c=None, limit_c=35.0, margin_k=1.0)
    empty = picture(zones=(blank,), rows=(row,), held=(), said=(), counters=Counters(of_all=0), note="")
    text = "\n".join(drawn(empty, width, 40))
    assert "no reading" in text
    assert "0/0" in text


def test_the_view_shows_what_an_onlooker_asks_for() -> None:
    text = "\n".join(drawn(picture(), 140, 45))
    for expected in ("west", "131/130 kW", "36.0/35 °C", "144 to come", "210/640", "Waits for 16:00 UTC", "12h", "now"):
        assert expected in text


def test_a_narrow_terminal_cuts_no_heading_and_no_reason_and_leaves_out_a_note_that_says_nothing_there() -> None:
    lines = drawn(picture(), 80, 40)
    assert sum("cleaner window" in line for line in lines) == 5
    (headings,) = [line for line in lines if "starts in" in line and "latest in" in line]
    assert "…" not in headings
    assert lines[-1].strip().endswith("over limit 0")


def test_a_value_over_its_limit_changes_colour_and_passes_the_mark() -> None:
    calm = bars.against_limit(100.0, floor=0.0, limit=130.0, width=40, warn=120.0)
    over = bars.against_limit(140.0, floor=0.0, limit=130.0, width=40, warn=120.0)
    assert {str(span.style) for span in over.spans} & {bars.OVER}
    assert not {str(span.style) for span in calm.spans} & {bars.OVER}
    assert over.plain.rindex("█") > over.plain.index("▏") > calm.plain.rindex("█")


def test_shares_fill_exactly_their_part_of_the_bar() -> None:
    bar = bars.shares(((32, bars.FLEXIBLE), (64, bars.OTHER)), total=128, width=40).plain
    assert bar == "█" * 30 + "░" * 10


def test_the_ribbon_is_higher_where_the_grid_is_dirtier_and_fills_the_window() -> None:
    window = window_around(NOW, cells=96)
    lines = ribbon(zone("west"), window=window, scale=SCALE, rows=3)
    assert [line.cell_len for line in lines] == [96, 96, 96]
    heights = [sum(" ▁▂▃▄▅▆▇█".index(line.plain[k]) for line in lines) for k in range(30)]
    assert max(heights) > min(heights) + 6
    assert all(line.plain[window.cell_of(NOW)] == "│" for line in lines)
    assert "now" in axis(window).plain


def test_clean_hours_are_green_and_dirty_hours_red() -> None:
    def rgb(fraction: float) -> list[int]:
        return [int(colour(fraction)[k : k + 2], 16) for k in (1, 3, 5)]

    assert rgb(0.0)[1] > rgb(0.0)[0]
    assert rgb(1.0)[0] > 2 * rgb(1.0)[1]
    assert colour(-5.0) == colour(0.0)
    assert colour(7.0) == colour(1.0)


def test_a_reason_is_written_as_a_person_says_it() -> None:
    assert in_words("WaitingForGpus") == "waiting for GPUs"
    assert in_words("CleanerWindow") == "cleaner window"


def test_without_a_terminal_one_line_says_the_same() -> None:
    line = status_line(picture())
    assert "\n" not in line
    assert "west 312 g/kWh 131/130 kW" in line
    assert "submitted 210/640" in line
