# SPDX-License-Identifier: Apache-2.0
"""What is said of work that does not exist yet."""

import locale
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from users_work import job, pod

from embellie.api.gridzone import GridZone
from embellie.cli.main import cli
from embellie.cli.preview import Site, preview
from embellie.cli.why import manifests
from embellie.cluster.records import NamespaceRecord
from embellie.domain.times import format_time
from embellie_testbed.views import ZONE, grid_zone, node, nodes, policy, thermal_zone

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def hours(count: float) -> str:
    return format_time(NOW + timedelta(hours=count))


def made(raw: dict[str, Any], *, held: bool = True, suspend: bool = True) -> dict[str, Any]:
    """What the API server answers to a dry run."""
    raw["metadata"] |= {"uid": "u", "creationTimestamp": hours(0)}
    if held:
        raw["metadata"]["labels"]["embellie.io/held"] = "true"
    if raw["kind"] == "Job":
        raw["spec"]["suspend"] = suspend
    return raw


def zone(name: str, now_g: int, best_g: int, begins_in_h: float, rung: str = "Live", **spec: Any) -> GridZone:
    window = {"startTime": hours(begins_in_h), "endTime": hours(begins_in_h + 4)}
    status = {
        "carbonIntensityGramsPerKilowattHour": now_g,
        "nextBestWindow": {**window, "carbonIntensityGramsPerKilowattHour": best_g},
        "forecast": {"rung": rung},
    }
    return GridZone.model_validate({**grid_zone(name, **spec).model_dump(by_alias=True), "status": status})


WEST, EAST = zone("west", 400, 200, 14), zone("east", 350, 300, 2, jurisdiction="US-VA")


def say(raw: Any, policies: Any = None, zones: Any = (WEST, EAST), jobs: Any = (), **where: Any) -> list[str]:
    team = NamespaceRecord(name="team", labels={"gpu": "yes"})
    on = nodes([each.metadata.name for each in zones])
    site = Site(grid_zones=tuple(zones), **{"nodes": on, **where})
    lines = preview(raw, team, [policy()] if policies is None else policies, site, jobs, now=NOW, zone=UTC)
    assert 1 <= len(lines) <= 6
    return lines


def test_work_that_would_wait_is_told_its_bound_the_zones_hours_and_where_it_would_go() -> None:
    likely = "So it would most likely wait for about Thu 02:00 UTC in west, for 43 % less a kWh."
    assert say(made(job("train", "team"))) == [
        "job/train in team would be held by policy all, until Thu 12:00 UTC (in 1d) at the latest.",
        "west: 400 g CO2e/kWh now, 200 in the cleanest four hours ahead, from Thu 02:00 UTC.",
        "east: 350 g CO2e/kWh now, 300 in the cleanest four hours ahead, from 14:00 UTC.",
        f"{likely} A plan weighs its whole run, and the room that is left.",
    ]


@pytest.mark.parametrize(
    ("notes", "until"),
    [
        ({"deadline": hours(10), "duration": "4h"}, "18:00 UTC (in 6h)"),
        ({"max_delay": "90m"}, "13:30 UTC (in 1h30m)"),
        ({"deadline": hours(10)}, "20:00 UTC (in 8h)"),
    ],
)
def test_the_bound_is_the_one_that_the_operator_would_promise(notes: dict[str, str], until: str) -> None:
    ran = {"startTime": hours(-9), "completionTime": hours(-7), "conditions": [{"type": "Complete", "status": "True"}]}
    past = [{**made(job(f"old-{i}", "team"), held=False), "status": ran} for i in range(20)]
    assert f", until {until} at the latest." in say(made(job("train", "team", **notes)), jobs=past)[0]


def test_where_the_site_has_plants_of_its_own_it_is_said_that_a_plan_weighs_them_too() -> None:
    hill = [{"name": "hill", "kind": "Wind", "peakKilowatts": 100}]
    last = say(made(job("train", "team")), zones=[zone("west", 400, 200, 14, onSite=hill)])[-1]
    assert last.endswith("A plan weighs its whole run, the room that is left, and the site's own sun and wind.")
    last = say(made(job("train", "team")), zones=[zone("west", 400, 399, 14, onSite=hill)])[-1]
    assert last.endswith("or wait for hours that a plan finds between, or for the site's own sun and wind.")


def test_a_pod_is_asked_about_like_a_job() -> None:
    assert say(made(pod("sweep", "team", flex="bonus")))[0].startswith("pod/sweep in team would be held by policy all")


@pytest.mark.parametrize(
    "zones",
    [
        [zone("west", 400, 390, 0)],
        [zone("west", 400, 397, 5)],
        [zone("west", 400, 100, 30)],
        [zone("west", 400, 300, 3), zone("east", 299, 299, 0)],
    ],
    ids=["now is best", "saves too little", "after its bound", "another zone is as clean now"],
)
def test_work_for_which_no_better_hour_comes_in_time_would_start_at_once(zones: list[GridZone]) -> None:
    assert "would most likely start at once" in say(made(job("train", "team")), zones=zones)[-1]


@pytest.mark.parametrize("zones", [[grid_zone("new")], [zone("flat", 400, 200, 4, rung="Neutral")]])
def test_without_a_forecast_where_it_may_run_it_would_start_at_once(zones: list[GridZone]) -> None:
    said = say(made(job("train", "team")), zones=zones)
    assert said[1:] == ["No zone that it may use has a forecast: it would most likely start at once."]


def in_zones(*zones: str) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": list(zones)}]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


@pytest.mark.parametrize(
    "confined",
    [{"zone": "east"}, {"spec": in_zones("east", "north")}, {"residency": "US-VA"}],
    ids=["node selector", "affinity", "residency"],
)
def test_only_zones_with_nodes_that_it_may_use_are_told(confined: dict[str, Any]) -> None:
    assert [line.partition(":")[0] for line in say(made(job("train", "team", **confined)))[1:-1]] == ["east"]


def test_without_the_right_to_read_nodes_it_is_told_that_its_selectors_are_left_out() -> None:
    told = say(made(job("train", "team", zone="east")), nodes=None)
    assert [line[:5] for line in told[1:-1]] == ["west:", "east:"]
    assert told[-1].endswith(" Its node selector or affinity is left out: you may not read nodes.")
    assert "left out" not in " ".join(say(made(job("train", "team")), nodes=None)), "it has none"
    assert [line[:5] for line in say(made(job("train", "team", residency="US-VA")), nodes=None)[1:-1]] == ["east:"]


TWO_ROWS = {
    "thermal_zones": tuple(thermal_zone(row, nodeSelector={"rack": row}) for row in "ab"),
    "nodes": tuple(node(f"east-{number}", rack="ab"[number % 2]) for number in range(4)),
}


@pytest.mark.parametrize(
    ("asks", "where", "why", "words"),
    [
        ({"pods": 5}, {}, "NoZone", "No zone has enough nodes that it may use. It asks for 40 GPUs."),
        ({"pods": 3}, TWO_ROWS, "NoZone", "It asks for 24 GPUs."),
        ({"zone": "north"}, {}, "NoZone", "No zone has enough nodes that it may use. It asks for 8 GPUs."),
        ({"residency": "FR"}, {}, "ResidencyUnsatisfied", "No GridZone lies in FR"),
        ({"residency": "FR"}, {"nodes": None}, "ResidencyUnsatisfied", "stays Pending"),
    ],
)
def test_work_that_fits_into_no_zone_is_told_so(asks: Any, where: Any, why: str, words: str) -> None:
    first, second = say(made(job("train", "team", **asks)), zones=[EAST], **where)
    assert first == f"job/train in team would start at once ({why})."
    assert words in second


def test_a_status_that_nobody_renews_any_more_is_no_forecast() -> None:
    assert say(made(job("train", "team")), zones=[zone("west", 400, 200, -5)])[1].startswith("No zone")


def test_what_cannot_be_used_of_a_manifest_is_told_before_anything_is_created() -> None:
    said = say(made(job("train", "team", deadline="tomorrow", dedline="x")))
    assert said[0] == "job/train in team would start at once (InvalidAnnotation)."
    assert "embellie.io/deadline: 'tomorrow' is not an instant" in said[1]
    assert "embellie.io/dedline" in said[1]
    many = [zone(f"z{i}", 400, 200 + i, 5) for i in range(9)]
    assert say(made(job("train", "team", duration="soon")), zones=many)[-1].startswith("To mend: annotation")


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        ([], "would start at once: no EnergyPolicy matches it"),
        ([policy(namespaceSelector={"matchLabels": {"gpu": "no"}})], "no EnergyPolicy matches it"),
        ([policy(mode="shadow")], "would start at once: its policy all is in mode shadow"),
        ([policy()], "would not be held"),
    ],
)
def test_work_that_the_api_server_would_not_hold_is_told_why(policies: list[Any], words: str) -> None:
    (line,) = say(made(job("train", "team"), held=False, suspend=False), policies)
    assert words in line


@pytest.mark.parametrize(
    ("flex", "word"), [("rigid", "is rigid"), (None, "has not opted in"), ("Patient", "'Patient'")]
)
def test_work_that_is_never_held_is_told_what_to_change(flex: str | None, word: str) -> None:
    said = say(made(job("train", "team", flex=flex), held=False, suspend=False))
    assert word in said[0]
    assert "embellie.io/flex: patient" in said[1]


@pytest.mark.parametrize("where", ["annotations", "template"])
def test_an_opt_in_that_is_written_where_nobody_reads_it_is_named(where: str) -> None:
    raw, flex = job("train", "team", flex=None), {"embellie.io/flex": "patient"}
    if where == "template":
        raw["spec"]["template"]["metadata"] = {"labels": flex}
    else:
        raw["metadata"]["annotations"] = flex
    said = say(made(raw, held=False, suspend=False))
    what = {"annotations": "is written as an annotation", "template": "stands in its pod template"}[where]
    assert f"embellie.io/flex {what}; it is read " in said[0]


@pytest.fixture
def access(tmp_path: Path) -> Path:
    """A kubeconfig of a cluster that nobody asks."""
    file = tmp_path / "kubeconfig"
    context = "contexts: [{name: c, context: {cluster: c, user: u}}]\ncurrent-context: c\nusers: [{name: u, user: {}}]"
    file.write_text(f"{context}\nclusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:1'}}}}]")
    return file


VOLCANO = "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {name: a}"


@pytest.mark.parametrize("text", ["", "kind: Service\nmetadata: {name: a}", "a: [", "kind: Job", "\x00", VOLCANO])
def test_a_file_without_work_in_it_is_one_sentence(text: str, tmp_path: Path, access: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(text)
    result = CliRunner().invoke(cli, ["why", "-f", str(file), "--kubeconfig", str(access)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert str(file) in result.output


def test_a_file_of_other_kinds_is_told_that_what_they_make_is_never_held(tmp_path: Path, access: Path) -> None:
    file = tmp_path / "nightly.yaml"
    file.write_text(f"apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: a}}\n---\n{VOLCANO}")
    result = CliRunner().invoke(cli, ["why", "-f", str(file), "--kubeconfig", str(access)])
    assert "but CronJob (batch/v1), Job (batch.volcano.sh/v1alpha1): what other kinds make" in result.output
    assert "is never held" in result.output


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n---\n" + VOLCANO, ["a"]),
        ("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: a}}, 7]", ["a"]),
        ("apiVersion: batch/v1\nkind: JobList\nitems: [{metadata: {name: a}}, {metadata: {name: b}}]", ["a", "b"]),
    ],
    ids=["documents", "a list", "a list of Jobs as the API server has it"],
)
def test_work_is_found_in_all_documents_and_lists(text: str, found: list[str]) -> None:
    assert [raw["metadata"]["name"] for raw in manifests(StringIO(text))] == found


def test_a_manifest_is_read_as_utf_8_whatever_the_locale(tmp_path: Path, access: Path) -> None:
    (tmp_path / "train.yaml").write_text("kind: Service\nmetadata: {name: träumt}", encoding="utf-8")
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        result = CliRunner().invoke(cli, ["why", "-f", str(tmp_path / "train.yaml"), "--kubeconfig", str(access)])
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    assert "neither a Job" in result.output


@pytest.mark.parametrize("arguments", [["why"], ["why", "job/a", "-f", "-"]])
def test_why_wants_either_work_that_exists_or_a_file(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert "name one of TARGET" in result.output
