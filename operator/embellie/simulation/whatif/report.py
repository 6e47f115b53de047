# SPDX-License-Identifier: Apache-2.0
"""A result as JSON fields and as lines to read."""

from collections.abc import Sequence
from typing import Any

from embellie.simulation.whatif.study import Result, Setup, Worth


def fields(result: Result, seconds: float, units: str = "gpus") -> dict[str, Any]:
    """Return one replay's numbers; `units` is what a job takes, `gpus` or `cpu`."""
    ours, base = result.outcome, result.fifo_outcome
    found = {
        "policy": result.how.policy,
        "units": units,
        "jobs": ours.finished,
        "carbon_kg": ours.carbon_kg,
        "normalised_carbon": result.normalised_carbon,
        "naive_saving_pct": result.naive_saving_pct,
        "mean_wait_gaia_h": ours.mean_wait_gaia_h,
        "mean_delay_h": ours.mean_delay_h,
        "p95_delay_h": ours.p95_delay_h,
        "max_delay_h": ours.max_delay_h,
        "past_bound": ours.past_bound,
        "past_bound_as_fifo": result.past_bound_as_fifo,
        "bound_carbon_kg": result.bound_carbon_kg,
        "share_of_bound": result.share_of_bound,
        "peak_kw": ours.peak_kw,
        "energy_kwh": ours.energy_kwh,
        "idle_kwh": ours.idle_kwh,
        "jain_delay": ours.jain_delay,
        "seconds": seconds,
        "saving_pct": 100.0 * (1.0 - result.normalised_carbon),
        "gap": ours.carbon_kg / result.bound_carbon_kg - 1.0 if result.bound_carbon_kg else 0.0,
        "embodied_kg": ours.embodied_kg,
        "gpu_hours": ours.gpu_hours,
        "waited_gpu_hours": ours.waited_gpu_hours,
        "idle_gpu_hours": ours.idle_gpu_hours,
        "pauses": ours.pauses,
        "never_started": result.refused,
        "power_cap_percent": 100.0 if result.how.cap is None else result.how.cap.percent,
        "capped_jobs": result.capped_jobs,
        "fifo": {
            "carbon_kg": base.carbon_kg,
            "mean_delay_h": base.mean_delay_h,
            "max_delay_h": base.max_delay_h,
            "past_bound": base.past_bound,
            "peak_kw": base.peak_kw,
            "embodied_kg": base.embodied_kg,
        },
    }
    return found if result.worth is None else found | _on_site(result, result.worth)


def _on_site(result: Result, worth: Worth) -> dict[str, Any]:
    """Return what the site's own power was worth; first come first served's numbers begin with `fifo_`."""
    ours, base = result.outcome, result.fifo_outcome
    return {
        "on_site_kwh": worth.delivered_kwh,
        "on_site_used_kwh": ours.own_kwh,
        "grid_kwh": ours.energy_kwh - ours.own_kwh,
        "carbon_without_on_site_kg": worth.policy_kg,
        "carbon_blind_to_on_site_kg": worth.blind_kg,
        "fifo_on_site_used_kwh": base.own_kwh,
        "fifo_grid_kwh": base.energy_kwh - base.own_kwh,
        "fifo_carbon_without_on_site_kg": worth.fifo_kg,
    }


def combined(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over seeds, with each seed's numbers as a list."""
    if len(runs) == 1:
        return dict(runs[0])
    first = runs[0]
    means = {
        name: sum(run[name] for run in runs) / len(runs)
        for name, value in first.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return {**first, **means, "seeds": list(runs)}


def figure(amount: float) -> str:
    """Write an amount with four digits, or in full.

    >>> figure(30.357), figure(144600.4)
    ('30.36', '144,600')
    """
    return f"{amount:.4g}" if amount < 1000.0 else f"{amount:,.0f}"


def device(found: dict[str, Any]) -> str:
    """Return what a job takes, and what `gpu_hours` and `idle_gpu_hours` count."""
    return "CPU" if found["units"] == "cpu" else "GPU"


def less_or_more(saving_pct: float) -> str:
    """Say which way a saving goes."""
    return "less" if saving_pct >= 0.0 else "more"


def _anybody(found: dict[str, Any]) -> str:
    return "the most with this cap" if found["capped_jobs"] else "the most anybody could"


def spoken_period(result: Result, setup: Setup) -> str:
    """Return which hours of the grid's history a replay lived through."""
    axis = setup.case.axis
    first, last = axis.moment(result.span[0]), axis.moment(result.span[1])
    if first and last:
        return f"{first:%d %B %Y} to {last:%d %B %Y} (UTC)"
    return f"{axis.n_slots * axis.slot_h:,.0f} hours"


def lines(found: dict[str, Any]) -> list[str]:
    """Return what to print of a replay."""
    base = found["fifo"]
    most = 100.0 * (1.0 - found["bound_carbon_kg"] / base["carbon_kg"]) if base["carbon_kg"] else 0.0
    text = [
        (
            f"policy {found['policy']}: {found['jobs']:.0f} jobs, {found['gpu_hours']:,.0f} {device(found)}-hours, "
            f"{found['energy_kwh']:,.0f} kWh"
        ),
        (
            f"  emissions of the cluster   {figure(found['carbon_kg'])} kg, {abs(found['saving_pct']):.2f} % "
            f"{less_or_more(found['saving_pct'])} than first come first served "
            f"({figure(base['carbon_kg'])} kg)"
        ),
        f"  {_anybody(found):<27}{most:.2f} %: reached {100.0 * found['share_of_bound']:.1f} % of it",
        f"  added up job by job        {found['naive_saving_pct']:.2f} %",
        (
            f"  delay                      mean {found['mean_delay_h']:.2f} h, 95 % under "
            f"{found['p95_delay_h']:.2f} h, longest {found['max_delay_h']:.2f} h; {found['past_bound']:.0f} past "
            f"their bound (first come first served: {base['past_bound']}"
            + (f", {found['past_bound_as_fifo']:.0f} of them the same jobs)" if found["past_bound"] else ")")
        ),
        (
            f"  peak power                 {figure(found['peak_kw'])} kW "
            f"(first come first served: {figure(base['peak_kw'])} kW)"
        ),
    ]
    if "on_site_kwh" in found:
        text += _on_site_lines(found, base["carbon_kg"])
    if found["capped_jobs"]:
        text.append(
            f"  power cap                  {found['power_cap_percent']:g} %, for {found['capped_jobs']:.0f} jobs that "
            "are in time with it; first come first served has none"
        )
    if found["idle_kwh"]:
        text.append(f"  idle {device(found)}s                  {found['idle_kwh']:,.0f} kWh of it")
    if found["never_started"]:
        text.append(f"  never started              {found['never_started']:.0f} jobs larger than the whole cluster")
    return text


def _on_site_lines(found: dict[str, Any], fifo_kg: float) -> list[str]:
    used, told = found["on_site_used_kwh"], found["on_site_kwh"]
    return [
        (
            f"  own sun and wind           {told:,.0f} kWh, of which {used:,.0f} are used (first come first served: "
            f"{found['fifo_on_site_used_kwh']:,.0f}); the grid supplies {found['grid_kwh']:,.0f} kWh"
        ),
        (
            f"  without them               {figure(found['carbon_without_on_site_kg'])} kg (first come first served: "
            f"{figure(found['fifo_carbon_without_on_site_kg'])} kg): they are worth "
            f"{figure(found['carbon_without_on_site_kg'] - found['carbon_kg'])} kg "
            f"({figure(found['fifo_carbon_without_on_site_kg'] - fifo_kg)} kg)"
        ),
        (
            f"  planned for the grid alone {figure(found['carbon_blind_to_on_site_kg'])} kg behind them: what a policy "
            "that does not know of them would emit"
        ),
    ]
