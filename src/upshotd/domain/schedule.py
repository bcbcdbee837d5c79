"""When a schedule of a trigger comes: cron expressions on the clock of a place. Pure.

Where a clock is set forward, a fixed time that does not exist comes when the clock has moved; where
it is set back, a time that comes twice comes once. Expressions of every minute or hour go by real
time, as in Debian's cron.
"""

from dataclasses import dataclass
from datetime import tzinfo

from cronsim import CronSim, CronSimError

from upshotd.domain.names import instant, microseconds

#: Of the five fields of cron: minute, hour, day of the month, month, day of the week.
_FIELDS = 5
#: Longest outage after which what was missed is looked for: 31 days of minutes take a moment.
OUTAGE_MAX_US = 31 * 86_400_000_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times at which a workflow starts for everybody who meets its condition."""

    #: Five fields of cron, as `0 9 * * MON-FRI`.
    cron: str
    #: Of whose clock; empty: the server's.
    time_zone: str = ""
    #: Only people who are in this audience then; empty: everybody.
    audience_id: str = ""


@dataclass(frozen=True, slots=True)
class Coming:
    """What comes of a schedule after a moment, in microseconds."""

    #: The last time that has come by now, None where none has; those before it are passed over.
    due_us: int | None
    #: The next one; None: there is none any more.
    next_us: int | None
    #: How many came and are passed over.
    missed: int = 0


def fault(cron: str) -> str | None:
    """Return what is wrong with an expression, or None."""
    if len(cron.split()) != _FIELDS:
        return "is not five fields: minute, hour, day of the month, month, day of the week"
    try:
        found = next(CronSim(cron, instant(0)), None)
    except CronSimError as error:
        return f"is no cron expression: {str(error).lower()}"
    return None if found is not None else "never comes"


def coming(cron: str, zone: tzinfo, after_us: int, now_us: int, max_age_us: int) -> Coming:
    """Return what comes after *after_us* and is not older than *max_age_us* now."""
    due_us, came = None, 0
    # CronSim leaves out its own beginning, which it cuts to whole seconds.
    start_us = max(after_us, now_us - min(max_age_us, OUTAGE_MAX_US))
    for moment in CronSim(cron, instant(start_us).astimezone(zone)):
        moment_us = microseconds(moment)
        if moment_us <= after_us:
            continue
        if moment_us > now_us:
            return Coming(due_us, moment_us, max(came - 1, 0))
        due_us, came = moment_us, came + 1
    return Coming(due_us, None, max(came - 1, 0))
