# SPDX-License-Identifier: Apache-2.0
"""What an account may do in all namespaces: the question to the API server about whoever asks, and its answer."""

from collections.abc import Mapping
from typing import Any

from embellie.cluster.client import object_path

REVIEWS = object_path("authorization.k8s.io/v1", "selfsubjectaccessreviews")


def review(verb: str, group: str, plural: str) -> dict[str, Any]:
    """Return the question to be created at `REVIEWS`."""
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": plural}},
    }


def is_allowed(answer: Mapping[str, Any]) -> bool:
    """Read what came back; an answer that does not tell counts as yes."""
    return (answer.get("status") or {}).get("allowed") is not False
