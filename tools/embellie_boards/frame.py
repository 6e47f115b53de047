# SPDX-License-Identifier: Apache-2.0
"""What every board has: variables, links to the others, events, rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from embellie_boards.palette import BLUE, PURPLE, VERMILION
from embellie_boards.panels import SOURCE, AnyPanel

DOCS = "https://github.com/embellie/embellie/blob/main/docs"
TAG = "embellie"


def runbook(alert: str) -> tuple[str, str]:
    """Link a panel to the page on what to do when an alert fires."""
    return "Runbook", f"{DOCS}/runbooks/{alert}.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A choice at the top of a board, filled by a query."""

    name: str
    label: str
    metric: str
    """The metric whose label is offered."""
    values_of: str
    """The label."""
    several: bool = True
    default: str = ""
    """The value chosen at first; empty: the first of the list."""


ZONE = Variable(name="zone", label="Grid zone", metric="embellie_free_gpus", values_of="zone")


def board(
    *,
    uid: str,
    title: str,
    summary: str,
    since: str,
    variables: Sequence[Variable],
    rows: Sequence[tuple[str, Sequence[AnyPanel]]],
) -> dashboard.Dashboard:
    """Put a board together; panels of a row follow each other from left to right."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(summary)
        .tags([TAG])
        .time(since, "now")
        .timezone("utc")
        .refresh("1m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Other boards")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
        )
        .link(
            dashboard.DashboardLink("How to read this board")
            .type(models.DashboardLinkType.LINK)
            .url(f"{DOCS}/dashboards.md")
            .icon("doc")
            .target_blank(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in variables:
        made.with_variable(_variable(variable))
    for event in _EVENTS:
        made.annotation(event)
    number = 0
    for heading, panels in rows:
        number += 1
        made.with_row(dashboard.Row(heading).id(number))
        for panel in panels:
            number += 1
            made.with_panel(panel.id(number))
    return made


class _Worded(models.AnnotationQuery):
    """An event with the words that the Prometheus data source shows at its line; the SDK's model lacks the field."""

    words = ""

    def to_json(self) -> dict[str, object]:
        """Return what Grafana reads."""
        return super().to_json() | {"titleFormat": self.words}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event(Builder[models.AnnotationQuery]):
    """A vertical line over all panels."""

    name: str
    expr: str
    colour: str
    words: str
    """What stands at the line; `{{label}}` is put in."""

    def build(self) -> models.AnnotationQuery:
        """Return it for a board."""
        made = _Worded(name=self.name, datasource=SOURCE, icon_color=self.colour, expr=self.expr)
        made.words = self.words
        return made


_EVENTS = (
    _Event(
        name="Alerts",
        expr='ALERTS{alertname=~"Embellie.+", alertstate="firing"}',
        colour=VERMILION,
        words="{{alertname}} fires ({{severity}})",
    ),
    _Event(
        name="Another leader",
        expr="sum(changes(embellie_leader[2m])) > 0",
        colour=PURPLE,
        words="Another operator leads",
    ),
    _Event(
        name="Holding switched",
        expr="max(changes(embellie_holding_enabled[2m])) > 0",
        colour=BLUE,
        words="Holding was switched on or off",
    ),
)


def _variable(variable: Variable) -> dashboard.QueryVariable:
    query = f"label_values({variable.metric}, {variable.values_of})"
    made = (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(variable.several)
    )
    if variable.several:
        made.include_all(True).all_value(".+")
        made.current(models.VariableOption(selected=True, text="All", value="$__all"))
    elif variable.default:
        made.current(models.VariableOption(selected=True, text=variable.default, value=variable.default))
    return made
