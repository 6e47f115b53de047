# SPDX-License-Identifier: Apache-2.0
"""The API server's audit log: who wrote what, when, and what came of it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]

POLICY = Path(__file__).with_name("audit-policy.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One request that was to change something, and its answer."""

    at: datetime
    """When it was answered."""
    user: str
    verb: str
    resource: str
    """With its subresource: `pods/binding`."""
    namespace: str
    name: str
    code: int
    asked: Object
    """What was sent; empty where nothing was."""
    came: Object
    """The object as it was then; a Status where it was refused."""

    @property
    def done(self) -> bool:
        """Whether it was carried out."""
        return self.code < 300

    @property
    def uid(self) -> str:
        """The object's uid; empty where it is not told."""
        return str((self.came.get("metadata") or {}).get("uid", ""))

    @property
    def message(self) -> str:
        """What a refusal says."""
        return str(self.came.get("message", "")) if self.came.get("kind") == "Status" else ""

    def line(self) -> str:
        """Tell it in one line, for people."""
        said = f" {self.message[:120]}" if not self.done else ""
        return f"{self.at:%H:%M:%S.%f} {self.code} {self.user} {self.verb} {self.resource} {self.name}{said}"


def read_log(path: Path) -> list[Write]:
    """Return the writes of an audit log in the order of their answers."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return sorted(_writes(lines), key=lambda write: write.at)


def _writes(lines: Iterable[str]) -> Iterator[Write]:
    for line in lines:
        try:
            event: Object = json.loads(line)
        except ValueError:
            continue  # half a line: the server ended in the middle of it
        if event.get("stage") == "ResponseComplete" and "dryRun=" not in event.get("requestURI", ""):
            yield write_of(event)


def write_of(event: Object) -> Write:
    """Return what an audit event tells."""
    about = event.get("objectRef") or {}
    asked, came = event.get("requestObject"), event.get("responseObject")
    resource = str(about.get("resource", ""))
    return Write(
        at=parse(event["stageTimestamp"]),
        user=event["user"]["username"],
        verb=event["verb"],
        resource=f"{resource}/{about['subresource']}" if about.get("subresource") else resource,
        namespace=about.get("namespace", ""),
        name=about.get("name") or ((came or {}).get("metadata") or {}).get("name", ""),
        code=int((event.get("responseStatus") or {}).get("code", 0)),
        asked=asked if isinstance(asked, dict) else {},
        came=came if isinstance(came, dict) else {},
    )


def parse(text: str) -> datetime:
    """Read an instant of the API server's, UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)
