# SPDX-License-Identifier: Apache-2.0
"""Why a workload is where it is: the closed list of states and reasons.

Each is documented in docs/reference/reasons.md.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a workload stands with us."""

    HELD = "Held"
    """Waits because of a plan; bounded by `latestStart`."""
    HELD_BY_LIMIT = "HeldByLimit"
    """Past `latestStart`, held by a fresh reading over a hard limit; bounded by `maxLimitHold`."""
    RELEASED = "Released"
    """We let it start."""
    SHADOW = "Shadow"
    """Not touched; the plan says what we would have done."""
    PAUSED = "Paused"
    """Ran, and was suspended after its checkpoint for its zone to make less heat; bounded by `maxLimitHold`."""
    HANDED_OFF = "HandedOff"
    """Somebody else decides about it: it was started or suspended by another hand."""


BOUND_STATES = (State.HELD, State.HELD_BY_LIMIT)
"""What a latest start binds; paused work has started before it."""


class Reason(StrEnum):
    """The one reason that binds a decision."""

    CLEANER_WINDOW = "CleanerWindow"
    """Waits for hours with less carbon."""
    HEAT_DELIVERY = "HeatDelivery"
    """Starts, or waits for hours, in which a heat network needs its heat."""
    ON_SITE_POWER = "OnSitePower"
    """Starts, or waits for hours, in which the site's own sun and wind deliver more than it uses already."""
    WAITING_FOR_GPUS = "WaitingForGpus"
    """No allowed zone has enough free GPUs before the planned start."""
    CONTRACTED_POWER = "ContractedPower"
    """A start would take a grid zone over its contracted power, or over what an order leaves it."""
    HEAT_LIMIT = "HeatLimit"
    """A start at worst-case power would take a thermal zone over its limit."""
    SENSOR_UNTRUSTED = "SensorUntrusted"
    """A stale, missing or absurd sensor counts as the worst case."""
    TENANT_SHARE = "TenantShare"
    """Room is short and goes to tenants that got less of it; or waiting longer would ask too much of its tenant."""
    START_RAMP = "StartRamp"
    """Starts are spread so that power rises no faster than the zone's ramp."""
    RELEASE_RATE = "ReleaseRate"
    """More releases were due than one turn may write."""
    LIMIT_READING = "LimitReading"
    """Past the bound, and a fresh reading stands over a hard limit."""
    WRITE_CONFLICT = "WriteConflict"
    """The release could not be written; it is tried again next turn."""

    BEST_NOW = "BestNow"
    """No later start within the bound is expected to be cleaner."""
    MINIMUM_SAVING = "MinimumSaving"
    """A later start would save less than the policy's minimum."""
    SLACK_SPENT = "SlackSpent"
    """So much work waits that holding it longer could make some of it miss its bound."""
    BOUND_REACHED = "BoundReached"
    """`latestStart` has come."""
    FORECAST_UNAVAILABLE = "ForecastUnavailable"
    """No usable forecast, so there is nothing to wait for."""
    HELD_FRACTION = "HeldFraction"
    """The policy already holds as much as it may."""
    NO_POLICY = "NoPolicy"
    """No enforce policy matches the workload any more."""
    NO_ZONE = "NoZone"
    """No GridZone selects a node that the workload may use."""
    RESIDENCY_UNSATISFIED = "ResidencyUnsatisfied"
    """No zone lies where the workload must stay."""
    DEADLINE_UNREACHABLE = "DeadlineUnreachable"
    """The deadline cannot be met even by starting at once."""
    INVALID_ANNOTATION = "InvalidAnnotation"
    """An annotation that bounds the wait, or the object itself, cannot be read."""

    HEAT_PAUSE = "HeatPause"
    """Paused, because its thermal zone heats in spite of everything, or a permit or contracted power leaves it less."""
    COOLED = "Cooled"
    """Goes on after a pause."""

    OPERATOR_LOST = "OperatorLost"
    """Released by the watchdog, because the operator completed no turn for too long."""
    UNINSTALLED = "Uninstalled"
    """Released because Embellie was uninstalled."""
    RELEASED_BY_ADMIN = "ReleasedByAdmin"
    """An administrator released everything that was held."""

    STARTED_BY_OTHER = "StartedByOther"
    """Somebody removed the gate or set `suspend: false`: that counts as go."""
    SUSPENDED_BY_OTHER = "SuspendedByOther"
    """Suspended after our release, by its user or another controller; or our marker was taken off while it waited."""
    WOULD_HOLD = "WouldHold"
    """Shadow: it would have been held."""
    WOULD_START = "WouldStart"
    """Shadow: it would have been started at once."""


BY_CHOICE = frozenset({Reason.CLEANER_WINDOW, Reason.HEAT_DELIVERY, Reason.ON_SITE_POWER})
"""Held because later is better, not for want of room."""


class Rung(StrEnum):
    """How good the source of a forecast is, best first."""

    LIVE = "Live"
    LAST_GOOD = "LastGood"
    CALENDAR = "Calendar"
    CLIMATOLOGY = "Climatology"
    NEUTRAL = "Neutral"


class SignalKind(StrEnum):
    """What a carbon intensity measures. Two kinds are never added or compared."""

    AVERAGE_LIFECYCLE = "AverageLifecycle"
    AVERAGE_DIRECT = "AverageDirect"
    MARGINAL = "Marginal"

    @property
    def words(self) -> str:
        """What people call it."""
        return {"AverageLifecycle": "average life-cycle", "AverageDirect": "average direct"}.get(self, "marginal")
