# SPDX-License-Identifier: Apache-2.0
"""What starts at once, and the sentence that says why. Pure."""

from embellie.api.energypolicy import EnergyPolicy
from embellie.cluster.records import WorkloadRecord
from embellie.control.assembly.places import Places
from embellie.control.work.terms import Terms
from embellie.domain import names
from embellie.domain.reasons import Reason


def at_once(
    record: WorkloadRecord,
    policy: EnergyPolicy | None,
    terms: Terms,
    allowed: frozenset[str],
    places: Places,
) -> tuple[Reason | None, str]:
    """Return why held work does not wait, as a reason and in words; None where it may wait for a better hour.

    Args:
        record: The work.
        policy: The one that matches it.
        terms: What its user said.
        allowed: The cells that it may use.
        places: Where those of its border are.
    """
    if record.unreadable:
        return Reason.INVALID_ANNOTATION, "It starts at once: the object cannot be read; the operator's log says where."
    if not record.opted_in:
        return Reason.NO_POLICY, f"It starts at once: it no longer carries {names.FLEX_LABEL} patient or bonus."
    if policy is None or (record.held and not policy.enforces):
        return Reason.NO_POLICY, "It starts at once: no EnergyPolicy in mode enforce matches it any more."
    if terms.start_now is not None:
        return terms.start_now, terms.message
    if allowed:
        return None, ""
    residency = record.annotations.get(names.RESIDENCY)
    if residency and not places.shelter(record):
        message = (
            f"No GridZone lies in {residency[:80]} ({names.RESIDENCY}), so it goes to the scheduler and stays Pending. "
            "Create it again once a zone lies there, or with another residency."
        )
        return Reason.RESIDENCY_UNSATISFIED, message
    gpus = [f"{record.gpus} GPU{'' if record.gpus == 1 else 's'}"] if record.gpus else []
    asks = ", ".join([*gpus, *sorted(record.constraints.devices)])[:200] or "no GPUs"
    return Reason.NO_ZONE, f"It starts at once: no zone has enough nodes that it may use. It asks for {asks}."
