# SPDX-License-Identifier: Apache-2.0
"""Adapters wired to providers that answer in the documented formats (embellie_testbed.providers)."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from embellie_forecast.sources.eco2mix import Eco2mix
from embellie_forecast.sources.eia import Eia
from embellie_forecast.sources.electricitymaps import ElectricityMaps
from embellie_forecast.sources.entsoe import Entsoe
from embellie_forecast.sources.files import Bundle, FileSource
from embellie_forecast.sources.neso import Neso
from embellie_forecast.sources.openmeteo import OpenMeteo, OpenMeteoPreviousRuns
from embellie_forecast.sources.prometheus import PrometheusMeter
from embellie_forecast.sources.source import Source
from embellie_forecast.sources.transport import Http, Patience
from embellie_testbed import providers
from embellie_testbed.providers import FUELS, NOW, Behaviour, Server, slots, stamp, truth_at

SECRET = "s3cr3t-t0ken"


@dataclass(frozen=True)
class Kind:
    """An adapter with the format it reads; without one it reads a file."""

    make: Callable[[Http, str], Source]
    answer: Callable[[Server, str, dict[str, list[str]]], bytes] | None
    step_minutes: int
    columns: tuple[str, ...]

    @property
    def step(self) -> timedelta:
        return timedelta(minutes=self.step_minutes)

    @property
    def column(self) -> str:
        """The quantity that tests look at."""
        return self.columns[1] if self.weather or self.columns[0].startswith("gen_") else self.columns[0]

    @property
    def weather(self) -> bool:
        return self.columns[0].startswith("wxfc_")


GENERATION = tuple(f"gen_{name}_mw" for name in FUELS if name not in {"oil", "other"})
WX = ("wxfc_wind_speed_ms", "wxfc_temp_c")
MIX = (*GENERATION, "ci_direct_g_per_kwh", "dafc_demand_mw")
SHARE = ("ci_direct_g_per_kwh", "re_pct")
TRACED = ("ci_lifecycle_g_per_kwh", "re_pct")
OFFICIAL = (*GENERATION, "dafc_solar_mw", "dafc_wind_mw")
FR = ((48.9, 2.4), (43.6, 1.4))
QUERY = "sum(pv_power_kw)"
KINDS = {
    "eco2mix": Kind(lambda h, url: Eco2mix(h, url=url), providers.eco2mix, 15, MIX),
    "eia": Kind(lambda h, url: Eia(h, "ISNE", url=url), providers.eia, 60, GENERATION),
    "neso": Kind(lambda h, url: Neso(h, url=url), providers.neso, 30, SHARE),
    "electricitymaps": Kind(lambda h, url: ElectricityMaps(h, "DE", url=url), providers.electricitymaps, 60, TRACED),
    "entsoe": Kind(lambda h, url: Entsoe(h, "NL", url=url), providers.entsoe, 15, OFFICIAL),
    "prometheus": Kind(lambda h, url: PrometheusMeter(h, QUERY, url=url), providers.prometheus, 5, ("power_kw",)),
    "openmeteo": Kind(lambda h, url: OpenMeteo(h, FR, url=url), providers.openmeteo, 60, WX),
    "openmeteo-previous": Kind(lambda h, url: OpenMeteoPreviousRuns(h, FR[:1], url=url), providers.openmeteo, 60, WX),
    "csv": Kind(lambda _h, url: FileSource(Path(url)), None, 60, GENERATION),
    "parquet": Kind(lambda _h, url: FileSource(Path(url)), None, 60, GENERATION),
    "bundle": Kind(lambda _h, url: Bundle(Path(url).parent, "FR"), None, 60, GENERATION),
}


class Feed:
    """An adapter that is wired to a provider, with waits that are remembered instead of waited."""

    def __init__(self, name: str, server: Server, folder: Path) -> None:
        self.name = name
        self.kind = kind = KINDS[name]
        self.server = server
        self.folder = folder
        self.waits: list[float] = []
        if kind.answer is not None:
            server.answer = kind.answer
        self.http = Http(
            patience=Patience(
                connect_s=2.0, silence_s=20.0, attempt_s=60.0, attempts=3, backoff_s=1.0, longest_wait_s=20.0
            ),
            pause=self.waits.append,
            jitter=lambda: 1.0,
        )
        suffix = ".parquet" if name == "parquet" else ".csv"
        self.path = folder / f"FR{suffix}"
        self.source = kind.make(self.http, server.url if kind.answer else str(self.path))

    def read(self, begin: datetime, end: datetime, *, now: datetime = NOW) -> pd.DataFrame:
        """Read, and return hourly values."""
        if self.kind.answer is None:
            self._write_file(begin, end)
        return self.source.read(begin, end, now=now).hourly().frame

    def _write_file(self, begin: datetime, end: datetime) -> None:
        behave = self.server.behaviour
        records = self.server.records(begin, min(end, NOW.replace(minute=0)), timedelta(hours=1))
        table = pd.DataFrame(
            {
                "timestamp_utc": [stamp(behave.moment(moment)) for moment, _ in records],
                **{
                    name: [behave.write(values[name]) if name in values else "" for _, values in records]
                    for name in GENERATION
                },
            }
        )
        if self.name == "parquet":
            table["timestamp_utc"] = pd.to_datetime(table["timestamp_utc"], utc=True)
            table.to_parquet(self.path)
        else:
            table.to_csv(self.path, index=False, sep=";")
        self.path.write_bytes(behave.body(self.path.read_bytes()))
        if self.name == "bundle":
            digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
            (self.folder / "SHA256SUMS").write_text(f"{digest}  {self.path.name}\n")


def expected(begin: datetime, end: datetime, column: str, step: timedelta) -> "pd.Series[float]":
    """The hourly means of what really happened."""
    base = column.replace("dafc_", "gen_") if column in {"dafc_solar_mw", "dafc_wind_mw"} else column
    found = pd.Series({moment: values[base] for moment, values in slots(begin, end, step)})
    found.index = pd.DatetimeIndex(found.index)
    return found.groupby(found.index.floor("h")).mean()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def feed_of(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Feed]:
    for name in ("EIA_API_KEY", "ELECTRICITYMAPS_TOKEN", "ENTSOE_API_KEY", "EMBELLIE_PROMETHEUS_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    return lambda name: Feed(name, server, tmp_path)


@pytest.fixture
def behaviour() -> type[Behaviour]:
    return Behaviour


@pytest.fixture
def truth() -> Callable[..., "pd.Series[float]"]:
    return expected


@pytest.fixture(name="truth_at")
def truth_at_fixture() -> Callable[[datetime], dict[str, float]]:
    return truth_at
