"""suppress: stops a channel or a topic for this person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from upshotd.domain.message import Channel
from upshotd.domain.names import instant
from upshotd.domain.profile import Suppression
from upshotd.domain.steps.move import NEXT, Move

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey


@dataclass(frozen=True, slots=True)
class Suppress:
    """Stops a channel, or a topic; exactly one of the two is set."""

    channel: Channel = Channel.UNSPECIFIED
    topic: str = ""
    #: For how long, in microseconds; None is for good.
    duration_us: int | None = None


def enter(suppress: Suppress, journey: Journey) -> Move:
    """Hold the channel or topic back; one that is held back for longer stays so."""
    until_us = None if suppress.duration_us is None else journey.now_us + suppress.duration_us
    suppression = Suppression(suppress.channel, suppress.topic, until_us)
    held = journey.draft.suppressions(journey.run.profile_id)
    if not any(s.scope == suppression.scope and s.outlasts(suppression) for s in held):
        journey.draft.put_suppression(journey.run.profile_id, suppression)
    until = "for good" if until_us is None else f"until {instant(until_us).isoformat()}"
    journey.note("suppressed", f"{suppress.topic or suppress.channel.name.lower()} {until}")
    return NEXT
