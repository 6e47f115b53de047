# SPDX-License-Identifier: Apache-2.0
"""Files as people have them: what is no table says what it is and what to do, to `backtest` and to a feed alike."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embellie_forecast.history import HistoryError
from embellie_forecast.history_files import read_history
from embellie_forecast.sources.base import SourceError
from embellie_forecast.sources.files import FileSource

END = datetime(2026, 6, 20, 12, tzinfo=UTC)
HOURS = pd.date_range(end=END - timedelta(hours=1), periods=200, freq="h")
TABLE = pd.DataFrame(
    {"timestamp_utc": HOURS.strftime("%Y-%m-%dT%H:%M:%SZ"), "ci_lifecycle_g_per_kwh": 300.5 + np.arange(200) % 24}
)
TEXT = TABLE.to_csv(index=False)


def both_say(path: Path) -> tuple[str, str]:
    """What `backtest` and a feed say about a file."""
    with pytest.raises(HistoryError) as by_backtest:
        read_history(path)
    with pytest.raises(SourceError) as by_feed:
        FileSource(path).read(END - timedelta(days=3), END, now=END)
    return str(by_backtest.value), str(by_feed.value)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("grid.csv", TEXT.encode("utf-16"), "is text in UTF-16: save it as CSV in UTF-8"),
        ("grid.csv", TEXT.encode("utf-16-be").join([b"\xfe\xff", b""]), "is text in UTF-16: save it as CSV in UTF-8"),
        ("grid.csv", TEXT.replace("ci_", "é_").encode("latin-1"), "is not text in UTF-8: save it as CSV in UTF-8"),
        ("grid.csv", gzip.compress(TEXT.encode()), "is compressed: let its name end in .csv.gz"),
        ("grid.csv", b"PAR1\x15\x04\x15\xff", "is a Parquet file: let its name end in .parquet"),
        ("grid.xlsx", b"PK\x03\x04\x14\x00\xff", "is a spreadsheet or an archive: export the table as CSV"),
        ("grid.csv", b"# EIA\n# public domain\n" + TEXT.encode(), "its first line must name the columns"),
        ("grid.csv", TABLE.assign(again=0.0).to_csv(index=False).replace("again", "ci_lifecycle_g_per_kwh").encode(),
         "two columns ci_lifecycle_g_per_kwh"),
    ],
)  # fmt: skip
def test_what_is_no_table_says_what_it_is_and_what_to_do(name: str, body: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    for sentence in both_say(path):
        assert said in sentence
        assert name.removesuffix(".csv") in sentence


def test_a_table_that_was_copied_out_of_a_spreadsheet_is_read_with_its_tabs(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    TABLE.to_csv(path, index=False, sep="\t")
    history = read_history(path)
    assert history.lifecycle_g_per_kwh.tolist() == TABLE["ci_lifecycle_g_per_kwh"].tolist()
    assert history.notes == ()
    told = FileSource(path).read(END - timedelta(days=3), END, now=END).hourly().frame
    assert told["ci_lifecycle_g_per_kwh"].tolist() == TABLE["ci_lifecycle_g_per_kwh"].tolist()[-72:]


def test_a_column_of_ones_own_may_end_in_a_number(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    TABLE.assign(**{"meter": 1.0, "meter.1": 2.0, "ci_mine.1": 3.0}).to_csv(path, index=False)
    assert len(read_history(path).lifecycle_g_per_kwh) == 200


def test_a_cell_that_is_a_page_long_does_not_fill_the_error(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_bytes(TEXT.encode()[:3000] + b"\0" * 5000)
    for sentence in both_say(path):
        assert len(sentence) < 400
