"""Over which channels a message goes: the route of a send step. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from upshotd.domain.message import Channel


class Method(IntEnum):
    """How the options of a route are taken; the contract's numbers."""

    #: The first that can reach the person.
    SINGLE = 1
    #: Every one.
    ALL = 2


@dataclass(frozen=True, slots=True)
class Route:
    """Several channels, or routes inside of it, in order."""

    method: Method
    options: tuple[Channel | Route, ...]


#: One channel, or several.
Routing: TypeAlias = Channel | Route


def channels(routing: Routing) -> Iterator[Channel]:
    """Yield the channels, in order."""
    if isinstance(routing, Channel):
        yield routing
        return
    for option in routing.options:
        yield from channels(option)


def take(routing: Routing, reach: Callable[[Channel, bool], bool], *, alone: bool = True) -> bool:
    """Take *routing* by trying its channels; return whether one of them reaches the person.

    *reach* is asked for a channel and whether it is the only way: False where another one is tried
    instead. It returns whether the person is reached, or may still be.
    """
    if isinstance(routing, Channel):
        return reach(routing, alone)
    match routing.method:
        case Method.SINGLE:
            return any(take(option, reach, alone=False) for option in routing.options)
        case Method.ALL:
            taken = [take(option, reach, alone=alone) for option in routing.options]
            return any(taken)
