# SPDX-License-Identifier: Apache-2.0
"""A report as one HTML file: no script, no font, no picture from anywhere else."""

import html
import io
from collections.abc import Mapping
from typing import Any

from embellie.cli.reporting.on_site import on_site_lines
from embellie.cli.reporting.text import (
    HEADERS,
    head_line,
    number,
    period_ends,
    period_line,
    refusals,
    revision_lines,
    row_cells,
    savings_lines,
    span,
    trust_lines,
)

BLUE, ORANGE, GREEN, GREY, DARK = "#0072B2", "#E69F00", "#009E73", "#BBBBBB", "#333333"
ZONES = (BLUE, ORANGE, GREEN, GREY, "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Okabe and Ito's palette, which colour-blind people can tell apart."""
HATCHES = ("", "///", "xxx", "ooo")
"""What tells zones apart beyond the palette."""
_STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2rem 0 .4rem}p{margin:.4rem 0}.sub{color:#555}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid #ddd}
td{white-space:nowrap}th:first-child,td:first-child{text-align:left}th{color:#444;font-weight:600}.wide{overflow-x:auto}
.head{font-size:.85rem;overflow-wrap:anywhere}
figure{margin:1rem 0}svg{width:100%;height:auto}figcaption{color:#555;font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(14rem,1fr));gap:1rem;margin:1.2rem 0}
.tile{border:1px solid #ddd;border-radius:.5rem;padding:.8rem 1rem}.tile b{display:block;font-size:1.5rem}
.refused{border-left:4px solid #D55E00;padding:.3rem .8rem;background:#fff5ee}ul{padding-left:1.2rem}
"""


def as_html(report: Mapping[str, Any]) -> str:
    """Write the page."""
    period, cluster = report["period"], report["cluster"]
    first, last = period_ends(period)
    title = f"Energy and emissions, {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    methods = f"{report['method']['accounts']} and {report['method']['savings']}"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{_e(title)}</title><style>{_STYLE}</style><h1>{_e(title)}</h1>",
        f"<p class=sub>{_e(period_line(period))}. Methods {_e(methods)}.</p>",
        _tiles(cluster),
        *(f"<p>{_e(line)}</p>" for line in savings_lines(cluster)),
        *(f"<p>{_e(line)}</p>" for line in on_site_lines(report)),
        *(f"<p>{_e(line)}</p>" for line in revision_lines(report)),
        _refused(report),
        "<h2>Where did the energy go, day by day?</h2>",
        _figure(
            _energy_chart(report),
            "Facility energy. What no part explains is in the ledger, not in the bars. A day of which accounts cover "
            "less than 95 % has none.",
        ),
    ]
    if any(day["saving"] for day in report["days"]):
        parts += [
            "<h2>What was saved, day by day?</h2>",
            _figure(
                _saving_chart(report),
                "Against first come, first served with the same arrivals. Bars are the best estimate, lines the 90 % "
                "interval. A day below zero pays for work that was moved to it; owed is what is still to be done at "
                "the end, brought what waited when the period began.",
            ),
        ]
    parts += [f"<h2>By {_e(report['by'])}</h2>", _table(report), "<h2>How far can it be trusted?</h2>", _trust(cluster)]
    parts.append("<ul>" + "".join(f"<li>{_e(note)}</li>" for note in report["notes"]) + "</ul>")
    parts.append(f"<p class='sub head'>{_e(head_line(report))}</p></html>")
    return "\n".join(parts) + "\n"


def _e(text: object) -> str:
    return html.escape(str(text))


def _tiles(cluster: Mapping[str, Any]) -> str:
    energy, saving = cluster["energyKwh"], cluster["saving"]
    kg = cluster["emissionsKg"]
    tiles = [
        ("energy", number(energy["total"] if energy else None, 0), "kWh, idle nodes and cooling included"),
        ("emitted, life-cycle", number(kg["AverageLifecycle"], 0), "kg CO2e, location-based"),
        ("emitted, direct", number(kg["AverageDirect"], 0), "kg CO2e, the other way of counting"),
        ("embodied", number(cluster["embodiedKg"], 0), "kg CO2e of hardware"),
    ]
    if saving is not None:
        found = saving["savedKg"]
        shown = "about 0" if saving["verdict"] == "about zero" else number(found["value"], 0)
        tiles.append(("saved", shown, f"kg CO2e; {span(found)}"))
        tiles.append(("GPU-hours delayed", number(saving["gpuHoursDelayed"], 0), "the price of holding work"))
    cells = "".join(f"<div class=tile>{_e(name)}<b>{_e(value)}</b>{_e(unit)}</div>" for name, value, unit in tiles)
    return f"<div class=tiles>{cells}</div>"


def _refused(report: Mapping[str, Any]) -> str:
    return "".join(f"<p class=refused>{_e(line)}.</p>" for line in refusals(report))


def _table(report: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{_e(name)}</th>" for name in HEADERS)
    rows = "".join("<tr>" + "".join(f"<td>{_e(c)}</td>" for c in row_cells(row)) + "</tr>" for row in report["rows"])
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _trust(cluster: Mapping[str, Any]) -> str:
    return "<ul>" + "".join(f"<li>{_e(line)}</li>" for line in trust_lines(cluster)) + "</ul>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{_e(caption)}</figcaption></figure>"


def _energy_chart(report: Mapping[str, Any]) -> str:
    days = report["days"]
    labels = [day["day"][5:] for day in days]
    figure, axes = _axes(len(days))
    bottom = [0.0] * len(days)
    for key, name, colour in (
        ("jobs", "work", BLUE),
        ("idle", "idle", GREY),
        ("overhead", "cooling and losses", ORANGE),
    ):
        values = [max(0.0, day["energyKwh"][key]) if day["energyKwh"] else 0.0 for day in days]
        axes.bar(range(len(days)), values, bottom=bottom, color=colour, label=name, width=0.8)
        bottom = [b + v for b, v in zip(bottom, values, strict=True)]
    axes.set_ylabel("kWh a day")
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return _svg(figure, axes, labels)


def _saving_chart(report: Mapping[str, Any]) -> str:
    days = [day for day in report["days"] if day["saving"]]
    labels = [day["day"][5:] for day in days]
    saving = report["cluster"]["saving"] or {}
    edges = [
        (name, {zone: sign * kg for zone, kg in saving.get(key, {}).items()})
        for name, key, sign in (("brought", "broughtKg", 1.0), ("owed", "owedKg", -1.0))
    ]
    edges = [(name, kg_of) for name, kg_of in edges if any(abs(kg) >= 0.05 for kg in kg_of.values())]
    labels += [name for name, _ in edges]
    figure, axes = _axes(len(labels))
    zones = sorted({part["zone"] for day in days for part in day["saving"]})
    width = 0.8 / max(1, len(zones))
    for z, zone in enumerate(zones):
        at: list[float] = []
        values: list[float] = []
        errors: tuple[list[float], list[float]] = ([], [])
        for k, day in enumerate(days):
            for part in (p["savedKg"] for p in day["saving"] if p["zone"] == zone):
                at.append(k - 0.4 + width * (z + 0.5))
                values.append(part["value"])
                errors[0].append(max(0.0, part["value"] - part["low"]))
                errors[1].append(max(0.0, part["high"] - part["value"]))
        for k, (_, kg_of) in enumerate(edges, start=len(days)):
            at.append(k - 0.4 + width * (z + 0.5))
            values.append(kg_of.get(zone, 0.0))
            for side in errors:
                side.append(0.0)
        axes.bar(at, values, width=width * 0.92, label=zone, yerr=errors, ecolor=DARK, capsize=2, **zone_style(z))
    axes.axhline(0.0, color=DARK, linewidth=0.8)
    axes.set_ylabel("kg CO2e saved")
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return _svg(figure, axes, labels)


def zone_style(z: int) -> dict[str, str]:
    """Return how the bars of the z-th zone are drawn.

    >>> zone_style(0), zone_style(9)["hatch"]
    ({'color': '#0072B2', 'hatch': ''}, '///')
    """
    return {"color": ZONES[z % len(ZONES)], "hatch": HATCHES[z // len(ZONES) % len(HATCHES)]}


def _axes(bars: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.2))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(-0.6, max(1, bars) - 0.4)
    axes.yaxis.grid(True, color="#E5E5E5")
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, axes: Any, labels: list[str]) -> str:
    step = max(1, -(-len(labels) // 16))
    axes.set_xticks(range(0, len(labels), step), labels[::step])
    out = io.StringIO()
    import matplotlib as mpl

    # Text stays text, and equal reports give equal files.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "embellie", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
