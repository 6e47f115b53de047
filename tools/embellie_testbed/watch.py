# SPDX-License-Identifier: Apache-2.0
"""Follows a collection of the API server: list, watch, and again from the start when the watch is lost."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from embellie_testbed.rest import ApiError, Rest

Object: TypeAlias = dict[str, Any]

_RETRY_SECONDS = 0.5
_WATCH_SECONDS = 240


def follow(
    connect: Callable[[], Rest],
    path: str,
    on_set: Callable[[Object], None],
    on_gone: Callable[[Object], None],
    on_list: Callable[[list[Object]], None],
    listed: threading.Event,
) -> None:
    """Tell the callbacks about every object of a collection, for ever; `listed` is set after the first list.

    The API server may go and come back: nothing here gives up, and each new list tells what went in the meantime.
    """
    rest = connect()
    while True:
        try:
            objects, version = rest.objects_with_version(path)
            on_list(objects)
            for each in objects:
                on_set(each)
            listed.set()
            _watch(rest, path, version, on_set, on_gone)
        except (OSError, http.client.HTTPException, ApiError, json.JSONDecodeError):
            rest.close()
            time.sleep(_RETRY_SECONDS)


def _watch(
    rest: Rest, path: str, version: str, on_set: Callable[[Object], None], on_gone: Callable[[Object], None]
) -> None:
    """Follow changes from a version on until the server says that it is too old; connection errors are the caller's."""
    while True:
        for event in rest.watch(path, version, seconds=_WATCH_SECONDS):
            kind, each = event["type"], event["object"]
            if kind == "ERROR":
                return
            version = each["metadata"]["resourceVersion"]
            if kind == "DELETED":
                on_gone(each)
            elif kind != "BOOKMARK":
                on_set(each)
