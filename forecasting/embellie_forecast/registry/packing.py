# SPDX-License-Identifier: Apache-2.0
"""A model as plain arrays and JSON, and back: nothing that is read from disk can be code."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from embellie_forecast.factors import SOURCES, FloatArray
from embellie_forecast.history import ZoneHistory
from embellie_forecast.models.calendar import CalendarFit, CalendarModel
from embellie_forecast.models.targets import Kernel, Settings, Target, WeatherUse
from embellie_forecast.models.zone import Bank, ZoneModel

HISTORY_ARRAYS = ("lifecycle_g_per_kwh", "direct_g_per_kwh", "renewable_share", "weather", "official_mw")
WHERE_KNOWN = ("marginal_g_per_kwh", "weather_ahead")


def pack(model: ZoneModel, calendar: CalendarModel | None, card: Mapping[str, Any]) -> bytes:
    """Return a model, its calendar and its card as one compressed archive of arrays."""
    history = model.history
    arrays: dict[str, Any] = {f"history.{name}": getattr(history, name) for name in HISTORY_ARRAYS}
    arrays |= {f"history.{name}": getattr(history, name) for name in WHERE_KNOWN if getattr(history, name) is not None}
    arrays |= {f"generation.{name}": values for name, values in history.generation_mw.items()}
    arrays["problems"] = np.array(history.problems, dtype="U16")
    for target, bank in model.banks.items():
        arrays[f"bank.{target.value}.hours"] = bank.issue_hours
        arrays[f"bank.{target.value}.kernel"] = bank.kernel
    for target, fit in calendar.fits.items() if calendar else ():
        arrays[f"calendar.{target.value}.blind"] = fit.blind
        arrays[f"calendar.{target.value}.spread"] = fit.spread
        if fit.seeing is not None:
            arrays[f"calendar.{target.value}.seeing"] = fit.seeing
    facts = {
        "zone": model.zone,
        "until_hour": model.until_hour,
        "first_hour": history.first_hour,
        "targets": [target.value for target in model.targets],
        "weather": model.weather.value,
        "latency_hours": model.latency_hours,
        "settings": asdict(model.settings) | {"scales": dict(model.settings.scales)},
        "calendar_until_hour": calendar.until_hour if calendar else None,
        "data_sources": [dict(source) for source in model.data_sources],
        "card": dict(card),
    }
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack(packed: bytes) -> tuple[ZoneModel, CalendarModel | None, dict[str, Any]]:
    """Return what `pack` was given; any fault in the archive raises one of many kinds of error."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        held = {name: arrays[name] for name in arrays.files if name != "facts"}
    history = ZoneHistory(
        zone=facts["zone"],
        first_hour=int(facts["first_hour"]),
        generation_mw={name: held[f"generation.{name}"] for name in SOURCES if f"generation.{name}" in held},
        problems=tuple(str(problem) for problem in held["problems"]),
        **{name: held[f"history.{name}"] for name in HISTORY_ARRAYS},
        marginal_g_per_kwh=held.get("history.marginal_g_per_kwh"),
        weather_ahead=held.get("history.weather_ahead"),
    )
    targets = tuple(Target(name) for name in facts["targets"])
    kernels = tuple(Kernel(**kernel) for kernel in facts["settings"].pop("kernels"))
    model = ZoneModel(
        zone=facts["zone"],
        until_hour=int(facts["until_hour"]),
        history=history,
        targets=targets,
        weather=WeatherUse(facts["weather"]),
        settings=Settings(kernels=kernels, **facts["settings"]),
        latency_hours=int(facts["latency_hours"]),
        banks={
            target: Bank(issue_hours=held[f"bank.{target.value}.hours"], kernel=held[f"bank.{target.value}.kernel"])
            for target in targets
        },
        data_sources=tuple(facts["data_sources"]),
    )
    return model, _calendar(facts, held), facts["card"]


def _calendar(facts: Mapping[str, Any], held: Mapping[str, FloatArray]) -> CalendarModel | None:
    if facts["calendar_until_hour"] is None:
        return None
    fits = {
        target: CalendarFit(
            blind=held[f"calendar.{target.value}.blind"],
            seeing=held.get(f"calendar.{target.value}.seeing"),
            spread=held[f"calendar.{target.value}.spread"],
        )
        for target in Target
        if f"calendar.{target.value}.blind" in held
    }
    return CalendarModel(zone=facts["zone"], until_hour=int(facts["calendar_until_hour"]), fits=fits)
