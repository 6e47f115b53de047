# SPDX-License-Identifier: Apache-2.0
"""The switch over an API server that knows of nothing else."""

from types import SimpleNamespace
from typing import Any

from embellie.cluster.client import ApiError
from embellie.cluster.switch import Switch


def switch(*, locked: bool = False, readable: bool = True) -> Switch:
    """Return the switch, on."""

    def get(_path: str, **_how: Any) -> dict[str, Any]:
        if not readable:
            raise ApiError(0, "Unreachable", "no answer")
        return {"data": {"enabled": "true", "locked": str(locked).lower()}}

    client: Any = SimpleNamespace(get=get)
    return Switch(client, "embellie-system")
