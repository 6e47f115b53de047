# SPDX-License-Identifier: Apache-2.0
"""Each alert fires when it must, with words that name what is wrong, and stays silent when it need not (promtool)."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from embellie_testbed.build import binaries
from embellie_testbed.paths import CHART, REPOSITORY

pytestmark = pytest.mark.control_plane

RULES = CHART / "files" / "rules"
RUNBOOKS = REPOSITORY / "docs" / "runbooks"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((RULES / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Series (one sample a minute) under which an alert fires at a time, and series under which it must not."""

    alert: str
    firing: dict[str, str]
    at: str
    summary: str
    silent: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)


def rung(zone: str, rung: str, values: str) -> dict[str, str]:
    return {f'embellie_forecast_rung{{zone="{zone}",rung="{rung}"}}': values}


LEADER = 'embellie_leader{instance="a"}'
OTHER = 'embellie_leader{instance="b"}'
COMPLETE = 'embellie_turns_total{outcome="complete",instance="a"}'
DENIED = 'embellie_release_failures_total{result="Denied"}'
BUCKET = 'embellie_turn_seconds_bucket{part="whole",le="%s"}'

CASES = [
    Case(
        alert="EmbellieNoLeader",
        firing={LEADER: "1x3 0x10", OTHER: "0x13"},
        at="6m",
        summary="No Embellie operator leads.",
        # A minute without a leader is what a change of leader takes.
        silent={LEADER: "1x3 0x1 0x10", OTHER: "0x4 1x10"},
    ),
    Case(
        alert="EmbellieNoLeader",
        firing={"up": "1x10"},
        at="6m",
        summary="No Embellie operator leads.",
        silent={LEADER: "1x10"},
    ),
    Case(
        alert="EmbellieTwoLeaders",
        firing={LEADER: "1x10", OTHER: "1x10"},
        at="5m",
        summary="2 Embellie operators believe that they lead.",
        silent={LEADER: "1x10", OTHER: "0x10"},
    ),
    Case(
        alert="EmbellieTurnsNotCompleting",
        firing={LEADER: "1x20", COMPLETE: "7x20"},
        at="10m",
        summary="The operator leads but has completed no turn for five minutes.",
        silent={LEADER: "1x20", COMPLETE: "0+1x20"},
    ),
    Case(
        alert="EmbelliePastBound",
        firing={'embellie_past_bound_workloads{state="Held"}': "3x10"},
        at="3m",
        labels={"state": "Held"},
        summary="3 workloads are held past their latest start.",
        silent={'embellie_past_bound_workloads{state="Held"}': "0x10"},
    ),
    Case(
        alert="EmbellieHeldByLimit",
        firing={'embellie_past_bound_workloads{state="HeldByLimit"}': "2x10"},
        at="4m",
        labels={"state": "HeldByLimit"},
        summary="2 workloads are held past their latest start by a hard limit.",
        silent={'embellie_past_bound_workloads{state="HeldByLimit"}': "2x0 0x10"},
    ),
    Case(
        alert="EmbellieReleasesRefused",
        firing={DENIED: "0 0 1x10"},
        at="4m",
        labels={"result": "Denied"},
        summary="Releases fail: Denied.",
        # A lost race is tried again and is nobody's alarm.
        silent={DENIED: "0x12", 'embellie_release_failures_total{result="Conflict"}': "0+5x12"},
    ),
    Case(
        alert="EmbellieTurnSlow",
        firing={BUCKET % "10": "0x60", BUCKET % "30": "0+4x60", BUCKET % "+Inf": "0+4x60"},
        at="50m",
        summary="Nine of ten turns take up to 28s.",
        silent={BUCKET % "10": "0+4x60", BUCKET % "30": "0+4x60", BUCKET % "+Inf": "0+4x60"},
    ),
    Case(
        alert="EmbellieConfigurationConflict",
        firing={'embellie_configuration_conflicts{kind="grid_zone_nodes"}': "4x20"},
        at="12m",
        labels={"kind": "grid_zone_nodes"},
        summary="4 objects stand in each other's way: grid_zone_nodes.",
        # A policy of a higher priority may overrule another by intent.
        silent={'embellie_configuration_conflicts{kind="overruled_policies"}': "1x20"},
    ),
    Case(
        alert="EmbellieForecastMissing",
        firing=rung("west", "None", "1x30") | rung("west", "Live", "0x30"),
        at="20m",
        labels={"zone": "west"},
        summary="Grid zone west has no usable forecast.",
        silent=rung("west", "None", "1x3 0x30") | rung("west", "Live", "0x3 1x30"),
    ),
    Case(
        alert="EmbellieForecastDegraded",
        firing=rung("west", "Calendar", "1x400"),
        at="370m",
        labels={"zone": "west"},
        summary="Grid zone west has been without live grid data for six hours.",
        silent=rung("west", "Calendar", "1x100 0x1 1x300"),
    ),
    Case(
        alert="EmbellieForecastOverconfident",
        firing={'embellie_forecast_coverage_ratio{zone="west",target="lifecycle",lead_day="1"}': "0.5x1500"},
        at="1450m",
        labels={"zone": "west"},
        summary="In grid zone west only 50% of what came lay inside the 80 % interval.",
        silent={
            'embellie_forecast_coverage_ratio{zone="west",target="lifecycle",lead_day="1"}': "0.78x1500",
            'embellie_forecast_coverage_ratio{zone="west",target="lifecycle",lead_day="4"}': "0.5x1500",
        },
    ),
    Case(
        alert="EmbellieFeedDown",
        firing={'embellie_feed_up{zone="west",feed="eia"}': "0x100"},
        at="65m",
        labels={"zone": "west", "feed": "eia"},
        summary="Feed eia of grid zone west has given nothing usable for an hour.",
        silent={'embellie_feed_up{zone="west",feed="eia"}': "0x50 1x1 0x40"},
    ),
    Case(
        alert="EmbellieSensorUntrusted",
        firing={'embellie_sensor_trusted{zone_kind="ThermalZone",zone="row-1",sensor="inlet"}': "0x20"},
        at="12m",
        labels={"zone_kind": "ThermalZone", "zone": "row-1", "sensor": "inlet"},
        summary="Sensor inlet of ThermalZone row-1 cannot be trusted.",
        silent={'embellie_sensor_trusted{zone_kind="ThermalZone",zone="row-1",sensor="inlet"}': "0x5 1x20"},
    ),
    Case(
        alert="EmbellieThermalOverLimit",
        firing={'embellie_thermal_state{zone="row-1",state="OverLimit"}': "1x10"},
        at="3m",
        labels={"zone": "row-1"},
        summary="Thermal zone row-1 stands at or over its hard inlet limit.",
        silent={
            'embellie_thermal_state{zone="row-1",state="OverLimit"}': "0x10",
            'embellie_thermal_state{zone="row-1",state="Limited"}': "1x10",
        },
    ),
    Case(
        alert="EmbelliePowerOverContract",
        firing={
            'embellie_zone_power_watts{zone="west",source="measured"}': "110000x20",
            'embellie_zone_power_watts{zone="west",source="reckoned"}': "90000x20",
            'embellie_zone_contracted_power_watts{zone="west"}': "100000x20",
        },
        at="10m",
        labels={"zone": "west"},
        summary="Grid zone west draws 110% of its contracted power.",
        # The meter is believed before the reckoning.
        silent={
            'embellie_zone_power_watts{zone="west",source="measured"}': "90000x20",
            'embellie_zone_power_watts{zone="west",source="reckoned"}': "110000x20",
            'embellie_zone_contracted_power_watts{zone="west"}': "100000x20",
        },
    ),
    Case(
        alert="EmbelliePromisesOverLimit",
        firing={'embellie_promised_starts_over_limit{zone_kind="GridZone",zone="west"}': "3x20"},
        at="17m",
        labels={"zone_kind": "GridZone", "zone": "west"},
        summary="GridZone west cannot carry 3 of the starts that it has promised.",
        silent={
            'embellie_promised_starts_over_limit{zone_kind="GridZone",zone="west"}': "0x20",
            'embellie_promised_starts_over_limit{zone_kind="ThermalZone",zone="row-1"}': "3x10 0x10",
        },
    ),
    Case(
        alert="EmbellieLedgerNotRecording",
        firing={"embellie_ledger_recording": "0x10"},
        at="7m",
        summary="The ledger cannot be written.",
        silent={"embellie_ledger_recording": "0x2 1x10"},
    ),
    Case(
        alert="EmbellieEnergyNotMeasured",
        firing={'embellie_energy_covered_ratio{zone="west"}': "0.4x400"},
        at="370m",
        labels={"zone": "west"},
        summary="Only 40% of the energy of grid zone west is measured.",
        silent={'embellie_energy_covered_ratio{zone="west"}': "0.97x400"},
    ),
]


def expected(case: Case) -> dict[str, Any]:
    rule = ALERTS[case.alert]
    return {
        "exp_labels": case.labels | rule["labels"],
        "exp_annotations": rule["annotations"] | {"summary": case.summary},
    }


def scene(case: Case, series: dict[str, str], alerts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"alertname": case.alert, "eval_time": case.at, "exp_alerts": alerts}],
    }


def test_every_alert_fires_when_it_must_and_not_when_it_need_not(tmp_path: Path):
    scenes = [scene(c, c.firing, [expected(c)]) for c in CASES] + [scene(c, c.silent, []) for c in CASES]
    document = {
        "rule_files": [str(path) for path in sorted(RULES.glob("*.yaml"))],
        "evaluation_interval": "1m",
        "tests": scenes,
    }
    file = tmp_path / "alerts.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run([binaries() / "promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_and_a_runbook_that_says_what_to_do():
    assert {c.alert for c in CASES} == set(ALERTS)
    assert {p.stem for p in RUNBOOKS.glob("Embellie*.md")} == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}.md")
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
        for heading in ("## What it means", "## What still works", "## What to look at", "## What to do"):
            assert heading in page, f"{name} lacks {heading}"


def test_the_rules_files_are_valid():
    files = sorted(RULES.glob("*.yaml"))
    done = subprocess.run(
        [binaries() / "promtool", "check", "rules", "--lint=all", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
