# SPDX-License-Identifier: Apache-2.0
"""Clears away what an operator that is gone did to running work and to nodes."""

from collections.abc import Callable
from functools import partial

from embellie.watchdog.api import Api
from embellie.watchdog.log import log
from embellie.watchdog.nodes import clear_nodes
from embellie.watchdog.pauses import withdraw_pauses


def clear_up(api: Api, identity: str) -> str | None:
    """Take back announced pauses, taints and power caps; return what is left and why, None where nothing is."""
    faults = (run_on(api, identity), _tried("taints and power caps of nodes", partial(clear_nodes, api)))
    return "; ".join(fault for fault in faults if fault) or None


def run_on(api: Api, identity: str) -> str | None:
    """Take back announced pauses; return what is left and why, None where nothing is."""
    return _tried("announced pauses", partial(withdraw_pauses, api, identity))


def _tried(what: str, clear: Callable[[], str | None]) -> str | None:
    try:
        return clear()
    except Exception as error:  # noqa: BLE001 - whatever fails here must not keep what is held from its release
        fault = f"{what} may still stand ({type(error).__name__}: {error})"
        log("not-cleared", error=fault)
        return fault
