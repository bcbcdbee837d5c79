"""Whose turn it is in an approval: who is asked next, who is reminded, who can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from upshotd.domain.approval import Approval, Asking
from upshotd.domain.message import UNREACHABLE, Ask, Message, MessageState
from upshotd.domain.steps.approve import Approve

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.workflow import Step


class Turns:
    """Reads what an approve step has left, and what became of its messages; writes nothing."""

    def __init__(self, step: Step, kind: Approve, journey: Journey) -> None:
        self._step = step
        self._kind = kind
        self._journey = journey
        self._now_us = journey.now_us
        self._approval = Approval.of(journey.steps.get(step.step_id, {}))

    def _level_is_due(self) -> bool:
        due_us = self._escalation_us()
        return due_us is not None and due_us <= self._now_us

    def _escalation_us(self) -> int | None:
        """Return when the next level is asked; None where there is none, or it has no time."""
        approval, levels = self._approval, self._kind.levels
        if approval.level >= len(levels):
            return None
        if not approval.level or self._lost(approval.level):
            return self._now_us
        escalate_us = levels[approval.level - 1].escalate_us
        return approval.level_us + escalate_us if escalate_us is not None else None

    def _reminders(self) -> Iterator[tuple[Asking, int]]:
        """Yield who is to be reminded next, each with when."""
        given = self._kind.reminders_us
        sent = [asking.profile_id for asking in self._approval.asked if asking.ask is Ask.REMINDER]
        for asking in self._requests():
            count = sent.count(asking.profile_id)
            if count < len(given) and self._reached(asking):
                yield asking, asking.time_us + given[count]

    def _requests(self) -> Iterator[Asking]:
        return (asking for asking in self._approval.asked if asking.ask is Ask.REQUEST)

    def _lost(self, level: int = 0) -> bool:
        """Return whether nobody of a level, or of all of them, can be reached."""
        asked = [one for one in self._requests() if level in (0, one.level)]
        return all(self._unreachable(asking) for asking in asked)

    def _unreachable(self, asking: Asking) -> bool:
        if self._gone(asking.profile_id):
            return True
        return not asking.due_us and all(m.state in UNREACHABLE for m in self._made(asking))

    def _reached(self, asking: Asking) -> bool:
        made = self._made(asking)
        return any(m.state is MessageState.ACCEPTED for m in made) and not self._gone(
            asking.profile_id
        )

    def _gone(self, profile_id: str) -> bool:
        return self._journey.draft.profile(profile_id).erased

    def _made(self, asking: Asking) -> list[Message]:
        return self._journey.draft.messages(asking.message_ids)
