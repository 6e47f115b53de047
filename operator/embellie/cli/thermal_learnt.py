# SPDX-License-Identifier: Apache-2.0
"""What a fit learnt, in words and small tables."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from embellie.cli.thermal_fit import Outcome
from embellie.cli.words import in_columns
from embellie.thermal.server import KNOTS

Values = Mapping[str, Any]


def learnt(outcome: Outcome) -> list[str]:
    """Return what was learnt, line by line."""
    lines: list[str] = []
    for kind, tell in _TELL.items():
        values = outcome.parameters.get(kind)
        if isinstance(values, Mapping):
            lines += tell(values)
    return lines


def _node(v: Values) -> list[str]:
    parts = [f"{v['base_w']:.0f} W", f"{v['gpu_share']:.3f} x the GPUs' power"]
    if v["fan_w"]:
        parts.append(f"{v['fan_w']:.0f} W x (fan rpm / 10,000)^{v['fan_exponent']:g}")
    if v["busy_w"]:
        parts.append(f"{v['busy_w']:.0f} W x the GPUs' utilisation (0 to 1)")
    return [f"node power = {' + '.join(parts)}"]


def _dies(v: Values) -> list[str]:
    columns = (
        ("without power °C", "t0_c", 1),
        ("at once mK/W", "r_fast_mk_per_w", 1),
        ("slowly mK/W", "r_slow_mk_per_w", 1),
        ("slowly: within s", "tau_s", 0),
        ("error that stays", "memory", 2),
    )
    head = [name for name, _, _ in columns]
    rows = {name: [f"{one[key]:.{places}f}" for _, key, places in columns] for name, one in v.items()}
    return ["die temperature, by fan mode and GPU", *_table(head, rows)]


def _servers(v: Values) -> list[str]:
    head = [f"{100 * knot:.0f} % busy W" for knot in KNOTS]
    head += ["without power °C", "warms by mK/W", "error that stays"]
    rows = {}
    for name, one in v.items():
        watts = [float(one["idle_w"])]
        for low, high in pairwise(KNOTS):
            watts.append(watts[-1] + (high - low) * float(one[f"watts_per_unit_to_{round(100 * high)}_percent"]))
        rest = f"{one['t0_c']:.1f}", f"{one['r_mk_per_w']:.1f}", f"{one['memory']:.2f}"
        rows[name] = [*(f"{w:.0f}" for w in watts), *rest]
    return ["power and temperature of one GPU of each server", *_table(head, rows)]


def _zone(v: Values) -> list[str]:
    trust = "is used" if v["trusted"] else "is not used yet: the ThermalZone's own numbers count"
    supply = "" if v["supply_known"] else "; without a Supply sensor its setpoint stands for it"
    warms = f"a kilowatt warms the zone by {v['rise_mk_per_kw']:g} mK (standard error {v['rise_se_mk_per_kw']:g})"
    stands = f"it stands {v['offset_k']:+g} K off that and follows with a time constant of {v['tau_s']:.0f} s"
    return [f"{warms} over its supply{supply}", f"{stands}; {v['margin_k']:g} K are kept free; the model {trust}"]


_TELL: Mapping[str, Callable[[Values], list[str]]] = {
    "node_power": _node,
    "die": _dies,
    "servers": _servers,
    "zone": _zone,
}


def _table(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    lines = [("", *head), *((name, *cells) for name, cells in rows.items())]
    return [f"  {line}" for line in in_columns(lines, numbers=True, gap=2)]
