# SPDX-License-Identifier: Apache-2.0
"""Which policy a workload is subject to, and which namespaces admission may hold in.

When several policies match, the highest `priority` wins, then the oldest policy, then the name first in the alphabet.
"""

from collections.abc import Iterable, Mapping, Sequence

from embellie.api.energypolicy import EnergyPolicy
from embellie.cluster.records import NamespaceRecord, WorkloadRecord
from embellie.domain.names import PROTECTED_NAMESPACES


def in_order(policies: Iterable[EnergyPolicy]) -> list[EnergyPolicy]:
    """Sort policies so that the first that matches wins."""
    return sorted(policies, key=lambda p: (-p.spec.priority, str(p.metadata.creation_timestamp or ""), p.metadata.name))


def selects_namespace(policy: EnergyPolicy, namespace: NamespaceRecord, own_namespace: str) -> bool:
    """Tell whether a policy covers a namespace; system namespaces and our own never are."""
    if namespace.name in PROTECTED_NAMESPACES or namespace.name == own_namespace:
        return False
    selector = policy.spec.namespace_selector
    if selector.match_names and namespace.name not in selector.match_names:
        return False
    return _contains(namespace.labels, selector.match_labels)


def selects_workload(policy: EnergyPolicy, workload: WorkloadRecord) -> bool:
    """Tell whether a policy covers a workload of a namespace that it covers."""
    return _contains(workload.labels, policy.spec.workload_selector.match_labels)


def _contains(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


class PolicyTable:
    """Answers policy questions for one turn."""

    def __init__(
        self, policies: Iterable[EnergyPolicy], namespaces: Sequence[NamespaceRecord], own_namespace: str
    ) -> None:
        self._ordered = in_order(policies)
        self._by_namespace = {
            ns.name: [p for p in self._ordered if selects_namespace(p, ns, own_namespace)] for ns in namespaces
        }

    @property
    def policies(self) -> Sequence[EnergyPolicy]:
        """All policies, winners first."""
        return self._ordered

    def match(self, workload: WorkloadRecord) -> EnergyPolicy | None:
        """Return the policy that a workload is subject to, or None."""
        candidates = self._by_namespace.get(workload.key.namespace, ())
        return next((p for p in candidates if selects_workload(p, workload)), None)

    def namespaces_of(self, policy: EnergyPolicy) -> list[str]:
        """Return the namespaces that a policy covers."""
        return sorted(ns for ns, found in self._by_namespace.items() if any(p is policy for p in found))

    def enforced_namespaces(self) -> list[str]:
        """Return the namespaces in which an enforce policy wins for some work: where admission may hold."""
        return sorted(ns for ns, found in self._by_namespace.items() if _enforces(found))

    def overruled_by(self, policy: EnergyPolicy) -> list[str]:
        """Return the policies that win over `policy` in at least one namespace that both cover."""
        winners: dict[str, None] = {}
        for found in self._by_namespace.values():
            if any(p is policy for p in found):
                for other in found:
                    if other is policy:
                        break
                    winners[other.metadata.name] = None
        return list(winners)


def _enforces(policies: Iterable[EnergyPolicy]) -> bool:
    """Tell whether of some policies, winners first, one that enforces wins for any work."""
    for policy in policies:
        if policy.enforces:
            return True
        if not policy.spec.workload_selector.match_labels:
            return False  # all work is its own
    return False
