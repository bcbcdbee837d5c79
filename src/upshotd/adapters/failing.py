"""What happens at failpoints, as UPSHOT_FAILPOINTS says: `load.before=exit:0.1;...`.

This is for tests: it makes the program fail on purpose.
"""

import os
import random
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from upshotd.application.failpoints import POINTS
from upshotd.domain.errors import InvalidArgument, ResourceExhausted, Violation

log = structlog.get_logger(__name__)

VARIABLE: Final = "UPSHOT_FAILPOINTS"
#: Exit code of a process that a failpoint ended.
EXIT_CODE: Final = 86
ACTIONS: Final = ("exit", "raise", "pause(SECONDS)", "disk-full")
_POINT = re.compile(
    r"(?P<name>[a-z_.]+)=(?P<action>exit|raise|disk-full|pause\((?P<seconds>[0-9.]+)\))"
    r"(?::(?P<chance>[01]|0?\.[0-9]+))?"
)


class FailpointHit(RuntimeError):
    """Raised by a failpoint: an error that nobody could foresee."""


def acts(text: str) -> dict[str, Callable[[], None]]:
    """Return what *text* asks for, by point. Raises InvalidArgument with every fault."""
    found: dict[str, Callable[[], None]] = {}
    faults: list[Violation] = []
    for part in filter(None, map(str.strip, text.split(";"))):
        said = _POINT.fullmatch(part)
        if said is None:
            wanted = f"must be NAME=ACTION[:CHANCE], ACTION one of {', '.join(ACTIONS)}"
            faults.append(Violation(VARIABLE, f"{part!r} {wanted}"))
        elif said["name"] not in POINTS:
            faults.append(Violation(VARIABLE, f"{said['name']} is none of {', '.join(POINTS)}"))
        else:
            chance = float(said["chance"] or 1)
            happens = _action(said["name"], said["action"], said["seconds"])
            found[said["name"]] = partial(_perhaps, said["name"], chance, happens)
    if found:
        log.warning("failpoints.armed", consequence="THIS PROCESS FAILS ON PURPOSE", text=text)
    if faults:
        raise InvalidArgument("; ".join(fault.description for fault in faults), tuple(faults))
    return found


def _perhaps(name: str, chance: float, happens: Callable[[], None]) -> None:
    if random.random() < chance:
        log.warning("failpoint.hit", failpoint=name)
        happens()


def _action(name: str, action: str, seconds: str | None) -> Callable[[], None]:
    if seconds is not None:
        return partial(_stand_still, float(seconds))
    if action == "exit":
        return partial(os._exit, EXIT_CODE)
    return partial(_raise, name) if action == "raise" else _full


def _stand_still(seconds: float) -> None:
    # Nobody sets it: the thread waits, as in a pause of the machine.
    threading.Event().wait(seconds)


def _raise(name: str) -> None:
    raise FailpointHit(name)


def _full() -> None:
    raise ResourceExhausted("the database is full", reason="DATABASE_FULL")
