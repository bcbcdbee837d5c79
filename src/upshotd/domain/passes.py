"""What counts against the limits of one person: by limit, when each of what passed stops to count.

It stands in the profile. Whoever adds to it writes that row with its version, so that no two take
the same place.
"""

from collections.abc import Mapping
from typing import TypeAlias

#: Name of a limit -> ends, in microseconds.
Passes: TypeAlias = Mapping[str, tuple[int, ...]]


def live(passes: Passes, now_us: int) -> dict[str, tuple[int, ...]]:
    """Return *passes* without what is over."""
    kept = ((name, tuple(end for end in ends if end > now_us)) for name, ends in passes.items())
    return {name: ends for name, ends in kept if ends}


def joined(one: Passes, other: Passes) -> dict[str, tuple[int, ...]]:
    """Return what two people who are one have passed: all of both."""
    names = {**one, **other}
    return {name: tuple(sorted((*one.get(name, ()), *other.get(name, ())))) for name in names}
