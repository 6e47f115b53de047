# SPDX-License-Identifier: Apache-2.0
"""What the kinds have in common: naming, times, selectors, validation rules and printer columns.

The types of this room are the single source of the CustomResourceDefinitions. Attributes are snake_case, the API is
camelCase; integers carry their unit in the name; what the operator reads back is parsed into the same types.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from annotated_types import Ge, GroupedMetadata, Le
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.types import JsonValue

GROUP = "embellie.io"
VERSION = "v1alpha1"
CATEGORY = "embellie"

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
CAMEL_CASE = r"^[A-Z][A-Za-z0-9]*$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
JURISDICTION = r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$"

MESSAGE_LENGTH = 1024


class Scope(StrEnum):
    """Where objects of a kind live."""

    CLUSTER = "Cluster"
    NAMESPACED = "Namespaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterColumn:
    """One column of `kubectl get`. Columns of priority 1 appear with `-o wide` only."""

    name: str
    json_path: str
    description: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a CustomResourceDefinition says besides its schema."""

    kind: str
    plural: str
    short_name: str
    scope: Scope
    columns: tuple[PrinterColumn, ...]
    conditions: tuple[tuple[str, str], ...]
    """Types of the conditions that the status carries, each with what it means that it is True."""
    selectable_fields: tuple[str, ...] = ()

    @property
    def singular(self) -> str:
        """The kind in lower case."""
        return self.kind.lower()

    @property
    def crd_name(self) -> str:
        """Name of the CustomResourceDefinition object."""
        return f"{self.plural}.{GROUP}"


READY_COLUMN = PrinterColumn(
    name="Ready",
    json_path=".status.conditions[?(@.type=='Ready')].status",
    description="Whether Embellie can use the object as it is written.",
)
AGE_COLUMN = PrinterColumn(
    name="Age", json_path=".metadata.creationTimestamp", description="Time since creation.", type="date"
)


def rule(
    expression: str, message: str, *, field_path: str | None = None, reason: str = "FieldValueInvalid"
) -> dict[str, str]:
    """Return one CEL rule; `message` says how to mend what the rule refuses."""
    written = {"rule": expression, "message": message, "reason": reason}
    if field_path is not None:
        written["fieldPath"] = field_path
    return written


def rules(*written: dict[str, str]) -> dict[str, JsonValue]:
    """Return the schema keys that carry CEL rules."""
    return {"x-kubernetes-validations": [dict(one) for one in written]}


def list_map(key: str) -> dict[str, JsonValue]:
    """Return the schema keys of a list whose entries are merged, and unique, by `key`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


LIST_SET: dict[str, JsonValue] = {"x-kubernetes-list-type": "set"}
LIST_ATOMIC: dict[str, JsonValue] = {"x-kubernetes-list-type": "atomic"}


def default(value: JsonValue) -> dict[str, JsonValue]:
    """Return the schema keys of a static default that pydantic does not write itself."""
    return {"default": value}


def _whole_second_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def format_time(moment: datetime) -> str:
    """Write an instant as the API server does: RFC 3339, UTC, whole seconds (cut, never rounded up)."""
    return _whole_second_utc(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[AwareDatetime, AfterValidator(_whole_second_utc), PlainSerializer(format_time, return_type=str)]
"""An instant; parsed to timezone-aware UTC, written in whole seconds."""


def _shorten(text: object) -> object:
    if isinstance(text, str) and len(text) > MESSAGE_LENGTH:
        return text[: MESSAGE_LENGTH - 1] + "…"
    return text


Message = Annotated[str, BeforeValidator(_shorten), Field(max_length=MESSAGE_LENGTH)]
"""A sentence for people; a longer one is cut, because a status must never fail to be written."""

EMPTY_IS_ABSENT = BeforeValidator(lambda value: None if value == "" else value)


@dataclass(frozen=True, slots=True)
class Clipped(GroupedMetadata):
    """Bounds of a status's number: it is rounded and clipped to them, because a status must never fail to be written.

    What is not a finite number counts as unknown.
    """

    low: int
    high: int

    def __iter__(self) -> Iterator[object]:
        """Yield the bounds for the schema, then the clipping, which comes before them when a value is read."""
        yield Ge(self.low)
        yield Le(self.high)
        yield BeforeValidator(self._clip)

    def _clip(self, value: object) -> object:
        if not isinstance(value, int | float):
            return value
        return min(max(round(value), self.low), self.high) if math.isfinite(value) else None


LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]

Query = Annotated[str, Field(min_length=1, max_length=2048)]
"""A PromQL expression that yields one number."""

LABEL_KEYS_RULE = rule(
    f"self.all(k, size(k) <= 317 && k.matches('{LABEL_KEY}'))",
    "every key must be a label key, such as topology.kubernetes.io/zone",
)

NodeSelector = Annotated[
    dict[str, LabelValue],
    Field(min_length=1, max_length=8, json_schema_extra=rules(LABEL_KEYS_RULE)),
]
"""Labels by which a zone finds its nodes."""

ZONE_NAME_RULE = rule(
    f"size(self.metadata.name) <= 63 && self.metadata.name.matches('{DNS_LABEL}')",
    "metadata.name must be at most 63 lower-case letters, digits and dashes, without dots, because a place is "
    "named <gridzone>.<thermalzone>",
)


class ApiModel(BaseModel):
    """Base of every type here: camelCase on the wire, immutable, blind to fields that it does not know."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="ignore",
        frozen=True,
    )

    def to_json_object(self) -> dict[str, Any]:
        """Return the object as the API server takes it: camelCase, plain JSON values, nothing that is None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ObjectMeta(ApiModel):
    """The part of an object's metadata that decisions use."""

    name: str
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Resource(ApiModel):
    """An object of one of our kinds, as read from the API server."""

    definition: ClassVar[Definition]

    metadata: ObjectMeta

    @field_validator("status", mode="wrap", check_fields=False)
    @classmethod
    def _unreadable_status_counts_as_absent(cls, value: object, parse: ValidatorFunctionWrapHandler) -> object:
        """A status is our own output and can be recomputed, so another version's status never drops an object."""
        try:
            return parse(value)
        except ValidationError:
            return parse({})

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read an object as the API server returned it.

        Raises pydantic's ValidationError (a ValueError) where the spec is not what the schema says.
        """
        return cls.model_validate(raw)
