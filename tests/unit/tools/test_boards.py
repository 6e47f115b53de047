# SPDX-License-Identifier: Apache-2.0
"""The boards that the chart ships are what the generator makes, and every panel asks, explains and is readable."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from grafana_foundation_sdk.models import dashboard as models

from embellie.domain.reasons import Reason
from embellie.telemetry.metrics import catalogue
from embellie.telemetry.metrics.work import HOLD_REASONS
from embellie_boards.__main__ import BOARDS, REPOSITORY, generated
from embellie_boards.palette import ORDER
from embellie_boards.queries import board_queries, expanded, panels, step_s

FILES = sorted(BOARDS.glob("*.json"))
RULES = [
    rule
    for path in sorted((REPOSITORY / "charts" / "embellie" / "files" / "rules").glob("*.yaml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
VARIABLES = {"zone": ".+", "thermal_zone": ".+", "detail_zone": "west-r1", "signal": "AverageLifecycle"}
FOREIGN = {
    "ALERTS",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_GPU_TEMP_CELSIUS",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_BOARD_POWER_WATTS",
}
LABELLED_MANY = re.compile(r"embellie_namespace_|embellie_workload_|DCGM_")

boards = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)


def board(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def names_in(promql: str) -> set[str]:
    """Names of metrics in an expression: what is left when labels, strings, functions and keywords are gone."""
    bare = re.sub(r'"[^"]*"', "", promql)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\b\d[\w.]*", "", bare)
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w)(?!\s*\()", bare)
    return {w for w in words if w not in ("or", "and", "unless", "bool", "offset", "on", "by")}


def test_whatever_work_is_held_for_is_on_one_line_of_the_panel_that_says_why_gpus_wait():
    found = next(p for p in panels(board(BOARDS / "working.json")) if p["title"] == "How many GPUs wait, and why?")
    lines = [re.search(r'reason=~?"([^"]*)"', target["expr"]) for target in found["targets"]]
    named = [reason for line in lines if line is not None for reason in line[1].split("|")]
    assert sorted(named) == sorted({*HOLD_REASONS, Reason.LIMIT_READING, Reason.HEAT_PAUSE})


def test_what_is_committed_is_what_the_generator_makes():
    for path, text in generated().items():
        assert path.read_text(encoding="utf-8") == text, f"run: python -m embellie_boards   ({path.name})"
    assert {p for p in generated() if p.suffix == ".json"} == set(FILES)


@boards
def test_a_board_is_one_that_grafanas_own_model_reads_back(path: Path):
    raw = board(path)
    read = models.Dashboard.from_json(raw)
    assert read.title == raw["title"]
    assert read.panels is not None
    assert len(read.panels) == len(raw["panels"])
    ids = [p["id"] for p in raw["panels"]]
    assert len(set(ids)) == len(ids)


@boards
def test_no_two_panels_lie_on_each_other_and_none_sticks_out(path: Path):
    taken: set[tuple[int, int]] = set()
    for panel in board(path)["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@boards
def test_every_panel_asks_a_question_says_how_to_read_the_answer_and_what_it_does_not_say(path: Path):
    for panel in panels(board(path)):
        title, text = panel["title"], panel["description"]
        assert title.endswith("?"), title
        assert len(title) <= 7 * panel["gridPos"]["w"], f"{title} is cut off on a screen of 1500 pixels"
        reading, _, caveat = text.partition("\n\nWhat it does not say: ")
        assert len(reading) > 20, title
        assert len(caveat) > 10, title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert isinstance(panel["options"], dict), title
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@boards
def test_a_board_has_its_data_source_as_a_variable_links_to_the_others_and_events(path: Path):
    raw = board(path)
    kinds = {v["name"]: v["type"] for v in raw["templating"]["list"]}
    assert kinds["datasource"] == "datasource"
    assert any(link["type"] == "dashboards" and link["tags"] == raw["tags"] for link in raw["links"])
    assert any(link["url"].endswith("/docs/dashboards.md") for link in raw["links"])
    events = {event["name"]: event["titleFormat"] for event in raw["annotations"]["list"]}
    assert events.keys() >= {"Alerts", "Another leader"}
    assert all(len(re.sub(r"\{\{\w+\}\}", "", words)) > 5 for words in events.values()), "each line says what it is"
    uids = {board(p)["uid"] for p in FILES}
    for panel in panels(raw):
        for link in panel.get("links", ()):
            if link["url"].startswith("/d/"):
                assert link["url"].removeprefix("/d/").removesuffix("?${__url_time_range}") in uids
            else:
                page = link["url"].partition("/blob/main/")[2]
                assert (REPOSITORY / page).exists(), page


def test_there_are_links_from_each_board_to_another():
    for path in FILES:
        urls = [link["url"] for panel in panels(board(path)) for link in panel.get("links", ())]
        own = f"/d/{board(path)['uid']}"
        assert any(url.startswith("/d/") and not url.startswith(own) for url in urls), path.stem


@boards
def test_every_metric_that_a_board_names_exists(path: Path):
    histograms = {f"{n}{suffix}" for n in catalogue() for suffix in ("_bucket", "_sum", "_count")}
    known = set(catalogue()) | RECORDED | FOREIGN | histograms
    for query in board_queries(path):
        unknown = names_in(expanded(query, 3600.0, VARIABLES)) - known
        assert not unknown, (query.panel, unknown)


def test_every_metric_that_a_rule_names_exists():
    known = set(catalogue()) | RECORDED | FOREIGN | {f"{n}_bucket" for n in catalogue()}
    for rule in RULES:
        assert not names_in(rule["expr"]) - known, rule


def test_every_recorded_series_is_read_by_somebody():
    read: set[str] = set()
    for path in FILES:
        for query in board_queries(path):
            read |= names_in(expanded(query, 3600.0, VARIABLES))
    for rule in RULES:
        read |= names_in(rule["expr"])
    assert read >= RECORDED


@boards
def test_no_board_reads_raw_series_of_which_there_are_hundreds(path: Path):
    for query in board_queries(path):
        assert not LABELLED_MANY.search(re.sub(r"\w+:\w+:\w+", "", query.expr)), query


def machado(colour: str, kind: str) -> np.ndarray:
    """How a colour looks to a dichromat (Machado, Oliveira and Fernandes, IEEE TVCG 2009, severity 1), linear RGB."""
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
        "normal": np.eye(3),
    }
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.clip(np.asarray(matrices[kind]) @ linear, 0.0, 1.0)


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear sRGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    t = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def colours(panel: dict[str, Any]) -> set[str]:
    found = set(re.findall(r'"fixedColor": "(#\w{6})"', json.dumps(panel)))
    for mapping in panel["fieldConfig"]["defaults"].get("mappings", ()):
        found |= {option["color"] for option in mapping["options"].values()}
    return found


@boards
@pytest.mark.parametrize("kind", ["normal", "protan", "deutan", "tritan"])
def test_colours_of_one_panel_stay_apart_for_every_eye(path: Path, kind: str):
    for panel in panels(board(path)):
        used = colours(panel)
        assert used <= set(ORDER), panel["title"]
        for one, other in combinations(sorted(used), 2):
            distance = float(np.linalg.norm(lab(machado(one, kind)) - lab(machado(other, kind))))
            # 2.3 is a just noticeable difference; lines in a graph need several times that.
            assert distance > 10.0, (panel["title"], one, other, distance)


@boards
def test_open_ended_series_are_told_apart_by_words(path: Path):
    """Lines over an unknown number of zones would need more colours than eyes can tell."""
    for panel in panels(board(path)):
        if panel["type"] != "timeseries":
            continue
        for target in panel["targets"]:
            assert "{{" not in target["legendFormat"], (panel["title"], target["legendFormat"])


def test_variables_are_put_in_as_grafana_does():
    (path,) = (p for p in FILES if p.stem == "working")
    (query,) = (q for q in board_queries(path) if q.panel == "What was decided?" and 'state="Held"' in q.expr)
    assert step_s(query, 30 * 86400.0) == 2592.0
    assert step_s(query, 3600.0) == 240.0
    assert "[960s]" in expanded(query, 3600.0, VARIABLES)
    assert "[2832s]" in expanded(query, 30 * 86400.0, VARIABLES)
    with pytest.raises(ValueError, match=r"nothing fills \$zone"):
        expanded(next(q for q in board_queries(path) if "$zone" in q.expr), 60.0, {})
