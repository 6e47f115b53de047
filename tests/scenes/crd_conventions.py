# SPDX-License-Identifier: Apache-2.0
"""The conventions of Kubernetes APIs, as checks of a CustomResourceDefinition.

Each check is a function from one definition to the faults that it finds, so that the checks themselves can be tested.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Schema = dict[str, Any]

BUILT_IN_SHORT_NAMES = {
    "cj", "cm", "crd", "crds", "cs", "csr", "ctb", "deploy", "ds", "ep", "ev", "hpa", "ing", "ip", "limits", "netpol",
    "no", "ns", "pc", "pdb", "po", "pv", "pvc", "quota", "rc", "rs", "sa", "sc", "sts", "svc", "vac",
}  # fmt: skip
UNITS = re.compile(
    r"(Kilowatts|Watts|Percent|Seconds|Hours|Celsius|Kelvin|Millidegrees|Degrees|Meters|Grams|KilowattHour|PerMinute|PerKilowatt|PerHour|PerDay"
    r"|Permille|Millikelvin|Hour)$"
)
PASCAL_CASE = re.compile(r"^[A-Z][A-Za-z0-9]*$")


class Field(NamedTuple):
    """One node of a schema. `name` is empty for the items of a list and the values of a map."""

    path: str
    name: str
    node: Schema


class Fault(NamedTuple):
    """What a check found, and where."""

    path: str
    why: str


def root_of(crd: Schema) -> Schema:
    (version,) = crd["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def fields_of(node: Schema, path: str = "") -> Iterator[Field]:
    for name, child in node.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        yield Field(here, name, child)
        yield from fields_of(child, here)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            yield Field(path + mark, "", node[key])
            yield from fields_of(node[key], path + mark)


def all_fields(crd: Schema) -> list[Field]:
    return list(fields_of(root_of(crd)))


def rules_of(crd: Schema) -> Iterator[tuple[str, Schema, Schema]]:
    """Yield (path of the schema node, the node, the rule)."""
    root = root_of(crd)
    for path, _, node in [Field("", "", root), *fields_of(root)]:
        for rule in node.get("x-kubernetes-validations", []):
            yield path, node, rule


def at(node: Schema, path: str) -> Schema | None:
    """Follow a simple JSONPath such as `.spec.limits` into a schema."""
    for name in path.strip(".").split("."):
        if name not in node.get("properties", {}):
            return None
        node = node["properties"][name]
    return node


def describes(crd: Schema) -> Iterator[Fault]:
    if not root_of(crd).get("description", "").startswith(crd["spec"]["names"]["kind"]):
        yield Fault("", "the kind's description must begin with its name")
    for path, name, node in all_fields(crd):
        text = node.get("description", "")
        if name and re.match(rf"{name} (is|are|has|holds|lists|says|tells|decides|selects|reads)\b", text) is None:
            yield Fault(path, f"the description must begin with the field's name and a verb: {text!r}")
        if name and not text.endswith("."):
            yield Fault(path, f"the description must be a sentence: {text!r}")


def bounds(crd: Schema) -> Iterator[Fault]:
    needs = {"integer": ("minimum", "maximum"), "array": ("maxItems",), "string": ("maxLength",)}
    for path, _, node in all_fields(crd):
        missing = [key for key in needs.get(node["type"], ()) if key not in node]
        if "additionalProperties" in node and "maxProperties" not in node:
            missing.append("maxProperties")
        if missing and "enum" not in node and node.get("format") != "date-time":
            yield Fault(path, f"lacks {missing}")


def has_plain_types_only(crd: Schema) -> Iterator[Fault]:
    for path, name, node in all_fields(crd):
        if node["type"] not in {"string", "integer", "array", "object"}:
            yield Fault(path, f"{node['type']} is not allowed: use an enum or an integer with its unit in the name")
        if name.lower() == "phase":
            yield Fault(path, "a phase is not allowed: use conditions")
        if node["type"] == "string" and re.search(r"(duration|delay|period|timeout|stamp)$", name.lower()):
            yield Fault(path, "a duration is an integer in seconds, and a time is not a stamp")


def is_structural(crd: Schema) -> Iterator[Fault]:
    forbidden = {
        "$ref",
        "$defs",
        "title",
        "anyOf",
        "oneOf",
        "allOf",
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
    }
    for path, _, node in [Field("", "", root_of(crd)), *all_fields(crd)]:
        if found := forbidden & node.keys():
            yield Fault(path, f"{sorted(found)} are not allowed")
        if node.get("additionalProperties") is False:
            yield Fault(path, "additionalProperties: false is not allowed")


def types_lists(crd: Schema) -> Iterator[Fault]:
    for path, _, node in all_fields(crd):
        if node["type"] != "array":
            continue
        kind = node.get("x-kubernetes-list-type")
        if kind not in {"map", "set", "atomic"}:
            yield Fault(path, "lacks x-kubernetes-list-type")
        keys = node.get("x-kubernetes-list-map-keys", [])
        if kind == "map" and not (keys and set(keys) <= set(node["items"].get("required", []))):
            yield Fault(path, "a list map needs keys, and they must be required in its items")


def has_maps_of_labels_only(crd: Schema) -> Iterator[Fault]:
    for path, _, node in all_fields(crd):
        if "additionalProperties" in node:
            yield Fault(path, "a map is not allowed: use a list map by name")


def names_units(crd: Schema) -> Iterator[Fault]:
    for path, name, node in all_fields(crd):
        if node["type"] == "integer" and not UNITS.search(name):
            yield Fault(path, "the name of a number ends with its unit")


def names_times(crd: Schema) -> Iterator[Fault]:
    for path, name, node in all_fields(crd):
        if (node.get("format") == "date-time") != name.lower().endswith("time"):
            yield Fault(path, "a time is called ...Time, and nothing else is")


def prefers_int32(crd: Schema) -> Iterator[Fault]:
    for path, _, node in all_fields(crd):
        if node["type"] != "integer":
            continue
        if node.get("format") != "int32":
            yield Fault(path, f"format {node.get('format')}")
        if node["format"] == "int32" and not -(2**31) <= node["minimum"] <= node["maximum"] < 2**31:
            yield Fault(path, "the bounds do not fit into int32")


def writes_enums_in_pascal_case(crd: Schema) -> Iterator[Fault]:
    for path, _, node in all_fields(crd):
        if not all(isinstance(value, str) and PASCAL_CASE.match(value) for value in node.get("enum", [])):
            yield Fault(path, f"{node['enum']}")


def requires_or_defaults(crd: Schema) -> Iterator[Fault]:
    for path, _, node in [Field("", "", root_of(crd)), *all_fields(crd)]:
        for name in node.get("required", []):
            if "default" in node["properties"][name]:
                yield Fault(f"{path}.{name}".lstrip("."), "a field with a default must not be required")


def states_defaults(crd: Schema) -> Iterator[Fault]:
    for path, _, node in all_fields(crd):
        default = node.get("default")
        # The default of an object is that of its fields, each of which says its own.
        if not isinstance(default, dict | None) and f"Defaults to {default}" not in node.get("description", ""):
            yield Fault(path, f"the description must say `Defaults to {default}`")


def has_optional_status(crd: Schema) -> Iterator[Fault]:
    (version,) = crd["spec"]["versions"]
    if version.get("subresources") != {"status": {}}:
        yield Fault("", "the status subresource is missing")
    root = root_of(crd)
    if root.get("required") != ["spec"]:
        yield Fault("", "only spec is required")
    status = root["properties"]["status"]
    if status.get("required") or "default" in status:
        yield Fault("status", "every field of a status is optional")
    if next(iter(status["properties"])) != "conditions":
        yield Fault("status", "conditions come first")


def shapes_conditions(crd: Schema) -> Iterator[Fault]:
    conditions = root_of(crd)["properties"]["status"]["properties"].get("conditions", {})
    if conditions.get("x-kubernetes-list-map-keys") != ["type"]:
        yield Fault("status.conditions", "must be a list map by type")
        return
    item = conditions["items"]
    if set(item["properties"]) != {"type", "status", "observedGeneration", "lastTransitionTime", "reason", "message"}:
        yield Fault("status.conditions", f"has the fields {sorted(item['properties'])}")
        return
    if set(item["required"]) != {"type", "status", "lastTransitionTime", "reason", "message"}:
        yield Fault("status.conditions", f"requires {item['required']}")
    if item["properties"]["status"].get("enum") != ["True", "False", "Unknown"]:
        yield Fault("status.conditions", "a condition is True, False or Unknown")
    if item["properties"]["reason"].get("minLength") != 1 or "pattern" not in item["properties"]["reason"]:
        yield Fault("status.conditions", "a reason is one CamelCase word")


def prints_columns(crd: Schema) -> Iterator[Fault]:
    (version,) = crd["spec"]["versions"]
    columns = version.get("additionalPrinterColumns", [])
    names = [column["name"] for column in columns]
    if "Ready" not in names or names[-1:] != ["Age"]:
        yield Fault("", f"needs a column Ready, and Age as the last: {names}")
    if sum(not column.get("priority") for column in columns) > 9:
        yield Fault("", "more columns than a terminal is wide")
    for column in columns:
        path = re.sub(r"\[.*?\]\.\w+$", "", column["jsonPath"])
        if not path.startswith(".metadata") and at(root_of(crd), path) is None:
            yield Fault(path, f"column {column['name']} shows a field that does not exist")
        if not column.get("description"):
            yield Fault(path, f"column {column['name']} lacks a description")


def names_itself(crd: Schema) -> Iterator[Fault]:
    names = crd["spec"]["names"]
    if names["plural"] != names["plural"].lower() or names["singular"] != names["kind"].lower():
        yield Fault("", "plural and singular are lower case")
    if crd["metadata"]["name"] != f"{names['plural']}.embellie.io" or crd["spec"]["group"] != "embellie.io":
        yield Fault("", "the group is embellie.io")
    if not names.get("shortNames") or BUILT_IN_SHORT_NAMES & set(names["shortNames"]):
        yield Fault("", f"needs a short name that Kubernetes does not use itself: {names.get('shortNames')}")
    if names.get("categories") != ["embellie"]:
        yield Fault("", "the category is embellie and nothing else")
    if not PASCAL_CASE.match(names["kind"]) or names["listKind"] != names["kind"] + "List":
        yield Fault("", "kinds are CamelCase")


def explains_rules(crd: Schema) -> Iterator[Fault]:
    for path, node, rule in rules_of(crd):
        if "must" not in rule.get("message", "") or rule["message"].endswith("."):
            yield Fault(path, f"a rule's message says what must be, without a full stop: {rule.get('message')!r}")
        if rule.get("reason") not in {
            "FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate",
        }:  # fmt: skip
            yield Fault(path, f"a rule needs a reason: {rule.get('reason')!r}")
        if "fieldPath" in rule and at(node, rule["fieldPath"]) is None:
            yield Fault(path, f"fieldPath {rule['fieldPath']} does not exist")
        if "oldSelf" in rule["rule"] and (parent := path.rpartition(".")[0]):
            required = (at(root_of(crd), parent) or {}).get("required", [])
            if path.rpartition(".")[2] not in required:
                yield Fault(path, "a transition rule on an optional field is evaded by leaving the field out")


def selects_fields(crd: Schema) -> Iterator[Fault]:
    (version,) = crd["spec"]["versions"]
    for field in version.get("selectableFields", []):
        node = at(root_of(crd), field["jsonPath"])
        if node is None or node["type"] != "string":
            yield Fault(field["jsonPath"], "a selectable field is a string that exists")


CHECKS: dict[str, Callable[[Schema], Iterator[Fault]]] = {
    check.__name__.replace("_", " ").replace("pascal case", "PascalCase"): check
    for check in (
        describes, bounds, has_plain_types_only, is_structural, types_lists, has_maps_of_labels_only, names_units,
        names_times, prefers_int32, writes_enums_in_pascal_case, requires_or_defaults, states_defaults,
        has_optional_status, shapes_conditions, prints_columns, names_itself, explains_rules, selects_fields,
    )
}  # fmt: skip
