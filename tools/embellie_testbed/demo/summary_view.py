# SPDX-License-Identifier: Apache-2.0
"""The summary as a person reads it."""

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from embellie.cli.reporting.text import number, refused, savings_lines
from embellie_testbed.demo.accounts import LedgerAccount
from embellie_testbed.demo.scenario import ZONES
from embellie_testbed.demo.summary import Summary

GOOD, BAD = "#45b89a", "#e0483e"
NOTEWORTHY_LAG_S = 900.0
"""A quarter of an hour is one real second."""
WHERE_NEXT = (
    ("make cluster", "keeps such a cluster running and prints its kubeconfig"),
    ("README.md", "install it, submit a job, ask why it waits: kubectl embellie why job/NAME"),
    ("docs/", "what each reason means, how a plan is made, how it fails open"),
    ("make bench", "how fast and how small the operator is at 10,000 held workloads"),
)


def render_summary(summary: Summary, *, width: int) -> RenderableType:
    """Draw the summary, at most `width` cells wide."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, header_style="bold white")
    table.add_column("the whole cluster, idle nodes counted", ratio=5)
    for title in ("Embellie", "first come first served", "difference"):
        table.add_column(title, justify="right", ratio=3)
    for label, ours, theirs, change in _rows(summary):
        table.add_row(label, ours, theirs, change)
    notes = Text("\n".join(_notes(summary)), style="grey70")
    where = Table.grid(padding=(0, 2))
    for command, text in WHERE_NEXT:
        where.add_row(Text(command, style=GOOD), Text(text, style="grey82"))
    title = "[bold white]two days of training, and what they came to"
    body = Group(table, notes, Text(), Text("where to look next", style="bold white"), where)
    return Panel(body, title=title, title_align="left", border_style="grey35", width=width)


def _rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    ours, theirs, measured = summary.embellie, summary.fifo, summary.measured
    saved = summary.comparison.saved_percent
    kg = [side.account.emissions.grams / 1000 for side in (ours, theirs)]
    kwh = [side.account.emissions.energy_kwh for side in (ours, theirs)]
    mean = [side.delays.mean_s / 3600 for side in (ours, theirs)]
    worst = [side.delays.worst_s / 3600 for side in (ours, theirs)]
    above = [side.account.emissions.grams / 1000 - summary.idle_grams / 1000 for side in (ours, theirs)]
    rows = [
        ("emissions, kg CO2e", f"{kg[0]:,.0f}", f"{kg[1]:,.0f}", _coloured(f"{-saved:+.1f} %", saved > 0)),
        ("  above those of the idle nodes", f"{above[0]:,.0f}", f"{above[1]:,.0f}", _change(above)),
        ("energy, kWh", f"{kwh[0]:,.0f}", f"{kwh[1]:,.0f}", _change(kwh)),
    ]
    for site in ZONES:
        peaks = [side.account.peak_by_zone_kw[site.name] for side in (ours, theirs)]
        label = f"peak power in {site.name}, kW (contract {site.contracted_kw})"
        shown = [_coloured(f"{peak:.0f}", peak <= site.contracted_kw) for peak in peaks]
        rows.append((label, shown[0], shown[1], f"{peaks[0] - peaks[1]:+.0f}"))
    both = f"{ours.account.peak_kw - theirs.account.peak_kw:+.0f}"
    rows += [
        ("peak power of both, kW", f"{ours.account.peak_kw:.0f}", f"{theirs.account.peak_kw:.0f}", both),
        (
            "rows over their inlet limit, times (hours)",
            _coloured(f"{ours.thermal_violations} ({ours.thermal_hours:.1f} h)", not ours.thermal_violations),
            _coloured(f"{theirs.thermal_violations} ({theirs.thermal_hours:.1f} h)", not theirs.thermal_violations),
            f"{ours.thermal_violations - theirs.thermal_violations:+d}",
        ),
        ("mean delay, h", f"{mean[0]:.2f}", f"{mean[1]:.2f}", f"{mean[0] - mean[1]:+.2f}"),
        ("worst delay, h", f"{worst[0]:.1f}", f"{worst[1]:.1f}", f"{worst[0] - worst[1]:+.1f}"),
        (
            "jobs held past their latest start",
            _coloured(str(measured.held_past_latest_start), not measured.held_past_latest_start),
            "holds nothing",
            "",
        ),
        (
            "unlabelled jobs touched",
            _coloured(str(measured.unlabelled_delayed), not measured.unlabelled_delayed),
            "touches nothing",
            "",
        ),
    ]
    return rows


def _ledger(account: LedgerAccount) -> list[str]:
    """Say what the operator's own ledger has, as a report would."""
    if account.report is None:
        return [f"The ledger tells nothing: {account.trouble}."]
    row = account.cluster
    energy, kg, covered = row["energyKwh"], row["emissionsKg"]["AverageLifecycle"], row["coveragePercent"]
    chain = "its chain is whole" if account.sound else "ITS CHAIN IS BROKEN"
    lines = [
        (
            f"The operator's own ledger ({account.records:,} records, {chain}), by the zones' meters over "
            f"{account.report['period']['hours']:g} h: {number(energy and energy['total'], 0)} kWh, {number(kg, 0)} kg "
            f"(accounts cover {number(covered['accounts'])} % of the hours, meters {number(covered['meter'])} %; "
            f"{number(row['unexplainedPercent'], 2)} % of the energy explained by no part)."
        )
    ]
    lines += savings_lines(row)[:2]
    return lines + [f"Refused: {refused(figure)}: {why}." for figure, why in sorted(row["refused"].items())]


def _notes(summary: Summary) -> list[str]:
    measured, scenario = summary.measured, summary.scenario
    hours = (summary.embellie.account.end - summary.embellie.account.start).total_seconds() / 3600
    rss = measured.operator_peak_rss_mib
    memory = "" if rss is None else f"; the operator's memory peaked at {rss:.0f} MiB"
    lines = [
        (
            f"{measured.jobs_submitted} of {measured.jobs_of_all} jobs came, {measured.jobs_finished} finished, "
            f"{measured.held} were held; "
            f"they would fill {100 * scenario.utilisation:.0f} % of the GPUs."
        ),
        (
            f"Accounted over the same {hours:.0f} h for both, with the life-cycle average intensity of the real grids"
            f" (mean {_means(summary)} g/kWh)."
        ),
        f"{measured.grid_hours:.0f} h of grid in {measured.wall_s:.0f} s{memory}.",
        "The left column happened on the control plane; the right one is the project's simulator on the same arrivals.",
    ]
    if scenario.mean_lag_s > NOTEWORTHY_LAG_S:
        lines.append(
            f"This machine submitted the jobs {scenario.mean_lag_s / 3600:.1f} h later than the trace has them, in the "
            "mean: it was busy. Both columns count from when each really came."
        )
    if summary.ledger is not None:
        lines += _ledger(summary.ledger)
    if measured.late:
        worst = max(measured.late, key=lambda one: one[1])
        lines.append(
            f"Held past its latest start by most: {worst[0]}, by {worst[1] / 60:.0f} minutes of replayed time, "
            f"{worst[1] / measured.factor:.1f} s of this machine's."
        )
    if measured.late or scenario.mean_lag_s > NOTEWORTHY_LAG_S:
        lines.append(
            f"At {measured.factor:g} times real time a second of this machine's is {measured.factor / 60:g} minutes: "
            "run the demo again when less else runs here, or slower (make demo FACTOR=300)."
        )
    if summary.history.extended:
        lines.append(
            f"Jobs that still ran at the end: {summary.history.extended}, carried on for as long as the trace says."
        )
    if summary.history.cut:
        lines.append(f"Jobs that had not started at the end: {summary.history.cut}, counted as started then.")
    return lines


def _means(summary: Summary) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in summary.mean_intensity_g_per_kwh.items())


def _change(pair: list[float]) -> str:
    """Return how much the first lies above the second, in per cent."""
    change = round(100 * (pair[0] / pair[1] - 1), 1) if pair[1] else 0.0
    return f"{change + 0.0:+.1f} %"


def _coloured(text: str, good: bool) -> str:
    return f"[{GOOD if good else BAD}]{text}[/]"
