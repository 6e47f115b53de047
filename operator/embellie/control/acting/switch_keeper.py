# SPDX-License-Identifier: Apache-2.0
"""Keeps the switch as the policies want it, and says why where new work is not held."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from embellie.cluster.client import ApiError
from embellie.cluster.switch import Switch, SwitchState
from embellie.telemetry import metrics

logger = logging.getLogger(__name__)

_REFUSED = (403, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Whether new work is held where policies enforce, as a condition says it; None is not known."""

    good: bool | None
    reason: str
    message: str


NOT_YET = Holding(good=None, reason="NotYet", message="The first complete turn of this operator turns the switch on.")
ON = Holding(good=True, reason="SwitchOn", message="New work is held in the namespaces that it enforces in.")

SHADOW = Holding(good=None, reason="Shadow", message="It is in mode shadow, which holds nothing.")


class SwitchKeeper:
    """Turns holding on after a complete turn, where an enforce policy asks for it; never when it is locked."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self.holding = NOT_YET

    def mind(self, wanted: Sequence[str]) -> None:
        """Hold new work in the wanted namespaces, and in none where there are none.

        A switch that nobody can write is told, and no reason to stop: what it lets be held all the same starts in the
        next turn, or when its time comes. Raises ApiError where the API server gives no answer.
        """
        state = None
        try:
            state = self._switch.read()
            holding = _stands_still(state, wanted, self._switch.where)
            if holding is None:
                state, holding = self._set(state, wanted), ON
        except ApiError as error:
            if error.status not in _REFUSED:
                # No alert may rest on what was read before: the watchdog turns the switch off meanwhile.
                _show(None)
                raise
            says = f"{self._switch.where} cannot be used ({error.message[:200]}): helm upgrade mends its Role."
            holding = Holding(good=False, reason="SwitchRefused", message=says)
        if wanted and not holding.good and holding.message != self.holding.message:
            logger.warning("new work may not be held as policies say: %s", holding.message)
        self.holding = holding
        _show(state)

    def _set(self, state: SwitchState, wanted: Sequence[str]) -> SwitchState:
        if not wanted:
            return self._switch.disable() if state.enabled else state
        if state.lets_hold(wanted):
            return state
        logger.info("holding is on in %d namespaces", len(wanted))
        return self._switch.enable(wanted)


def _show(state: SwitchState | None) -> None:
    told = [] if state is None else [metrics.Value(metrics.SWITCH, float(state.holds))]
    metrics.TABLE.replace("switch", told)


def _stands_still(state: SwitchState, wanted: Sequence[str], where: str) -> Holding | None:
    """Say why the switch stays as it is; None where it can be written."""
    if not state.exists:
        says = f"{where} is missing, so nothing new is held: helm upgrade creates it again."
        return Holding(good=False, reason="SwitchMissing", message=says)
    if state.locked:
        says = f'{where} is locked, so nothing new is held: set its data.locked to "false" to hold again.'
        return Holding(good=False, reason="SwitchLocked", message=says)
    if state.immutable and not state.lets_hold(wanted):
        says = f"{where} was made immutable, so its namespaces stay as they are: delete it, then run helm upgrade."
        return Holding(good=False, reason="SwitchImmutable", message=says)
    return None
