# SPDX-License-Identifier: Apache-2.0
"""Every query of every board, read back from the JSON that the chart ships, with Grafana's variables put in.

Tests and benchmarks ask a real Prometheus with them, exactly as Grafana would.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCRAPE_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardQuery:
    """One query as it stands in a board."""

    board: str
    panel: str
    """The panel's question; for a variable or an event, its name."""
    expr: str
    instant: bool
    min_step_s: float
    """The finest step that the panel asks for; 0 where it does not."""
    repeat: str | None
    """The variable whose every value gives the panel once more."""


def board_queries(path: Path) -> list[BoardQuery]:
    """Return the queries of one board: panels, events, and what fills the variables."""
    board: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    name = str(board["uid"])
    found = [_query(name, panel, target) for panel in panels(board) for target in panel["targets"]]
    found += [
        _plain(name, f"event {event['name']}", event["expr"], instant=False) for event in board["annotations"]["list"]
    ]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            found.append(_plain(name, f"variable {variable['name']}", f"count by ({label}) ({metric})", instant=True))
    return found


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels of a board, without its rows."""
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel


def _query(board: str, panel: Mapping[str, Any], target: Mapping[str, Any]) -> BoardQuery:
    return BoardQuery(
        board=board,
        panel=str(panel["title"]),
        expr=str(target["expr"]),
        instant=bool(target.get("instant")),
        min_step_s=_seconds(panel.get("interval")),
        repeat=panel.get("repeat"),
    )


def _plain(board: str, panel: str, expr: str, *, instant: bool) -> BoardQuery:
    return BoardQuery(board=board, panel=panel, expr=expr, instant=instant, min_step_s=0.0, repeat=None)


def _seconds(interval: str | None) -> float:
    if not interval:
        return 0.0
    return float(interval[:-1]) * {"s": 1, "m": 60, "h": 3600}[interval[-1]]


def step_s(query: BoardQuery, range_s: float) -> float:
    """Return the step that Grafana takes for a panel of about 1000 pixels [s]."""
    return max(query.min_step_s, _SCRAPE_S, float(round(range_s / 1000)))


def expanded(query: BoardQuery, range_s: float, variables: Mapping[str, str]) -> str:
    """Return the PromQL that Grafana would send for a time range [s].

    Raises ValueError for a variable that nothing fills.
    """
    step = step_s(query, range_s)
    # As in Grafana's Prometheus data source: never less than four scrapes.
    scrape = query.min_step_s or _SCRAPE_S
    values = {
        "__rate_interval": f"{round(max(step + scrape, 4 * scrape))}s",
        "__interval": f"{round(step)}s",
        "__range": f"{round(range_s)}s",
        **variables,
    }

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise ValueError(f"{query.board}, {query.panel}: nothing fills ${name}")
        return values[name]

    return re.sub(r"\$(\w+)", value, query.expr)
