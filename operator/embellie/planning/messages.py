# SPDX-License-Identifier: Apache-2.0
"""The one sentence of a decision: plain words, numbers with units, times in UTC."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from embellie.domain.plan import Estimate
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Workload


def mass(grams: float) -> str:
    """Write a mass of CO2e as a person would say it.

    >>> mass(1234.0), mass(820.4), mass(-2_500_000.0)
    ('1.23 kg', '820 g', '-2.5 t')
    """
    size = abs(grams)
    if size >= 1e6:
        return f"{grams / 1e6:.3g} t"
    if size >= 1e3:
        return f"{grams / 1e3:.3g} kg"
    return f"{grams:.0f} g"


@lru_cache(maxsize=32_768)
def moment(when: datetime) -> str:
    """Write an instant to the minute, in UTC."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def cleaner_window(
    w: Workload,
    cell: str,
    start: datetime,
    now: Estimate,
    best: Estimate,
    taken: tuple[Reason, datetime] | None = None,
) -> str:
    """Say what waiting is expected to save, and what keeps it from its own cleanest start."""
    # In whole grams, as the plan's status has them: two lines of one answer must not differ.
    now_g, best_g = round(now.expected_g), round(best.expected_g)
    saving = round(100.0 * (now_g - best_g) / now_g) if now_g > 0 else 0
    own = _own_counted(now, best)
    hours = "cleaner hours" if w.weights.carbon_only else f"hours that its policy prefers ({_weighed(w)})"
    return (
        f"Waits for {hours} in {cell}: starting now would emit {mass(now_g)} CO2e, "
        f"starting {moment(start)} {mass(best_g)} ({abs(saving)} % {'less' if saving >= 0 else 'more'}{own}); "
        f"starts at the latest {moment(w.latest_start)}."
        f"{_taken(*taken) if taken else ''}"
    )


def _weighed(w: Workload) -> str:
    parts = (("carbon", w.weights.carbon), ("cost", w.weights.cost), ("renewable share", w.weights.renewable))
    return " : ".join(f"{name} {weight:g}" for name, weight in parts if weight > 0)


_SHORT = {
    Reason.WAITING_FOR_GPUS: "GPUs are",
    Reason.CONTRACTED_POWER: "the power that its zone may draw is",
    Reason.HEAT_LIMIT: "cooling is",
}


def _taken(reason: Reason, when: datetime) -> str:
    return f" Its cleanest start, {moment(when)}, goes to other work: {_SHORT[reason]} short then."


_BLOCKED = {
    Reason.WAITING_FOR_GPUS: "no allowed zone has {gpus} free for its whole run",
    Reason.CONTRACTED_POWER: "its {worst:.1f} kW would take a grid zone over its contracted power",
    Reason.HEAT_LIMIT: "its {worst:.1f} kW at worst-case power would take a thermal zone over its limit",
    Reason.SENSOR_UNTRUSTED: "a temperature sensor cannot be trusted, so the cooling counts at its worst",
    Reason.START_RAMP: "its zone's power may not rise faster, so starts are spread",
}
_ORDERED = "its {worst:.1f} kW would take a grid zone over what an order leaves it"


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def blocked(
    w: Workload,
    reasons: Sequence[Reason],
    cell: str | None,
    start: datetime,
    until: datetime | None = None,
    order_ends: datetime | None = None,
) -> str:
    """Say what is full (all of it, where several rows are at once) and until when, the planned start and the bound."""
    words = _BLOCKED if order_ends is None else {**_BLOCKED, Reason.CONTRACTED_POWER: _ORDERED}
    why = ", and ".join(words[reason].format(gpus=_gpus(w.gpus), worst=w.worst_power_kw) for reason in reasons)
    where = f" in {cell}" if cell else ""
    till = f" before {moment(until)}" if until is not None else ""
    if order_ends is not None:
        till = f" until {moment(order_ends)}, when the order ends"
    return f"Waits because {why}{till}; planned for {moment(start)}{where}, at the latest {moment(w.latest_start)}."


def _share(share: tuple[float, float]) -> str:
    return f"{100 * share[0]:.0f} % of the recent GPU-hours and {100 * share[1]:.0f} % of the waiting"


def heat_now(w: Workload, cell: str, spared_g: float, otherwise_g: float) -> str:
    """Say that a heat network needs the heat of this start more than the grid would have it wait."""
    return (
        f"Starts in {cell}: the heat network there is short of heat and burns {mass(spared_g - otherwise_g)} CO2e less "
        f"than for the start that {_otherwise(w)} would choose."
    )


def heat_later(
    w: Workload, cell: str, start: datetime, now: Estimate, best: Estimate, spared_g: float, otherwise_g: float
) -> str:
    """Say that it waits for hours in which a heat network needs its heat."""
    return (
        f"Waits for hours in which the heat network of {cell} is short of heat: starting {moment(start)} spares it "
        f"{mass(spared_g)} CO2e, {mass(spared_g - otherwise_g)} more than the start that {_otherwise(w)} would choose; "
        f"the run emits {mass(best.expected_g)} then and {mass(now.expected_g)} now; "
        f"starts at the latest {moment(w.latest_start)}."
    )


def on_site_now(w: Workload, cell: str, now: Estimate) -> str:
    """Say that the site's own power makes this start better than what the grid would have it wait for."""
    return (
        f"Starts in {cell}: the site's own sun and wind spare it {mass(now.on_site_g)} CO2e, so that it emits "
        f"{mass(now.expected_g)}; {_otherwise(w)} would choose another start."
    )


def on_site_later(w: Workload, cell: str, start: datetime, now: Estimate, best: Estimate) -> str:
    """Say that it waits for hours in which the site has power of its own."""
    return (
        f"Waits for the site's own sun and wind in {cell}: starting {moment(start)} they spare it "
        f"{mass(best.on_site_g)} CO2e, and it emits {mass(best.expected_g)}; starting now it would emit "
        f"{mass(now.expected_g)}; starts at the latest {moment(w.latest_start)}."
    )


def _own_counted(*estimates: Estimate) -> str:
    return ", the site's own sun and wind counted" if any(each.on_site_g > 0.0 for each in estimates) else ""


def _otherwise(w: Workload) -> str:
    return "the grid alone" if w.weights.carbon_only else f"its policy alone ({_weighed(w)})"


def others_first(w: Workload, cell: str, start: datetime, until: datetime, share: tuple[float, float]) -> str:
    """Say that room comes earlier, and goes to tenants that had less of it."""
    return (
        f"Waits because the room that comes {moment(until)} is short and goes to others first: {w.tenant} had "
        f"{_share(share)}; planned for {moment(start)} in {cell}, at the latest {moment(w.latest_start)}."
    )


def waited_enough(w: Workload, cell: str, now: Estimate, best: Estimate, share: tuple[float, float]) -> str:
    """Say that waiting would save, and that its tenant has waited more than others."""
    saving = 100.0 * (1.0 - best.expected_g / now.expected_g) if now.expected_g > 0 else 0.0
    return (
        f"Starts in {cell}: waiting would save {saving:.1f} % of {mass(now.expected_g)} CO2e, "
        f"too little for {w.tenant}, which had {_share(share)}."
    )


def slack_spent(w: Workload, cell: str, now: Estimate, best: Estimate) -> str:
    """Say that waiting would save, and could make work late."""
    saving = 100.0 * (1.0 - best.expected_g / now.expected_g) if now.expected_g > 0 else 0.0
    would = f"save {saving:.1f} % of {mass(now.expected_g)} CO2e" if w.weights.carbon_only else "suit its policy better"
    return (
        f"Starts in {cell}: waiting would {would}, but so much work waits that some of it could miss its latest start."
    )


def best_now(w: Workload, cell: str, now: Estimate) -> str:
    """Say that waiting would not help."""
    if not w.weights.carbon_only:
        return (
            f"Starts in {cell}: no later start within its bound is better as its policy weighs hours ({_weighed(w)})."
        )
    return (
        f"Starts in {cell}: no later start within its bound is expected to emit less than {mass(now.expected_g)} CO2e."
    )


def minimum_saving(w: Workload, cell: str, now: Estimate, best: Estimate) -> str:
    """Say that waiting would help too little."""
    if not w.weights.carbon_only:
        return (
            f"Starts in {cell}: as its policy weighs hours ({_weighed(w)}), waiting would better it by less than the "
            f"minimum of {w.minimum_saving_percent:g} %."
        )
    saving = 100.0 * (1.0 - best.expected_g / now.expected_g) if now.expected_g > 0 else 0.0
    return (
        f"Starts in {cell}: waiting would save {saving:.1f} % of {mass(now.expected_g)} CO2e, "
        f"less than the policy's minimum of {w.minimum_saving_percent:g} %."
    )


def bound_reached(w: Workload, cell: str | None, now: datetime) -> str:
    """Say that the wait is over."""
    where = f" in {cell}" if cell else ""
    come = "has come" if w.latest_start <= now else "is too near to wait any longer"
    return f"Starts{where}: its guaranteed latest start, {moment(w.latest_start)}, {come}."


def forecast_unavailable(cell: str) -> str:
    """Say that there is nothing to wait for."""
    return f"Starts in {cell}: no usable forecast of the grid, so there is nothing to wait for."


def no_zone() -> str:
    """Say that no zone takes it."""
    return "Starts without a zone: no GridZone selects a node that it may use; check the zones' nodeSelector."


def held_fraction(w: Workload, most_gpus: float) -> str:
    """Say that the policy's ceiling is reached."""
    return f"Starts: policy {w.policy} may hold at most {most_gpus:.0f} GPUs at once, and this is among its oldest."


def forced(reason: str) -> str:
    """Say why it is not planned, where the caller gave no words."""
    return f"Starts without waiting: {reason}."
