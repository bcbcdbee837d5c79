"""A reviewer as whom an approve step sends to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from upshotd.domain import messages
from upshotd.domain.approval import Approval, Asking
from upshotd.domain.message import Ask, Channel, Message
from upshotd.domain.names import profile_names
from upshotd.domain.outgoing import Addressee

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.profile import Profile


class Reviewer(Addressee):
    """Somebody who decides, and what one sending to them keeps: its `asking`."""

    __slots__ = ("_approval", "asking")

    def __init__(self, journey: Journey, step_id: str, approval: Approval, asking: Asking) -> None:
        super().__init__(journey, step_id)
        self._approval = approval
        self.asking = asking

    @property
    def ask(self) -> Ask:
        """What the message is of the approve step."""
        return self.asking.ask

    @property
    def profile(self) -> Profile:
        """The reviewer, as they are now."""
        return self.journey.draft.profile(self.asking.profile_id)

    def names(self) -> Mapping[str, object]:
        """Return what the texts may name: also the `reviewer` and what is known of the
        `approval`."""
        profile = self.profile
        inside = self.journey.draft.audiences(profile.profile_id)
        reviewer = {**profile_names(profile, inside), "traits": profile.traits}
        return {**self.journey.names(), "reviewer": reviewer, "approval": self._known()}

    def note(self, what: str, detail: str) -> None:
        """Note what becomes of it, to whom it goes and as what."""
        self.journey.note(what, messages.addressed(detail, self.profile, self.ask))

    def made(self) -> list[Message]:
        """Return the messages of this sending, those made first in front."""
        return self.journey.draft.messages(self.asking.message_ids)

    def passed_over(self) -> list[str]:
        """Return the channels that could not reach the reviewer when it was their turn."""
        return list(self.asking.passed_over)

    def pass_over(self, channel: Channel) -> None:
        """Do not come back to *channel* in this sending."""
        passed_over = (*self.asking.passed_over, channel.name)
        self.asking = self.asking._replace(passed_over=passed_over)

    def remember(self, message: Message, **_: object) -> None:
        """Keep *message* with this sending.

        One that was decided before its reviewer was erased is refused, also if it is not sent.
        """
        profile = self.profile
        self.journey.draft.changes.consents[profile.profile_id] = profile.row_version
        message_ids = (*self.asking.message_ids, message.message_id)
        self.asking = self.asking._replace(message_ids=message_ids)

    def _known(self) -> dict[str, object]:
        approval, asking = self._approval, self.asking
        left, answered = approval.left(), approval.question(asking.question_id)
        return {
            "kind": asking.ask.value,
            "level": asking.level,
            "summary": approval.summary,
            "question": answered.question if answered is not None else "",
            "answer": answered.answer if answered is not None else "",
            **{name: left[name] for name in ("questions", "decision", "decided_by", "comment")},
        }
