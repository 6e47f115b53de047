# SPDX-License-Identifier: Apache-2.0
"""The reference page of the kinds, in Markdown, from the same types as the CustomResourceDefinitions."""

from collections.abc import Iterator
from typing import Any

from embellie.api.meta import CATEGORY, GROUP, VERSION, Resource, Scope
from embellie.api.schema import Schema, kind_schema
from embellie.api.workloadplan import PlanReason

_INTRODUCTION = f"""\
<!-- Generated from operator/embellie/api/ by `python -m embellie.api.generate`; change the types, not this page. -->
# The kinds of `{GROUP}/{VERSION}`

| kind | short name | scope | written by |
| --- | --- | --- | --- |
{{rows}}

`kubectl get {CATEGORY}` lists the objects of all kinds, `kubectl explain gridzone.spec` says what is written here.

Numbers are integers, with their unit at the end of the name; times are RFC 3339 in UTC. An object that breaks a rule is
refused by the API server with a sentence that says how to mend it; a misspelt field is refused by `kubectl apply`. The
conditions of every kind carry `observedGeneration`: while it is lower than `metadata.generation`, Embellie has not yet
looked at the newest version.
"""

_AUTHORS = {
    "GridZone": "the cluster admin",
    "ThermalZone": "the facilities engineer",
    "EnergyPolicy": "the cluster admin",
    "WorkloadPlan": "Embellie; people read it",
    "PowerCap": "Embellie; an agent on the node reads it and reports",
}


_REASONS = frozenset(reason.value for reason in PlanReason)


def render_reference(kinds: tuple[type[Resource], ...]) -> str:
    """Return the whole page."""
    rows = "\n".join(_kind_row(kind) for kind in kinds)
    return "\n".join([_INTRODUCTION.format(rows=rows), *(section for kind in kinds for section in _sections(kind))])


def _kind_row(kind: type[Resource]) -> str:
    definition = kind.definition
    scope = "cluster" if definition.scope is Scope.CLUSTER else "namespace"
    link = f"[{definition.kind}](#{definition.singular})"
    return f"| {link} | `{definition.short_name}` | {scope} | {_AUTHORS[definition.kind]} |"


def _sections(kind: type[Resource]) -> Iterator[str]:
    schema = kind_schema(kind)
    definition = kind.definition
    yield f"## {definition.kind}\n\n{schema['description']}\n"
    for part in ("spec", "status"):
        yield f"### {definition.kind} {part}\n\n| field | type | meaning |\n| --- | --- | --- |"
        yield "\n".join(_field_rows(schema["properties"][part], part, "")) + "\n"
    if definition.conditions:
        yield f"### {definition.kind} conditions\n\n| condition | True means |\n| --- | --- |"
        yield "\n".join(f"| `{type_}` | {meaning} |" for type_, meaning in definition.conditions) + "\n"
    if written := list(_rules(schema)):
        yield f"### {definition.kind} rules\n"
        yield "\n".join(f"- {message}." for message in written) + "\n"


def _field_rows(node: Schema, part: str, prefix: str) -> Iterator[str]:
    for name, child in node.get("properties", {}).items():
        if part == "status" and name == "conditions":
            continue  # the same for every kind, and told in its own table
        path = f"{prefix}{name}"
        needed = part == "spec" and name in node.get("required", [])
        yield f"| `{path}` | {_type(child)}{', required' if needed else ''} | {_meaning(name, child)} |"
        below = child.get("items", child)
        yield from _field_rows(below, part, f"{path}[]." if child["type"] == "array" else f"{path}.")


def _meaning(name: str, node: Schema) -> str:
    """Return the description without the field's name, which stands in the first column."""
    return _escaped(str(node["description"]).removeprefix(f"{name} "))


def _type(node: Schema) -> str:
    """Say a field's type and bounds in a few words."""
    if "enum" in node:
        words = ", ".join(f"`{value}`" for value in node["enum"])
        if _REASONS.issuperset(node["enum"]):
            words = "one of the [reasons](reasons.md)"
    elif node["type"] == "integer":
        words = f"integer, {node['minimum']:,} to {node['maximum']:,}" if node["maximum"] < 10**9 else "integer"
    elif node["type"] == "array":
        words = f"list, at most {node['maxItems']}"
    elif node.get("format") == "date-time":
        words = "time"
    elif "additionalProperties" in node:
        words = f"map of strings, at most {node['maxProperties']}"
    else:
        words = str(node["type"])
    default = node.get("default")
    return words if default in (None, {}) else f"{words}, default `{default}`"


def _rules(node: Any) -> Iterator[str]:
    """Yield the messages of the CEL rules, each once, in the order of the schema."""
    seen: dict[str, None] = {}

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            seen.update(dict.fromkeys(rule["message"] for rule in part.get("x-kubernetes-validations", [])))
        for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            collect(child)

    collect(node)
    yield from (_escaped(message) for message in seen)


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")
