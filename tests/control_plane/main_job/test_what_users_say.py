# SPDX-License-Identifier: Apache-2.0
"""What a user says or does: deadlines, residency, durations, affinity, and a hand of one's own."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from operated_site import Site
from users_work import job, pod

from embellie.cli.main import cli
from embellie.domain.times import parse_time
from embellie_testbed.processes import until
from embellie_testbed.product import in_hours, write_forecast

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    ("notes", "reason", "words"),
    [
        ({"deadline": "2020-01-01T00:00:00Z"}, "DeadlineUnreachable", "deadline"),
        ({"deadline": "2099-01-01T00:00:00"}, "InvalidAnnotation", "time zone"),
        ({"deadline": in_hours(3), "duration": "9h"}, "DeadlineUnreachable", "duration"),
        ({"residency": "FR"}, "ResidencyUnsatisfied", "FR"),
    ],
)
def test_work_that_cannot_wait_starts_at_once_and_is_told_why(site: Site, notes: dict, reason: str, words: str):
    site.start_holding()
    site.create(job("train", site.namespace, **notes))
    plan = site.plan_when(state="Released")
    assert plan["status"]["reason"] == reason
    assert words in plan["status"]["message"]


def test_work_without_a_zone_for_its_residency_is_released_and_stays_pending_instead_of_crossing(site: Site):
    site.start_holding()
    site.create(pod("probe", site.namespace, residency="FR"))
    site.plan_when("probe", kind="pod", state="Released")

    def unschedulable():
        conditions = site.pod("probe").get("status", {}).get("conditions", [])
        return any(c["type"] == "PodScheduled" and c["status"] == "False" for c in conditions)

    until(unschedulable, "the scheduler finds no node in FR")
    assert not site.pod("probe")["spec"].get("nodeName")


def test_residency_outranks_carbon(site: Site):
    write_forecast(site.exchange, "west", [900.0] * 48)
    write_forecast(site.exchange, "east", [10.0] * 48)
    site.start_holding()
    site.create(pod("probe", site.namespace, residency="US-CA"))
    assert "west" in until(lambda: site.pod("probe")["spec"].get("nodeName"), "the pod is bound")


@pytest.mark.parametrize("duration", ["7 bananas", "0s", "-3h"])
def test_a_senseless_duration_is_an_event_that_says_how_to_mend_it(site: Site, duration: str):
    site.start_holding()
    site.create(job("train", site.namespace, duration=duration))
    site.plan_when(state="Held")

    def told():
        events = site.plane.kubectl("get", "events", "-n", site.namespace, "-o", "json")
        return [e for e in json.loads(events)["items"] if e["reason"] == "InvalidAnnotation"]

    event = until(told, "an event names the annotation")[0]
    assert "embellie.io/duration" in event["message"]
    assert "9h30m" in event["message"]


def test_a_manifest_is_told_what_its_job_is_then_promised_and_nothing_is_created(site: Site, tmp_path: Path):
    site.start_holding()
    raw = job("train", site.namespace, deadline=in_hours(10), duration="1h")
    (tmp_path / "train.yaml").write_text(json.dumps(raw))

    def told() -> list[str]:
        arguments = ["why", "-f", str(tmp_path / "train.yaml"), "--utc", "--kubeconfig", str(site.plane.kubeconfig)]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    before = told()
    assert not site.get("jobs", "-n", site.namespace)["items"]
    site.create(raw)
    bound = parse_time(site.plan_when(state="Held")["spec"]["latestStartTime"])
    for said in (before, told()):
        assert f"would be held by policy {site.namespace}, until " in said[0]
        assert f"{bound:%H:%M} UTC" in said[0]
        assert "most likely wait for about" in said[-1]
    assert [found["metadata"]["name"] for found in site.get("jobs", "-n", site.namespace)["items"]] == ["train"]


def test_a_later_deadline_is_refused_and_an_earlier_one_taken(site: Site):
    site.start_holding()
    site.create(job("train", site.namespace, deadline=in_hours(10), duration="1h"))
    first = site.plan_when(state="Held")["spec"]["latestStartTime"]
    site.plane.kubectl(
        "annotate", "job", "train", "-n", site.namespace, "--overwrite", f"embellie.io/deadline={in_hours(20)}"
    )

    def refused():
        events = json.loads(site.plane.kubectl("get", "events", "-n", site.namespace, "-o", "json"))["items"]
        return any(e["reason"] == "DeadlineMovedBack" for e in events)

    until(refused, "an event refuses the later deadline")
    assert site.plan()["spec"]["latestStartTime"] == first
    site.plane.kubectl(
        "annotate", "job", "train", "-n", site.namespace, "--overwrite", f"embellie.io/deadline={in_hours(8)}"
    )
    until(lambda: site.plan()["spec"]["latestStartTime"] < first, "the bound moves earlier")


def test_a_job_that_its_user_suspended_after_our_release_stays_suspended(site: Site):
    write_forecast(site.exchange, "west", [100.0] * 48)
    write_forecast(site.exchange, "east", [100.0] * 48)
    site.start_holding()
    site.create(job("train", site.namespace))
    site.plan_when(state="Released")
    site.plane.kubectl("patch", "job", "train", "-n", site.namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    plan = site.plan_when(state="HandedOff")
    assert plan["status"]["reason"] == "SuspendedByOther"
    assert site.job("train")["spec"]["suspend"] is True
    assert "embellie.io/held" not in site.job("train")["metadata"]["labels"]


def test_a_gate_that_another_controller_removed_counts_as_go(site: Site):
    site.start_holding()
    site.create(pod("probe", site.namespace, duration="1h"))
    site.plan_when("probe", kind="pod", state="Held")
    site.plane.kubectl(
        "patch",
        "pod",
        "probe",
        "-n",
        site.namespace,
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/spec/schedulingGates"}]',
    )
    plan = site.plan_when("probe", kind="pod", state="HandedOff")
    assert plan["status"]["reason"] == "StartedByOther"
    assert "embellie.io/held" not in site.pod("probe")["metadata"]["labels"]


@pytest.mark.parametrize("how", [["--server-side", "--field-manager=gitops"], []], ids=["server", "client"])
def test_a_users_own_affinity_is_kept_and_may_be_applied_again_after_the_start(site: Site, how: list[str]):
    write_forecast(site.exchange, "west", [100.0] * 48)
    write_forecast(site.exchange, "east", [900.0] * 48)
    site.start_holding()
    own = [
        {"matchExpressions": [{"key": "nvidia.com/gpu.product", "operator": "Exists"}]},
        {"matchExpressions": [{"key": "example.com/special", "operator": "In", "values": ["yes"]}]},
    ]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": own}}}
    manifest = json.dumps(job("train", site.namespace, spec={"affinity": affinity}))
    site.plane.kubectl("apply", *how, "-f", "-", input=manifest)
    site.plan_when(state="Released")
    site.plane.kubectl("apply", *how, "-f", "-", input=manifest)
    placed = site.job("train")["spec"]["template"]["spec"]
    assert placed["affinity"] == affinity
    assert placed["nodeSelector"] == {"topology.kubernetes.io/zone": "west"}
