"""Frequency caps: how many messages a person gets in a time, over all workflows. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from upshotd.domain.message import Channel, Purpose
from upshotd.domain.passes import live
from upshotd.domain.profile import Profile
from upshotd.domain.values import replace


@dataclass(frozen=True, slots=True)
class Cap:
    """Most messages of some kinds to one person in any stretch of a period.

    An empty set is all of them; what is transactional is never meant.
    """

    name: str
    most: int
    #: In microseconds.
    period_us: int
    channels: frozenset[Channel] = frozenset()
    topics: frozenset[str] = frozenset()
    purposes: frozenset[Purpose] = frozenset()

    def covers(self, channel: Channel, topic: str, purpose: Purpose) -> bool:
        """Return whether a message counts against it."""
        return (
            purpose is not Purpose.TRANSACTIONAL
            and (not self.channels or channel in self.channels)
            and (not self.topics or topic in self.topics)
            and (not self.purposes or purpose in self.purposes)
        )

    @property
    def pass_name(self) -> str:
        """Under which name a profile counts; no workflow can have it."""
        return f"cap:{self.name}"


def reached(caps: Collection[Cap], profile: Profile, now_us: int) -> Cap | None:
    """Return the first of *caps* that lets nothing more through to this person, or None."""
    counts = live(profile.passes, now_us)
    return next((cap for cap in caps if len(counts.get(cap.pass_name, ())) >= cap.most), None)


def counted(caps: Iterable[Cap], profile: Profile, now_us: int) -> Profile:
    """Return *profile* with one message more against each of *caps*."""
    counts = live(profile.passes, now_us)
    for cap in caps:
        counts[cap.pass_name] = (*counts.get(cap.pass_name, ()), now_us + cap.period_us)
    return replace(profile, passes=counts)
