# SPDX-License-Identifier: Apache-2.0
"""What a soak reads of an audit log, and what it does not take for more than it is."""

import json
from pathlib import Path

from audit_logs import USER, AuditLog, at

from embellie_testbed.soak.audit import read_log
from embellie_testbed.soak.spells import Part, Spell, read_spells, write_spells


def test_half_a_line_and_a_dry_run_are_no_writes(tmp_path: Path) -> None:
    log = AuditLog()
    log.job("dry")
    log.job("wet")
    log.events[0]["requestURI"] = "/apis/batch/v1/namespaces/team/jobs?dryRun=All"
    lines = [json.dumps(event) for event in log.events]
    path = tmp_path / "audit.log"
    path.write_text("\n".join([*lines, lines[0][:100]]))
    (write,) = read_log(path)
    assert (write.name, write.user, write.code, write.at) == ("wet", USER, 201, at(0))


def test_changes_come_in_the_order_of_their_versions_whenever_they_were_answered() -> None:
    log = AuditLog()
    job = log.job()
    log.note(job, 9.0, USER, duration="1h")
    log.note(job, 8.0, USER, duration="2h")
    (life,) = read_trail_of(log).lives.values()
    assert life.last["metadata"]["annotations"]["embellie.io/duration"] == "2h"


def test_a_deleted_workload_is_another_than_the_next_of_its_name() -> None:
    log = AuditLog()
    job = log.job()
    log.event(5.0, USER, "delete", "jobs", job, answer={"kind": "Status", "details": {"uid": "uid-train"}})
    again = log.job(born=10.0)
    again["metadata"]["uid"] = "uid-again"
    log.change(again, 11.0, USER, suspend=False)
    first, second = read_trail_of(log).lives.values()
    assert (first.ended, second.ended) == (at(5.0), None)


def test_spells_are_read_as_they_were_written(tmp_path: Path) -> None:
    spells = (Spell(part=Part.API, begin=at(1.5), end=at(2), why="slow"),)
    write_spells(tmp_path / "spells.json", spells)
    assert read_spells(tmp_path / "spells.json") == spells


def read_trail_of(log: AuditLog):
    return log.case().trail
