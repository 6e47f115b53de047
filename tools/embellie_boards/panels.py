# SPDX-License-Identifier: Apache-2.0
"""The few kinds of panel that the boards use, in one style."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as query_models

from embellie_boards.palette import BAD, GOOD, LOOK, NEUTRAL, ORDER

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
RECORDED = "4m"
"""How far apart recorded samples of namespaces lie: a panel over them needs no finer step."""

AnyPanel: TypeAlias = Any
"""The SDK's builders have one class for each kind of panel and no common base with setters."""


@dataclass(frozen=True, slots=True)
class Series:
    """One query of a panel. `legend` is the name of its one series, or a template over labels."""

    expr: str
    legend: str
    _: KW_ONLY
    colour: str | None = None
    dashed: bool = False
    right_axis_unit: str | None = None
    fill_below_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a panel says about itself."""

    question: str
    reading: str
    """How to read the answer."""
    caveat: str
    """What it does not say."""
    unit: str = "none"
    width: int = 12
    height: int = 8
    link: tuple[str, str] | None = None
    """Title and address of where the detail is."""

    @property
    def description(self) -> str:
        """The text behind the panel's `i`."""
        return f"{self.reading}\n\nWhat it does not say: {self.caveat}"


def _query(series: Series, ref: str, *, instant: bool = False, as_table: bool = False) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(series.expr).legend_format(series.legend).ref_id(ref).datasource(SOURCE)
    query.editor_mode(query_models.QueryEditorMode.CODE)
    if as_table:
        query.format(query_models.PromQueryFormat.TABLE)
    return query.instant() if instant else query.range()


def _dress(panel: AnyPanel, about: About) -> AnyPanel:
    panel.title(about.question).description(about.description).unit(about.unit).datasource(SOURCE)
    panel.span(about.width).height(about.height)
    if about.link is not None:
        title, url = about.link
        if url.startswith("/d/"):
            # The other board opens on the same hours.
            url += "?${__url_time_range}"
        panel.links([dashboard.DashboardLink(title).url(url).type(models.DashboardLinkType.LINK)])
    return panel


def _targets(panel: AnyPanel, series: Sequence[Series], *, instant: bool = False, as_table: bool = False) -> AnyPanel:
    for ref, one in zip("ABCDEFGH", series, strict=False):
        panel.with_target(_query(one, ref, instant=instant, as_table=as_table))
    return panel


def lines(
    about: About,
    *series: Series,
    stacked: bool = False,
    step: str | None = None,
    repeat: str | None = None,
    mark: float | None = None,
    at_most: float | None = None,
) -> AnyPanel:
    """Lines over time. A query without a colour may give several series; the viewer then tells them apart by name."""
    panel = _dress(timeseries.Panel(), about)
    panel.draw_style(common_models.GraphDrawStyle.LINE).line_width(2).show_points(common_models.VisibilityMode.NEVER)
    panel.fill_opacity(60 if stacked else 0).axis_soft_min(0)
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    panel.tooltip(
        common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI).sort(common_models.SortOrder.DESCENDING)
    )
    panel.legend(
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    if step is not None:
        panel.interval(step)
    if at_most is not None:
        panel.max(at_most)
    if repeat is not None:
        panel.repeat(repeat).repeat_direction("h")
    if mark is not None:
        steps = [models.Threshold(value=None, color="transparent"), models.Threshold(value=mark, color=NEUTRAL)]
        panel.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_models.GraphTresholdsStyleMode.DASHED))
    _targets(panel, series)
    for ref, one in zip("ABCDEFGH", series, strict=False):
        properties = _looks(one)
        if properties:
            panel.override_by_query(ref, properties)
    return panel


def _looks(series: Series) -> list[models.DynamicConfigValue]:
    found: dict[str, object] = {}
    if series.colour is not None:
        found["color"] = {"mode": "fixed", "fixedColor": series.colour}
    if series.dashed:
        found["custom.lineStyle"] = {"fill": "dash", "dash": [10, 10]}
    if series.right_axis_unit is not None:
        found |= {"unit": series.right_axis_unit, "custom.axisPlacement": "right"}
    if series.fill_below_to is not None:
        found |= {"custom.fillBelowTo": series.fill_below_to, "custom.fillOpacity": 25}
    return [models.DynamicConfigValue(id_val=name, value=value) for name, value in found.items()]


def closed(expr: str, label: str, values: Sequence[str], legends: Sequence[str] | None = None) -> list[Series]:
    """One series for each value of a label whose values are known, each in a colour of its own.

    `expr` holds `%s` where the label's matcher goes.
    """
    named = legends or values
    return [
        Series(expr % f'{label}="{value}"', legend, colour=colour)
        for value, legend, colour in zip(values, named, ORDER, strict=False)
    ]


def number(
    about: About,
    *series: Series,
    words: dict[str, tuple[str, str]] | None = None,
    steps: Sequence[tuple[float | None, str]] = ((None, NEUTRAL),),
    decimals: int | None = None,
    as_name: bool = False,
) -> AnyPanel:
    """A number now, or the word that it stands for. `steps` are (from, colour), the first from None."""
    panel = _dress(stat.Panel(), about)
    panel.graph_mode(common_models.BigValueGraphMode.NONE).color_mode(common_models.BigValueColorMode.BACKGROUND_SOLID)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.thresholds(
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=colour) for value, colour in steps])
    )
    if decimals is not None:
        panel.decimals(decimals)
    if as_name:
        panel.text_mode(common_models.BigValueTextMode.NAME)
    elif len(series) > 1:
        panel.text_mode(common_models.BigValueTextMode.VALUE_AND_NAME)
    if words is not None:
        panel.mappings([_words(words)])
    panel.no_value("no data")
    return _targets(panel, series, instant=True)


def _words(words: dict[str, tuple[str, str]]) -> models.ValueMap:
    return models.ValueMap(
        options={
            value: models.ValueMappingResult(text=text, color=colour, index=i)
            for i, (value, (text, colour)) in enumerate(words.items())
        }
    )


def states(about: About, series: Series, words: dict[str, tuple[str, str]]) -> AnyPanel:
    """Which state each series was in over time; every state has a word and a colour."""
    panel = _dress(statetimeline.Panel(), about)
    panel.mappings([_words(words)]).merge_values(True).row_height(0.8).fill_opacity(80)
    panel.show_value(common_models.VisibilityMode.AUTO)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    return _targets(panel, (series,))


def bars(about: About, *series: Series) -> AnyPanel:
    """Bars of one hue, longest first where the query sorts."""
    panel = _dress(bargauge.Panel(), about)
    panel.display_mode(common_models.BarGaugeDisplayMode.BASIC).orientation(common_models.VizOrientation.HORIZONTAL)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(ORDER[0]))
    panel.no_value("none").min(0)
    return _targets(panel, series, instant=True)


def rows(
    about: About,
    *series: Series,
    columns: dict[str, tuple[str, str]],
    transform: models.DataTransformerConfig | None = None,
    repeat: str | None = None,
) -> AnyPanel:
    """A table. `columns` maps a field to its heading and unit (an empty unit for text); other fields are hidden."""
    panel = _dress(table.Panel(), about)
    panel.no_value("none").show_header(True).cell_height(common_models.TableCellHeight.SM)
    if repeat is not None:
        panel.repeat(repeat).repeat_direction("h")
    panel.with_transformation(transform or models.DataTransformerConfig(id_val="merge", options={}))
    if columns:
        order = {field: i for i, field in enumerate(columns)}
        panel.with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": order,
                    "renameByName": {field: heading for field, (heading, _) in columns.items()},
                },
            )
        )
    for heading, unit in columns.values():
        if unit:
            panel.override_by_name(heading, [models.DynamicConfigValue(id_val="unit", value=unit)])
    return _targets(panel, series, instant=True, as_table=True)


BY_LEAD_HOUR = models.DataTransformerConfig(
    id_val="groupingToMatrix",
    options={"columnField": "level", "rowField": "lead_hours", "valueField": "Value", "emptyValue": "null"},
)
"""A forecast as a table: so many hours ahead (rows), its quantiles (columns)."""
YES_NO = {"1": ("Yes", GOOD), "0": ("No", BAD)}
NONE_OR_SOME = ((None, GOOD), (1.0, BAD))
NONE_OR_FEW = ((None, GOOD), (1.0, LOOK))
