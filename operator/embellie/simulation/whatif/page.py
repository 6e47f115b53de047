# SPDX-License-Identifier: Apache-2.0
"""One self-contained page with pictures: power over the grid's ribbon, who waited, what was saved at what cost."""

from html import escape
from typing import Any

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.charts import bars, legend, power_over_ribbon, waits
from embellie.simulation.whatif.outcome import power_curve, slot_power
from embellie.simulation.whatif.report import device, figure, less_or_more, spoken_period
from embellie.simulation.whatif.study import Result, Setup

_MOST_DAYS, _MOST_TENANTS = 14, 12
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1d2730;background:#fff;margin:0 auto;max-width:1000px;padding:24px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 6px}p{margin:6px 0}small,.quiet{color:#5b6770}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px;margin:18px 0}
.tile{border:1px solid #dde3e8;border-radius:8px;padding:12px 14px}.tile b{display:block;font-size:26px;line-height:1.2}
svg{width:100%;height:auto;display:block}table{border-collapse:collapse;width:100%;font-size:15px}
td,th{border-bottom:1px solid #e4e9ed;padding:5px 8px;text-align:right}td:first-child,th:first-child{text-align:left}
"""


def page(result: Result, setup: Setup, found: dict[str, Any]) -> str:
    """Return the page as HTML; nothing in it is loaded from elsewhere."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>Replay: {escape(result.how.policy)}</title><style>{_STYLE}</style></head><body>",
        _head(result, setup, found),
        _tiles(result, found),
        _power(result, setup),
        _waiting(result, setup, device(found)),
        _ledger(result, found),
        _on_site(result),
        _small_print(result, setup, found),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _head(result: Result, setup: Setup, found: dict[str, Any]) -> str:
    when = spoken_period(result, setup)
    gpus, unit = setup.case.site.capacity_gpus, device(found)
    where = f"on {gpus:,.0f} {unit}s" if gpus is not None else f"with as many {unit}s as anybody wants"
    return (
        f"<h1>What would have happened: {escape(result.how.policy)}</h1>"
        f"<p class='quiet'>{found['jobs']:,.0f} jobs, {result.outcome.gpu_hours:,.0f} {unit}-hours, {when}, {where}. "
        "Compared with the same jobs first come, first served.</p>"
    )


def _tiles(result: Result, found: dict[str, Any]) -> str:
    saved = result.fifo_outcome.carbon_kg - result.outcome.carbon_kg
    share = f"{100 * result.share_of_bound:.0f} %"
    tiles = [
        (
            f"{abs(found['saving_pct']):.1f} %",
            f"{less_or_more(found['saving_pct'])} CO2e from the whole cluster: {_kg(abs(saved))}",
        ),
        (share, "of the most that anybody could have saved, knowing everything"),
        (
            f"{result.outcome.mean_delay_h:.1f} h",
            f"mean delay; first come, first served: {result.fifo_outcome.mean_delay_h:.1f} h",
        ),
        (
            f"{result.outcome.past_bound:,}",
            f"jobs past their bound; first come, first served: {result.fifo_outcome.past_bound:,}",
        ),
    ]
    return (
        "<div class='tiles'>" + "".join(f"<div class='tile'><b>{b}</b>{escape(t)}</div>" for b, t in tiles) + "</div>"
    )


def _kg(amount: float) -> str:
    if abs(amount) >= 1000.0:
        return f"{amount / 1000.0:,.1f} t"
    return f"{amount:,.1f} kg" if abs(amount) >= 1.0 else f"{amount * 1000.0:,.1f} g"


def _power(result: Result, setup: Setup) -> str:
    axis = setup.case.axis
    first = result.span[0] // axis.ticks_per_slot
    slots = min(_MOST_DAYS * round(24 / axis.slot_h), (result.span[1] - result.span[0]) // axis.ticks_per_slot)
    values = axis.values[first : first + slots]
    pairs = ((result.fifo, setup.case), (result.schedule, result.drawn))
    series = [slot_power(power_curve(schedule, case, *result.span), axis)[: values.size] for schedule, case in pairs]
    shown = values.size * axis.slot_h / 24.0
    whole = (result.span[1] - result.span[0]) * axis.tick_h / 24.0
    note = f"The first {shown:.0f} of {whole:.0f} days." if shown < whole - 0.5 else ""
    start = axis.moment(first * axis.ticks_per_slot)
    return (
        "<h2>Power, over the grid's carbon intensity</h2>"
        "<p>The ribbon is the grid: green hours are clean, brown ones are dirty. Work moves into the green.</p>"
        + legend([("#9aa5ae", "first come, first served"), ("#0b5cad", result.how.policy)])
        + power_over_ribbon(values, series[0], series[1], axis.slot_h, start)
        + f"<p class='quiet'>{note} Ribbon from {values.min():,.0f} to {values.max():,.0f} g/kWh.</p>"
    )


def _waiting(result: Result, setup: Setup, unit: str) -> str:
    work, axis = setup.case.work, setup.case.axis
    finish = result.schedule.finish(work.count)
    ran = finish >= 0
    delays = (finish - work.arrival - work.length)[ran].astype(np.float64) * axis.tick_h
    bounds = work.wait[ran].astype(np.float64) * axis.tick_h
    text = [
        (
            "<h2>Who waited how long</h2><p>Each bar counts jobs by their whole delay: before the start and "
            "in pauses. "
            f"The longest was {delays.max(initial=0.0):.1f} h; the bound on waiting is "
            f"{_range(bounds)}.</p>"
        ),
        waits(delays),
    ]
    names = np.array(work.tenants)[ran]
    sizes = work.gpus[ran]
    groups: list[tuple[str, float, str]] = []
    tenants, counts = np.unique(names[names != ""], return_counts=True) if names.size else (np.array([]), np.array([]))
    if tenants.size > 1:
        for tenant in tenants[np.argsort(-counts)][:_MOST_TENANTS]:
            mine = names == tenant
            groups.append((str(tenant), float(delays[mine].mean()), f"{int(mine.sum()):,} jobs"))
        whose = "by tenant" if tenants.size <= _MOST_TENANTS else f"of the {_MOST_TENANTS} tenants with most jobs"
        text += [
            f"<p>Mean delay {whose} (Jain's fairness index {result.outcome.jain_delay:.2f}; 1 is equal for all):</p>",
            bars(groups, "h"),
        ]
    else:
        for low, high in ((0, 1), (1, 2), (2, 8), (8, 64), (64, np.inf)):
            mine = (sizes > low) & (sizes <= high)
            if mine.any():
                name = f"{low + 1:g} {unit}" if high == low + 1 else f"{low + 1:g} to {sizes[mine].max():g} {unit}s"
                groups.append((name, float(delays[mine].mean()), f"{int(mine.sum()):,} jobs"))
        text += ["<p>Mean delay by size:</p>", bars(groups, "h")]
    return "".join(text)


def _range(bounds: FloatArray) -> str:
    low, high = float(bounds.min(initial=np.inf)), float(bounds.max(initial=0.0))
    return f"{high:.0f} h" if not np.isfinite(low) or high - low < 0.5 else f"{low:.0f} to {high:.0f} h"


def _ledger(result: Result, found: dict[str, Any]) -> str:
    ours, base, unit = result.outcome, result.fifo_outcome, device(found)
    pairs = [
        ("Emissions of the cluster's power", _kg(base.carbon_kg), _kg(ours.carbon_kg)),
        ("Emissions of making the hardware, for that time", _kg(base.embodied_kg), _kg(ours.embodied_kg)),
        ("Energy", f"{base.energy_kwh:,.0f} kWh", f"{ours.energy_kwh:,.0f} kWh"),
        (f"of it idle {unit}s", f"{base.idle_kwh:,.0f} kWh", f"{ours.idle_kwh:,.0f} kWh"),
        ("Peak power", f"{figure(base.peak_kw)} kW", f"{figure(ours.peak_kw)} kW"),
        (f"{unit}-hours worked", f"{base.gpu_hours:,.0f}", f"{ours.gpu_hours:,.0f}"),
        (f"{unit}-hours idle", f"{base.idle_gpu_hours:,.0f}", f"{ours.idle_gpu_hours:,.0f}"),
        (f"{unit}-hours of work that waited", f"{base.waited_gpu_hours:,.0f}", f"{ours.waited_gpu_hours:,.0f}"),
        ("Mean delay of a job", f"{base.mean_delay_h:.2f} h", f"{ours.mean_delay_h:.2f} h"),
        ("Pauses", f"{base.pauses:,}", f"{ours.pauses:,}"),
    ]
    rows = "".join(f"<tr><td>{escape(a)}</td><td>{b}</td><td>{c}</td></tr>" for a, b, c in pairs)
    return (
        "<h2>What was saved, and what it cost</h2><table><tr><th></th><th>first come, first served</th>"
        f"<th>{escape(result.how.policy)}</th></tr>{rows}</table>"
        f"<p>Added up job by job, the saving would read {found['naive_saving_pct']:.1f} %; the cluster's own power "
        f"says {found['saving_pct']:.1f} %. The second is true: idle {unit}s draw power whoever waits, and on a full "
        "cluster a job that waits only lets another one run.</p>"
    )


def _on_site(result: Result) -> str:
    worth, ours, base = result.worth, result.outcome, result.fifo_outcome
    if worth is None:
        return ""
    rows = [
        ("Emissions without it", _kg(worth.fifo_kg), _kg(worth.policy_kg)),
        ("Emissions with it, planned for the grid alone", _kg(base.carbon_kg), _kg(worth.blind_kg)),
        ("Emissions with it", _kg(base.carbon_kg), _kg(ours.carbon_kg)),
        ("Used of it", f"{base.own_kwh:,.0f} kWh", f"{ours.own_kwh:,.0f} kWh"),
        ("From the grid", f"{base.energy_kwh - base.own_kwh:,.0f} kWh", f"{ours.energy_kwh - ours.own_kwh:,.0f} kWh"),
    ]
    cells = "".join(f"<tr><td>{escape(a)}</td><td>{b}</td><td>{c}</td></tr>" for a, b, c in rows)
    return (
        f"<h2>The site's own sun and wind</h2><p>They deliver {worth.delivered_kwh:,.0f} kWh. The site uses those "
        "first, and the grid supplies the rest; what is left over counts as nothing.</p>"
        f"<table><tr><th></th><th>first come, first served</th><th>{escape(result.how.policy)}</th></tr>{cells}</table>"
    )


def _small_print(result: Result, setup: Setup, found: dict[str, Any]) -> str:
    axis, notes = setup.case.axis, []
    if found.get("rows_left_out"):
        notes.append(f"{found['rows_left_out']:,} of {found['rows_read']:,} rows of the trace could not be used.")
    if result.how.cap is not None:
        notes.append(
            f"{result.how.policy} runs {result.capped_jobs:,} jobs at a power cap of {result.how.cap.percent:g} %: at "
            f"{result.how.cap.speed:.3g} of their speed, with {result.how.cap.power:.3g} of what they draw above idle."
        )
    if "seeds" in found:
        notes.append(f"This page shows the last of {len(found['seeds'])} seeds; the JSON has the means of all.")
    if setup.left_out_late:
        notes.append(f"{setup.left_out_late:,} jobs run past the carbon history and were left out.")
    if result.span[1] > axis.known_slots * axis.ticks_per_slot:
        notes.append("Work was pushed past the end of the carbon history; there its last day was repeated.")
    notes.append(
        f"Lengths known to the policy: {result.how.lengths}. The bound knows all arrivals, lengths and intensities, "
        "and no policy that must live through the days can reach it in full. Average carbon intensity, not marginal."
    )
    return f"<p><small>{escape(' '.join(notes))}</small></p>"
