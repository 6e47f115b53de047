# SPDX-License-Identifier: Apache-2.0
"""Writes the status of our cluster-scoped kinds, seldom.

A changed condition is written at once, a changed number at most once a minute: a status is not a time series (those
are metrics).
"""

import logging
from collections.abc import Mapping
from typing import Any

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.domain import names

NUMBERS_EVERY_S = 60.0
logger = logging.getLogger(__name__)


class StatusWriter:
    """Server-side apply of `/status`, only what changed."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._written: dict[tuple[str, str], tuple[float, Mapping[str, Any]]] = {}

    def write(self, kind: str, plural: str, name: str, status: Mapping[str, Any], now_s: float) -> bool:
        """Write one status if it is worth it; return whether it was written. `now_s` is monotonic [s]."""
        key = (plural, name)
        known = self._written.get(key)
        if known is not None:
            written_s, before = known
            urgent = _urgent(before) != _urgent(status)
            if before == status or (not urgent and now_s - written_s < NUMBERS_EVERY_S):
                return False
        body = {
            "apiVersion": names.API_VERSION,
            "kind": kind,
            "metadata": {"name": name},
            "status": dict(status),
        }
        try:
            self._client.apply(object_path(names.API_VERSION, plural, name), body, subresource="status")
        except ApiError as error:
            if error.status != 404:
                logger.warning("status of %s %s could not be written: %s", kind, name, error)
            self._written.pop(key, None)
            return False
        self._written[key] = (now_s, status)
        return True


def _urgent(status: Mapping[str, Any]) -> tuple[object, ...]:
    """What an admin waits for: conditions (without their times), the state and the generation that was seen."""
    conditions = tuple((c.get("type"), c.get("status"), c.get("reason")) for c in status.get("conditions") or ())
    return conditions, status.get("state"), status.get("observedGeneration"), status.get("nodes")
