# SPDX-License-Identifier: Apache-2.0
"""PowerCaps as the API server has them: written where they are wanted, renewed in time, removed when they are over.

Only objects that carry our managed-by label are changed or removed; a node whose PowerCap somebody else wrote is left
to them. A cap ends by its expiry even if nobody removes it, so an operator that is gone caps nothing for long.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.domain import names
from embellie.domain.times import format_time, parse_time

logger = logging.getLogger(__name__)

PLURAL = "powercaps"
_RENEW_AT = timedelta(seconds=300)
"""A cap that is still wanted is written again when less than this is left."""
_REREAD_AFTER = timedelta(seconds=60)
"""While there are caps, or some to be written, they are read again this often: others may delete or write them too."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_WRITES = 50
"""Most writes of one turn; the rest follows in the next ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """What one node's GPUs may draw."""

    cap_w: int
    knee_w: int
    expires: datetime
    zone: str
    reason: str


class PowerCaps:
    """Keeps the PowerCaps as the ladder wants them; neither `standing` nor `turn` raises."""

    def __init__(self, client: KubeClient, *, may_write: Callable[[], bool] = lambda: True) -> None:
        """`may_write` is asked before each write: a leader that lost its lease must stop at once."""
        self._client = client
        self._may_write = may_write
        self._known: dict[str, Cap] | None = None
        """Ours as they were last read or written, by node; None before the first list."""
        self._read_at = _LONG_AGO
        self._others: frozenset[str] = frozenset()
        self._refused: set[str] = set()
        """Nodes whose last write was refused: they come after all others, which must not wait for them."""
        self._trouble = ""
        self._denied = False
        """Whether there is no right, or no such kind: nothing of ours can be there."""

    def standing(self, now: datetime) -> dict[str, int]:
        """Return what our caps leave each GPU now, by node [W]; none while they cannot be read."""
        if self._known is None and not self._trouble:
            self._tried(partial(self._list, now))
        return {node: cap.cap_w for node, cap in (self._known or {}).items() if cap.expires > now}

    def turn(self, wanted: Mapping[str, Cap], now: datetime) -> None:
        """Write, renew and remove what differs from what is wanted, by node; `now` is in the operator's clock."""
        if self._denied and not wanted:
            return
        if (self._known or wanted) and now - self._read_at >= _REREAD_AFTER:
            self._known = None
        read = self._known is not None or self._tried(partial(self._list, now))
        if read and self._tried(partial(self._write, wanted, now)):
            self._trouble, self._denied = "", False

    def _tried(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except ApiError as error:
            # Read them anew next time: what was written and what was not is not known.
            self._denied = self._known is None and error.status in (403, 404)
            self._known = None
            if str(error) != self._trouble:
                self._trouble = str(error)
                logger.warning("PowerCaps cannot be read or written: %s", error)
            return False
        return True

    def _list(self, now: datetime) -> None:
        known, others = {}, set()
        for raw in self._client.list_all(object_path(names.API_VERSION, PLURAL)):
            name, spec = raw["metadata"]["name"], raw.get("spec") or {}
            if (raw["metadata"].get("labels") or {}).get(names.MANAGED_BY_LABEL) != names.FIELD_MANAGER:
                others.add(name)
                continue
            known[name] = Cap(
                cap_w=int(spec.get("capWatts", 0)),
                knee_w=int(spec.get("kneeWatts", 0)),
                expires=parse_time(spec.get("expiryTime")) or _LONG_AGO,
                zone=str(spec.get("thermalZoneName", "")),
                reason=str(spec.get("reason", "")),
            )
        self._known, self._others, self._read_at = known, frozenset(others), now

    def _write(self, wanted: Mapping[str, Cap], now: datetime) -> None:
        known = self._known if self._known is not None else {}
        gone = [(node, None) for node in known if node not in wanted]
        due = [
            (node, cap)
            for node, cap in wanted.items()
            if node not in self._others and ((before := known.get(node)) is None or _is_due(before, cap, now))
        ]
        todo = sorted([*gone, *due], key=lambda one: one[0] in self._refused)
        self._refused.intersection_update(node for node, _ in todo)
        refused: ApiError | None = None
        for node, cap in todo[:_WRITES]:
            if not self._may_write():
                break
            path = object_path(names.API_VERSION, PLURAL, node)
            try:
                if cap is None:
                    self._client.delete(path)
                else:
                    self._client.apply(path, _body(node, cap))
            except ApiError as error:
                self._refused.add(node)
                if error.unreachable:
                    raise  # nobody answers, and the others would wait as long
                refused = error
                continue
            self._refused.discard(node)
            if cap is None:
                del known[node]
                continue
            if node not in known:
                logger.info("GPUs of %s are capped at %d W: %s", node, cap.cap_w, cap.reason)
            known[node] = cap
        if refused is not None:
            raise refused


def _is_due(before: Cap, cap: Cap, now: datetime) -> bool:
    return (before.cap_w, before.knee_w, before.zone) != (cap.cap_w, cap.knee_w, cap.zone) or (
        before.expires - now < _RENEW_AT
    )


def _body(node: str, cap: Cap) -> dict[str, object]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "PowerCap",
        "metadata": {"name": node, "labels": {names.MANAGED_BY_LABEL: names.FIELD_MANAGER}},
        "spec": {
            "capWatts": cap.cap_w,
            "kneeWatts": cap.knee_w,
            "expiryTime": format_time(cap.expires),
            "thermalZoneName": cap.zone,
            "reason": cap.reason,
        },
    }
