# SPDX-License-Identifier: Apache-2.0
"""Providers of grid and weather data on a real socket: in their documented formats, and misbehaving as told."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import numpy as np

from embellie_forecast.sources.eco2mix import COLUMNS as ECO2MIX
from embellie_forecast.sources.openmeteo import VARIABLES

NOW = datetime(2026, 6, 20, 12, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
PARIS = ZoneInfo("Europe/Paris")
Record = tuple[datetime, dict[str, float]]
FUELS = {
    "oil": "OIL",
    "other": "OTH",
    "coal": "COL",
    "natgas": "NG",
    "nuclear": "NUC",
    "hydro": "WAT",
    "wind": "WND",
    "solar": "SUN",
}
PSR = {
    "coal": "B05",
    "natgas": "B04",
    "nuclear": "B14",
    "hydro": "B11",
    "wind": "B19",
    "solar": "B16",
    "lignite": "B02",
}
GRAMS = {"coal": 760.0, "natgas": 370.0}


@lru_cache(maxsize=100_000)
def truth_at(moment: datetime) -> dict[str, float]:
    """What really happens in a small grid at a moment: a sum of rhythms that never repeats exactly."""
    h = moment.timestamp() / 3600.0
    day = np.sin(2 * np.pi * (h - 6.0) / 24.0)
    slow = np.sin(2 * np.pi * h / 97.3)
    generation = {
        "coal": 700.0 + 90.0 * np.sin(2 * np.pi * h / 61.7),
        "natgas": 2100.0 - 300.0 * day + 200.0 * slow,
        "nuclear": 9000.0 + 150.0 * np.sin(2 * np.pi * h / 401.0),
        "hydro": 1500.0 + 250.0 * np.sin(2 * np.pi * h / 43.1),
        "wind": 1300.0 + 900.0 * np.sin(2 * np.pi * h / 83.9),
        "solar": max(0.0, 1800.0 * day),
    }
    total = sum(generation.values())
    renewable = generation["hydro"] + generation["wind"] + generation["solar"]
    found = {f"gen_{name}_mw": round(value, 1) for name, value in generation.items()}
    found["demand_mw"] = round(total * 0.97, 1)
    found["ci_direct_g_per_kwh"] = round(sum(generation[name] * g for name, g in GRAMS.items()) / total, 1)
    found["ci_lifecycle_g_per_kwh"] = round(found["ci_direct_g_per_kwh"] * 1.21 + 14.0, 1)
    found["re_pct"] = round(100.0 * renewable / total, 1)
    found["dafc_demand_mw"] = round(total * 0.99, 1)
    found["power_kw"] = round(max(0.0, 400.0 * day) * (1.2 + 0.3 * slow) + 5.0, 1)
    found["wxfc_wind_speed_ms"] = round(6.0 + 4.0 * np.sin(2 * np.pi * h / 83.9), 1)
    found["wxfc_wind_speed_100m_ms"] = round(8.0 + 5.0 * np.sin(2 * np.pi * h / 83.9), 1)
    found["wxfc_temp_c"] = round(16.0 + 6.0 * day + 2.0 * slow, 1)
    found["wxfc_dewpoint_c"] = round(9.0 + 3.0 * slow, 1)
    found["wxfc_dswrf_wm2"] = round(max(0.0, 800.0 * day), 1)
    found["wxfc_precip_kgm2"] = round(max(0.0, np.sin(2 * np.pi * h / 29.0)), 1)
    return {name: float(value) for name, value in found.items()}


def slots(
    begin: datetime,
    end: datetime,
    step: timedelta,
    truth: Callable[[datetime], dict[str, float]] = truth_at,
) -> list[Record]:
    """Return what happens in each slot of [begin, end)."""
    count = int((end - begin) / step)
    return [(begin + k * step, truth(begin + k * step)) for k in range(max(0, count))]


@dataclass
class Behaviour:
    """How the provider answers; the defaults are those of the documentation."""

    reply: Callable[["Server", int], tuple[int, dict[str, str], bytes] | None] | None = None
    """Answers instead of the format: request number -> status, headers, body; None: answer properly."""
    silence_s: float = 0.0
    mangle: Callable[[list[Record]], list[Record]] = lambda records: records
    write: Callable[[float], object] = lambda value: value
    moment: Callable[[datetime], datetime] = lambda moment: moment
    body: Callable[[bytes], bytes] = lambda body: body
    short_length: bool = False
    horizon: Callable[[datetime], datetime] = lambda end: end
    too_warm_k: Callable[[float], float] = lambda _days: 0.0
    """By how much a weather forecast made so many days before is too warm [K]."""


class Server:
    """One provider in one format on a real socket."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.answer: Callable[[Server, str, dict[str, list[str]]], bytes] = lambda *_: b"{}"
        self.requests: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        self.now = NOW
        self.truth: Callable[[datetime], dict[str, float]] = truth_at
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.handle(self)

            def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002 - the standard library's
                return format_datetime(outer.now, usegmt=True)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request, well or badly."""
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        self.requests.append((parts.path, query, dict(request.headers)))
        if self.behaviour.silence_s:
            time.sleep(self.behaviour.silence_s)
        special = self.behaviour.reply(self, len(self.requests)) if self.behaviour.reply else None
        status, headers, body = special or (200, {}, self.behaviour.body(self.answer(self, parts.path, query)))
        try:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(body) + (64 if self.behaviour.short_length else 0)))
            request.end_headers()
            request.wfile.write(body)
        except OSError:
            pass  # The client has given up.

    def hour(self) -> datetime:
        """Return the beginning of the provider's present hour."""
        return self.now.replace(minute=0, second=0, microsecond=0)

    def records(self, begin: datetime, end: datetime, step: timedelta) -> list[Record]:
        """Return what this provider says about [begin, end)."""
        return self.behaviour.mangle(slots(begin, end, step, self.truth))


def stamp(moment: datetime) -> str:
    """Write an instant with a Z."""
    return moment.isoformat().replace("+00:00", "Z")


def parse(text: str) -> datetime:
    """Read an instant; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def dumps(document: Any) -> bytes:
    """Write JSON."""
    return json.dumps(document, ensure_ascii=False).encode()


def eco2mix(server: Server, _path: str, query: dict[str, list[str]]) -> bytes:
    """Answer as ODRE's export."""
    low, high = (parse(part.split("date'")[1].split("'")[0]) for part in query["where"][0].split(" AND "))
    # Its rows lie on whole quarters, whenever the question begins.
    low = datetime.fromtimestamp(-(-low.timestamp() // 900) * 900, UTC)
    rows = []
    for moment, values in server.records(low, min(high, server.now), timedelta(minutes=15)):
        local = server.behaviour.moment(moment.astimezone(PARIS))
        row: dict[str, object] = {
            "perimetre": "France",
            "nature": "Données temps réel",
            "date_heure": local.isoformat(),
        }
        row |= {theirs: server.behaviour.write(values[ours]) for theirs, ours in ECO2MIX.items() if ours in values}
        rows.append(row | {"pompage": -900})
    return dumps(rows)


def eia(server: Server, _path: str, query: dict[str, list[str]]) -> bytes:
    """Answer as EIA's API v2."""
    area = query["facets[respondent][]"][0]
    low, high = parse(query["start"][0]) - HOUR, parse(query["end"][0])
    data = [
        {
            "period": f"{server.behaviour.moment(moment) + (timedelta(0) if area == 'PJM' else HOUR):%Y-%m-%dT%H}",
            "respondent": area,
            "fueltype": code,
            "value": server.behaviour.write(values[f"gen_{name}_mw"]),
            "value-units": "megawatthours",
        }
        for moment, values in server.records(low, min(high, server.hour()), HOUR)
        for name, code in FUELS.items()
        if f"gen_{name}_mw" in values
    ]
    first, length = int(query["offset"][0]), int(query["length"][0])
    return dumps({"response": {"total": str(len(data)), "frequency": "hourly", "data": data[first : first + length]}})


def neso(server: Server, path: str, _query: dict[str, list[str]]) -> bytes:
    """Answer as the Carbon Intensity API."""
    what, low, high = path.strip("/").split("/")
    data = []
    for moment, values in server.records(parse(low), parse(high), timedelta(minutes=30)):
        begin = server.behaviour.moment(moment)
        known = moment < server.now
        record: dict[str, object] = {
            "from": f"{begin:%Y-%m-%dT%H:%MZ}",
            "to": f"{begin + timedelta(minutes=30):%Y-%m-%dT%H:%MZ}",
        }
        if what == "intensity":
            actual = server.behaviour.write(values["ci_direct_g_per_kwh"]) if known else None
            record["intensity"] = {"forecast": 100, "actual": actual, "index": "low"}
        else:
            renewable = values["re_pct"]
            record["generationmix"] = [
                {"fuel": "wind", "perc": server.behaviour.write(renewable)},
                {"fuel": "gas", "perc": server.behaviour.write(round(100.0 - renewable, 1))},
            ]
        data.append(record)
    return dumps({"data": data})


def electricitymaps(server: Server, path: str, query: dict[str, list[str]]) -> bytes:
    """Answer as Electricity Maps v3."""
    low, high = parse(query["start"][0]), parse(query["end"][0])
    low = low.replace(minute=0, second=0)
    data = []
    for moment, values in server.records(low, min(high, server.hour()), timedelta(hours=1)):
        record: dict[str, object] = {
            "zone": "DE",
            "datetime": stamp(server.behaviour.moment(moment)),
            "isEstimated": False,
        }
        if "breakdown" in path:
            record["renewablePercentage"] = server.behaviour.write(values["re_pct"])
        else:
            record["carbonIntensity"] = server.behaviour.write(values["ci_lifecycle_g_per_kwh"])
            record |= {"emissionFactorType": "lifecycle", "updatedAt": stamp(moment + timedelta(minutes=50))}
        data.append(record)
    return dumps({"zone": "DE", "data": data, "temporalGranularity": "hourly"})


def entsoe(server: Server, _path: str, query: dict[str, list[str]]) -> bytes:
    """Answer as the Transparency Platform."""
    low, high = (
        datetime.strptime(query[name][0], "%Y%m%d%H%M").replace(tzinfo=UTC) for name in ("periodStart", "periodEnd")
    )
    document = query["documentType"][0]
    end = min(high, server.hour()) if document == "A75" else high
    step = timedelta(minutes=15)
    records = server.records(low, end, step)
    series = []
    for name, code in PSR.items():
        if document == "A69" and name not in {"solar", "wind"}:
            continue
        points = "".join(
            f"<Point><position>{round((server.behaviour.moment(moment) - low) / step) + 1}</position>"
            f"<quantity>{server.behaviour.write(values[f'gen_{name}_mw'])}</quantity></Point>"
            for moment, values in records
            if f"gen_{name}_mw" in values
        )
        if not points:
            continue
        series.append(
            "<TimeSeries><mRID>1</mRID><businessType>A01</businessType>"
            '<inBiddingZone_Domain.mRID codingScheme="A01">10YNL----------L</inBiddingZone_Domain.mRID>'
            f"<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>A01</curveType>"
            f"<MktPSRType><psrType>{code}</psrType></MktPSRType><Period><timeInterval><start>{low:%Y-%m-%dT%H:%MZ}</start>"
            f"<end>{end:%Y-%m-%dT%H:%MZ}</end></timeInterval><resolution>PT15M</resolution>{points}</Period></TimeSeries>"
        )
    space = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
    document = f'<GL_MarketDocument xmlns="{space}">{"".join(series)}</GL_MarketDocument>'
    return b'<?xml version="1.0" encoding="UTF-8"?>' + document.encode()


def prometheus(server: Server, _path: str, query: dict[str, list[str]]) -> bytes:
    """Answer a range query."""
    low, high = (datetime.fromtimestamp(float(query[name][0]), UTC) for name in ("start", "end"))
    step = timedelta(seconds=float(query["step"][0]))
    values = [
        [server.behaviour.moment(moment).timestamp(), str(server.behaviour.write(found["power_kw"]))]
        for moment, found in server.records(low, high + step, step)
        if moment <= server.now
    ]
    return dumps({"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}})


def openmeteo(server: Server, _path: str, query: dict[str, list[str]]) -> bytes:
    """Answer as Open-Meteo, forecast or previous runs."""
    low = parse(query["start_date"][0])
    high = server.behaviour.horizon(parse(query["end_date"][0]) + timedelta(days=1))
    names = query["hourly"][0].split(",")
    records = server.records(low, high, timedelta(hours=1))
    # A mean over the hour before its label: the label 12:00 carries what happened from 11:00.
    earlier = dict(server.records(low - HOUR, high, HOUR))
    places = []
    for _point in query["latitude"][0].split(","):
        hourly: dict[str, list[object]] = {"time": [f"{server.behaviour.moment(m):%Y-%m-%dT%H:%M}" for m, _ in records]}
        units = {"time": "iso8601"}
        for name in names:
            plain, _, runs_ago = name.partition("_previous_day")
            ours, unit, hour_before = VARIABLES[plain]

            def value(
                moment: datetime, values: dict[str, float], ours: str = ours, before: bool = hour_before,
                runs_ago: str = runs_ago,
            ) -> float:  # fmt: skip
                found = (earlier.get(moment - HOUR, values) if before else values)[ours]
                lead = float(runs_ago) if runs_ago else max(0.0, (moment - server.hour()) / timedelta(days=1))
                return round(found + server.behaviour.too_warm_k(lead), 3) if ours == "wxfc_temp_c" else found

            hourly[name] = [server.behaviour.write(value(m, values)) for m, values in records]
            units[name] = unit
        places.append(
            {
                "latitude": 1.0,
                "longitude": 2.0,
                "utc_offset_seconds": 0,
                "timezone": "GMT",
                "hourly_units": units,
                "hourly": hourly,
            }
        )
    return dumps(places if len(places) > 1 else places[0])


ROUTES = {
    "/api/explore": eco2mix,
    "/v2/": eia,
    "/v3/": electricitymaps,
    "/v1/forecast": openmeteo,
    "/api/v1/query_range": prometheus,
    "/intensity": neso,
    "/generation": neso,
}


def everything(server: Server, path: str, query: dict[str, list[str]]) -> bytes:
    """Answer as whichever provider the path belongs to."""
    return next(answer for prefix, answer in ROUTES.items() if path.startswith(prefix))(server, path, query)
