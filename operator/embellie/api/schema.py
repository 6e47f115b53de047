# SPDX-License-Identifier: Apache-2.0
"""From pydantic types to structural schemas and CustomResourceDefinitions.

Kubernetes takes a subset of OpenAPI v3: no references, no titles, no unions with null, nothing that is optional by
way of a null. This module only translates; what is allowed where is said by the types.
"""

from typing import Any

from embellie.api.meta import CATEGORY, GROUP, VERSION, PrinterColumn, Resource

Schema = dict[str, Any]

_INT32_MAX = 2**31 - 1
_ORDER = ("description", "type", "format", "default", "enum")
_DROPPED = ("title", "$defs")

_API_VERSION: Schema = {
    "description": f"apiVersion is the version of the schema that the object is written in: {GROUP}/{VERSION}.",
    "type": "string",
}
_KIND: Schema = {"description": "kind is the name of the schema that the object is written in.", "type": "string"}


def structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Translate one JSON schema node, with everything below it.

    Args:
        node: A node as pydantic writes it.
        definitions: What `$ref` may point to.
    """
    node = _resolved(node, definitions)
    for name in _DROPPED:
        node.pop(name, None)
    if "default" in node and node["default"] in (None, []):
        del node["default"]  # left out means the same, and is what people see in `kubectl get -o yaml`
    if node.get("type") == "integer":
        node["format"] = "int32" if node.get("maximum", _INT32_MAX) <= _INT32_MAX else "int64"
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if "properties" in node:
        node["properties"] = {name: structural(child, definitions) for name, child in node["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            node[name] = structural(node[name], definitions)
    return _ordered(node)


def _resolved(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return the node with its reference and its union with null replaced by what they stand for."""
    node = dict(node)
    options = [option for option in node.pop("anyOf", []) if option.get("type") != "null"]
    if len(options) > 1:
        raise ValueError(f"a union has no structural schema: {options}")
    for target in options:
        node = {**target, **node}
    reference = node.pop("$ref", None)
    if reference is None:
        return node
    target = definitions[reference.removeprefix("#/$defs/")]
    return _resolved({**target, **node}, definitions)


def _ordered(node: Schema) -> Schema:
    """Put what people read first, and the properties last."""
    first = {name: node[name] for name in _ORDER if name in node}
    rest = {name: value for name, value in sorted(node.items()) if name not in first and name != "properties"}
    last = {"properties": node["properties"]} if "properties" in node else {}
    return {**first, **rest, **last}


def kind_schema(kind: type[Resource]) -> Schema:
    """Return the whole structural schema of a kind."""
    raw = kind.model_json_schema(by_alias=True, mode="validation")
    definitions: dict[str, Schema] = raw.pop("$defs", {})
    properties = raw["properties"]
    schema: Schema = {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": dict(_API_VERSION),
            "kind": dict(_KIND),
            "metadata": {"type": "object"},
            "spec": structural(properties["spec"], definitions),
            "status": structural(properties["status"], definitions),
        },
    }
    if "x-kubernetes-validations" in raw:
        schema["x-kubernetes-validations"] = raw["x-kubernetes-validations"]
    return _ordered(schema)


def _column(column: PrinterColumn) -> Schema:
    written: Schema = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "description": column.description,
    }
    if column.priority:
        written["priority"] = column.priority
    return written


def crd(kind: type[Resource]) -> Schema:
    """Return the CustomResourceDefinition of a kind."""
    definition = kind.definition
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in definition.columns],
    }
    if definition.selectable_fields:
        version["selectableFields"] = [{"jsonPath": path} for path in definition.selectable_fields]
    version["schema"] = {"openAPIV3Schema": kind_schema(kind)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": definition.crd_name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": definition.kind,
                "listKind": f"{definition.kind}List",
                "plural": definition.plural,
                "singular": definition.singular,
                "shortNames": [definition.short_name],
                "categories": [CATEGORY],
            },
            "scope": definition.scope.value,
            "versions": [version],
        },
    }
