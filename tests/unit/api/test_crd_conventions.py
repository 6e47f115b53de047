# SPDX-License-Identifier: Apache-2.0
"""The generated CustomResourceDefinitions keep the conventions of Kubernetes APIs, and each check finds its fault."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from crd_conventions import CHECKS, Schema, root_of

from embellie.api import KINDS
from embellie.api.generate import FOLDERS, REPOSITORY, differences, file_name, main, write
from embellie.api.reference import render_reference

EXCEPTIONS = {
    ("describes", "metadata"): "Kubernetes describes it",
    ("bounds", "apiVersion"): "the API server checks it before the schema does",
    ("bounds", "kind"): "the API server checks it before the schema does",
    ("names units", "spec.priority"): "an order, no quantity",
    ("names units", "spec.ladder.pauseBurst"): "a count; the name says of what",
    ("names units", "status.nodes"): "a count; the name says of what",
    ("names units", "status.gpus"): "a count; the name says of what",
    ("names units", "status.gpusFree"): "a count; the name says of what",
    ("names units", "status.gpusHeld"): "a count; the name says of what",
    ("names units", "status.namespaces"): "a count; the name says of what",
    ("names units", "status.workloadsHeld"): "a count; the name says of what",
    ("names units", "status.observedGeneration"): "the name that Kubernetes gives it",
    ("names units", "status.conditions[].observedGeneration"): "the name that Kubernetes gives it",
    ("prefers int32", "status.observedGeneration"): "as in metav1.Condition",
    ("prefers int32", "status.conditions[].observedGeneration"): "as in metav1.Condition",
    ("prefers int32", "status.emissionsNowGrams"): "a large run emits more than 2,000 t",
    ("prefers int32", "status.emissionsPlannedGrams"): "a large run emits more than 2,000 t",
    ("prefers int32", "status.emissionsPlannedLowGrams"): "a large run emits more than 2,000 t",
    ("prefers int32", "status.emissionsPlannedHighGrams"): "a large run emits more than 2,000 t",
    ("prefers int32", "status.energyWattHours"): "a large run takes more than 2 GWh",
    ("writes enums in PascalCase", "spec.mode"): "`shadow` and `enforce` are typed by hand, as on the workload's label",
    ("has maps of labels only", "spec.nodeSelector"): "labels, as a pod's nodeSelector",
    ("has maps of labels only", "spec.namespaceSelector.matchLabels"): "labels, as in a LabelSelector",
    ("has maps of labels only", "spec.workloadSelector.matchLabels"): "labels, as in a LabelSelector",
}


CRDS: dict[str, Schema] = {
    kind.definition.kind: yaml.safe_load((REPOSITORY / FOLDERS[0] / file_name(kind)).read_text(encoding="utf-8"))
    for kind in KINDS
}


@pytest.mark.parametrize("kind", CRDS)
@pytest.mark.parametrize("name", CHECKS)
def test_a_definition_keeps_the_convention_that_it(name: str, kind: str) -> None:
    faults = [fault for fault in CHECKS[name](CRDS[kind]) if (name, fault.path) not in EXCEPTIONS]
    assert faults == []


def test_every_exception_is_needed_and_says_why() -> None:
    found = {(name, fault.path) for name, check in CHECKS.items() for crd in CRDS.values() for fault in check(crd)}
    assert set(EXCEPTIONS) - found == set()
    assert all(EXCEPTIONS.values())


def _spec(crd: Schema) -> Schema:
    node: Schema = root_of(crd)["properties"]["spec"]
    return node


def _status(crd: Schema) -> Schema:
    node: Schema = root_of(crd)["properties"]["status"]
    return node


def _power(crd: Schema) -> Schema:
    node: Schema = _spec(crd)["properties"]["contractedPowerKilowatts"]
    return node


def _version(crd: Schema) -> Schema:
    node: Schema = crd["spec"]["versions"][0]
    return node


FAULTS: dict[str, Callable[[Schema], Any]] = {
    "describes": lambda c: _power(c).update(description="The power."),
    "bounds": lambda c: _power(c).pop("maximum"),
    "has plain types only": lambda c: _power(c).update(type="number"),
    "is structural": lambda c: _power(c).update(title="Power"),
    "types lists": lambda c: _spec(c)["properties"]["onSite"].pop("x-kubernetes-list-type"),
    "has maps of labels only": lambda c: _power(c).update(type="object", additionalProperties={"type": "string"}),
    "names units": lambda c: _spec(c)["properties"].update(power=_power(c)),
    "names times": lambda c: _spec(c)["properties"].update(stamp={"type": "string", "format": "date-time"}),
    "prefers int32": lambda c: _power(c).update(format="int64"),
    "writes enums in PascalCase": lambda c: _spec(c)["properties"]["gridRegion"].update(enum=["us-ciso"]),
    "requires or defaults": lambda c: _spec(c)["required"].append("nodeIdlePowerWatts"),
    "states defaults": lambda c: _power(c).update(default=5),
    "has optional status": lambda c: _status(c).update(required=["nodes"]),
    "shapes conditions": lambda c: _status(c)["properties"]["conditions"]["items"]["properties"].pop("reason"),
    "prints columns": lambda c: _version(c)["additionalPrinterColumns"].pop(),
    "names itself": lambda c: c["spec"]["names"].update(categories=["all"]),
    "explains rules": lambda c: _spec(c)["x-kubernetes-validations"][0].pop("message"),
    "selects fields": lambda c: _version(c).update(selectableFields=[{"jsonPath": ".spec.gone"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_finds_the_fault_that_was_put_in(name: str) -> None:
    broken = copy.deepcopy(CRDS["GridZone"])
    before = list(CHECKS[name](broken))
    FAULTS[name](broken)
    assert len(list(CHECKS[name](broken))) > len(before)


def test_the_definitions_and_the_reference_page_are_what_the_types_say() -> None:
    assert differences(REPOSITORY) == []


def test_the_reference_page_names_what_a_field_may_be_and_leaves_only_reasons_to_their_page() -> None:
    rows = [line.split(" | ") for line in render_reference(KINDS).splitlines() if line.startswith("| `")]
    elsewhere = {row[0].strip("|` ") for row in rows if "reasons.md" in row[1]}
    assert elsewhere == {"reason", "history[].reason"}
    assert any("`HeatDelivered`" in row[1] for row in rows if "sensors[].role" in row[0])


@pytest.mark.parametrize("kind", CRDS)
def test_a_printed_quantity_has_its_unit_in_its_heading(kind: str) -> None:
    columns = CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]
    units = {c["name"]: unit[0] for c in columns if (unit := re.findall(r"\[(.+)\]", c["description"]))}
    # CI is carbon intensity, and has one unit everywhere.
    without = {one for one, unit in units.items() if not one.endswith(unit.removeprefix("deg"))} - {"CI now"}
    assert without == set()


def test_a_changed_a_missing_and_a_stray_file_are_found(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert main(["--check", "--root", str(tmp_path)]) == 0
    first, second = (tmp_path / FOLDERS[0] / file_name(kind) for kind in KINDS[:2])
    stray = tmp_path / FOLDERS[1] / "embellie.io_gone.yaml"
    first.write_text(first.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    second.unlink()
    stray.touch()
    assert main(["--check", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [tmp_path / line.split()[0] for line in said] == [first, second, stray]
    assert all("run `python -m embellie.api.generate`" in line for line in said)
    assert main(["--root", str(tmp_path)]) == 0
    assert differences(tmp_path) == []
