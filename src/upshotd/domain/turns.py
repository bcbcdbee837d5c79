"""Whose turn it is in an approval: who is asked next, who is reminded, who can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from upshotd.domain.approval import Approval, Asking
from upshotd.domain.message import UNREACHABLE, Ask, Message, MessageState
from upshotd.domain.steps.approve import Approve

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey


class Turns(NamedTuple):
    """Reads what an approve step knows of its approval, and what became of its messages."""

    kind: Approve
    approval: Approval
    journey: Journey

    @property
    def end_us(self) -> int:
        """When it ends if nobody decides, in microseconds."""
        return self.journey.enter_us + self.kind.timeout_us

    @property
    def late(self) -> bool:
        """Whether its time is over: its timer, which ends it, is late. A decision still counts."""
        return self.journey.now_us >= self.end_us

    def level_is_due(self) -> bool:
        """Return whether it is time to ask the next level."""
        due_us = self._escalation_us()
        return due_us is not None and due_us <= self.journey.now_us

    def _escalation_us(self) -> int | None:
        """Return when the next level is asked; None where there is none, or it has no time."""
        approval, levels = self.approval, self.kind.levels
        if approval.level >= len(levels):
            return None
        if not approval.level or self.lost(approval.level):
            return self.journey.now_us
        escalate_us = levels[approval.level - 1].escalate_us
        return approval.level_us + escalate_us if escalate_us is not None else None

    def next_us(self) -> int | None:
        """Return when it is time for the next thing but a decision; None: there is none."""
        escalation_us = self._escalation_us()
        dues = [due_us for _, due_us in self.reminders()]
        dues += [asking.due_us for asking in self.approval.asked if asking.due_us]
        dues += [escalation_us] if escalation_us is not None else []
        return min(dues, default=None)

    def asks_now(self) -> bool:
        """Return whether it is time for another round: somebody is asked, or reminded."""
        now_us = self.journey.now_us
        if self.level_is_due() or any(due_us <= now_us for _, due_us in self.reminders()):
            return True
        return any(self._put_off(one) and one.due_us <= now_us for one in self.approval.asked)

    def _put_off(self, asking: Asking) -> bool:
        """Return whether a reviewer is asked, or reminded, when their quiet hours are over."""
        asks = asking.ask in (Ask.REQUEST, Ask.REMINDER) and not asking.message_ids
        return asks and asking.due_us > asking.time_us

    def reminders(self) -> Iterator[tuple[Asking, int]]:
        """Yield who is reminded next, each with when; of several that are late one is sent."""
        spans = self.kind.reminders_us
        for asking in self.requests() if spans else ():
            before = [one for one in self._of(asking.profile_id) if one.ask is Ask.REMINDER]
            reach_us = self._reach_us(asking)
            # No more than were asked for, also where another channel has reached them later.
            over = len(before) >= len(spans) or any(one.due_us for one in before)
            if reach_us is None or over:
                continue
            last_us = max([reach_us, *(one.time_us for one in before)])
            later = [reach_us + span_us for span_us in spans if reach_us + span_us > last_us]
            if later:
                yield asking, later[0]

    def requests(self) -> Iterator[Asking]:
        """Yield what was asked of reviewers, in order."""
        return (asking for asking in self.approval.asked if asking.ask is Ask.REQUEST)

    def lost(self, level: int = 0) -> bool:
        """Return whether nobody of a level, or of all of them, can be reached."""
        asked = [one for one in self.requests() if level in (0, one.level)]
        return all(self._unreachable(asking) for asking in asked)

    def _unreachable(self, asking: Asking) -> bool:
        """Return whether nothing of what a reviewer got, or will get, can reach them."""
        if self.gone(asking.profile_id):
            return True
        theirs = list(self._of(asking.profile_id))
        if any(one.due_us for one in theirs):
            return False
        return all(m.state in UNREACHABLE for one in theirs for m in self._made(one))

    def reached(self, asking: Asking) -> bool:
        """Return whether anything of it has reached a reviewer."""
        theirs = self._of(asking.profile_id)
        return any(self._reach_us(one) is not None for one in theirs)

    def _reach_us(self, asking: Asking) -> int | None:
        """Return when the first message of it that counts was taken; None: there is none."""
        taken = [m for m in self._made(asking) if m.state is MessageState.ACCEPTED]
        if not taken or self.gone(asking.profile_id):
            return None
        sent_us = min(m.facts.get("sent", asking.time_us) for m in taken)
        return max(sent_us, asking.time_us)  # a clock may have been set back in between

    def _of(self, profile_id: str) -> Iterator[Asking]:
        return (asking for asking in self.approval.asked if asking.profile_id == profile_id)

    def gone(self, profile_id: str) -> bool:
        """Return whether a reviewer was erased."""
        return self.journey.draft.profile(profile_id).erased

    def index_of(self, message: Message) -> int | None:
        """Return of what in `asked` a message is; None: of nothing."""
        for index, asking in enumerate(self.approval.asked):
            if message.message_id in asking.message_ids:
                return index
        return None

    def _made(self, asking: Asking) -> list[Message]:
        return self.journey.draft.messages(asking.message_ids)
