"""An approval on its way: whom it asks and when, and what comes of it. Used inside one decision.

It goes in rounds: its context is asked, then who is next, then each of them gets a message. Between
rounds it holds until the next thing that is due, or until a reviewer does something.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from upshotd.domain import messages, outgoing
from upshotd.domain.approval import Approval, Asking, Phase, Question
from upshotd.domain.errors import TemplateError
from upshotd.domain.fetching import FetchResult, Found, ReviewersRequest, Unfetched
from upshotd.domain.message import Ask, Message, MessageState
from upshotd.domain.outcome import Engagement, EngagementKind, OutcomeKind
from upshotd.domain.reviewer import Reviewer
from upshotd.domain.steps import fetch, wait
from upshotd.domain.steps.approve import REVIEWERS_MAX, ApprovalDecision, Approve, sent_by
from upshotd.domain.steps.move import NEXT, Hold, Into, Move
from upshotd.domain.turns import Turns
from upshotd.domain.values import replace

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.workflow import Step

#: Characters of a summary.
SUMMARY_MAX: Final = 2_000
#: What looking for reviewers may take, in microseconds.
FIND_US: Final = 10_000_000

_DECISIONS: Mapping[EngagementKind, ApprovalDecision] = {
    EngagementKind.APPROVED: ApprovalDecision.APPROVED,
    EngagementKind.DENIED: ApprovalDecision.DENIED,
}


class Approving:
    """The approval of a run that stands at an approve step. Every move leaves it at the step."""

    def __init__(self, step: Step, kind: Approve, journey: Journey) -> None:
        self._step = step
        self._kind = kind
        self._journey = journey
        self._now_us = journey.now_us
        self._approval = Approval.of(journey.steps.get(step.step_id, {}))

    @property
    def _turns(self) -> Turns:
        """Whose turn it is, as it stands now."""
        return Turns(self._kind, self._approval, self._journey)

    # what happens to it

    def begin(self) -> Move:
        """Ask the first level; what is decided stays so where another version leads here again."""
        if self._approval.open:
            return self._round()
        self._journey.note("decided", f"before: {self._approval.left()['decision']}")
        return self._way()

    def due(self) -> Move:
        """Do what time has brought: another attempt, a reminder, the next level, the end."""
        if self._turns.late:
            return self._end("TIMED_OUT")
        match self._approval.phase:
            case Phase.CONTEXT:
                return self._ask_context()
            case Phase.REVIEWERS:
                return self._find()
            case Phase.DECISION:
                return self._round() if self._turns.asks_now() else self._send()

    def fetched(self, result: FetchResult) -> Move | None:
        """Go on with the answer to the last attempt; None where it was answered before."""
        if self._turns.late:
            return self._hold(None)
        step, journey, before = self._step, self._journey, self._approval.attempts
        match self._approval.phase:
            case Phase.CONTEXT:
                move = fetch.settled(step, self._context, journey, result, before)
                return self._with_context(move)
            case Phase.REVIEWERS:
                if isinstance(result, Found):
                    return self._found(result)
                assert isinstance(result, Unfetched), "a search finds people, or nothing"
                made = fetch.counted(journey, step.step_id) - before
                return self._hold(fetch.later(journey, made, result).due_us)
            case Phase.DECISION:
                return None

    def settled(self, message: Message) -> Move:
        """Go on where a message was taken by a provider, or has failed, be it after that."""
        index = self._turns.index_of(message)
        if index is not None and not self._turns.late:
            self._go_on(index)
        return self._rest()

    def engaged(self, message: Message, engagement: Engagement) -> Move | None:
        """Return where something that came about a message takes the run; None: nowhere."""
        match engagement.kind:
            case EngagementKind.APPROVED | EngagementKind.DENIED:
                return self._decided(message, engagement)
            case EngagementKind.ASKED:
                return self._asked(message, engagement)
            case EngagementKind.ANSWERED:
                return self._answered(message, engagement)
            case EngagementKind.BOUNCED | EngagementKind.UNDELIVERED:
                return self.settled(message)
            case _:
                return None

    def moved(self) -> Move | None:
        """Go on by another version's definition; None while it asks for something."""
        return None if self._approval.phase else self._rest()

    # a round

    def _round(self) -> Move:
        """Ask for the context, then whoever's turn it is."""
        if self._kind.context is None:
            return self._next_level()
        before = fetch.counted(self._journey, self._step.step_id)
        self._put(phase=Phase.CONTEXT, attempts=before)
        return self._ask_context()

    def _ask_context(self) -> Move:
        before = self._approval.attempts
        return self._with_context(fetch.enter(self._step, self._context, self._journey, before))

    def _with_context(self, move: Move) -> Move:
        """Go on once there is a context, or there will be none."""
        return self._hold(move.due_us) if isinstance(move, Hold) else self._next_level()

    @property
    def _context(self) -> fetch.FetchStep:
        assert self._kind.context is not None, "an approval without a context waits for none"
        return self._kind.context

    def _next_level(self) -> Move:
        """Say what it is about, and look for who is asked next, if it is their turn."""
        self._put(phase=Phase.DECISION)
        templates = self._journey.draft.definitions.templates
        try:
            summary = templates.render(self._kind.summary, self._journey.names())
        except TemplateError as error:
            if not self._approval.asked:
                return self._end("TEMPLATE_ERROR", str(error))
            # Whoever was asked may decide all the same: by what it was about until now.
            self._journey.note("summary_failed", str(error))
        else:
            self._put(summary=summary[:SUMMARY_MAX])
        return self._find() if self._turns.level_is_due() else self._send()

    def _find(self) -> Move:
        level, draft = self._kind.levels[self._approval.level], self._journey.draft
        names = self._journey.names()
        try:
            texts = [
                draft.definitions.templates.render(source, names).strip()
                for source in (level.group_id, *level.user_ids)
            ]
        except TemplateError as error:
            self._journey.note("condition_failed", f"level {self._approval.level + 1}: {error}")
            return self._found(Found(()))
        users = tuple(dict.fromkeys(filter(None, texts[1:])))
        request = ReviewersRequest(
            draft.changes.workspace_id, level.audience_id, texts[0], users, REVIEWERS_MAX
        )
        if self._approval.phase is not Phase.REVIEWERS:
            before = fetch.counted(self._journey, self._step.step_id)
            self._put(phase=Phase.REVIEWERS, attempts=before)
        return self._hold(fetch.ask(self._journey, self._step.step_id, request, FIND_US).due_us)

    def _found(self, found: Found) -> Move:
        """Ask everybody of a level who was not asked before."""
        number, journey = self._approval.level + 1, self._journey
        known = {asking.profile_id for asking in self._approval.asked}
        people = [journey.draft.profile(one) for one in found.profile_ids if one not in known]
        people = [person for person in people if person.can_decide]
        new = tuple(self._asking(one.profile_id, Ask.REQUEST, number) for one in people)
        names = ", ".join(person.user_id for person in people) or "nobody"
        more = f", and no more than {REVIEWERS_MAX} of its people" if found.more else ""
        more += f"; not known: {', '.join(found.unknown)}"[:200] if found.unknown else ""
        self._put(
            phase=Phase.DECISION,
            level=number,
            level_us=self._now_us,
            asked=(*self._approval.asked, *new),
        )
        journey.note("requested", f"level {number}: {names}{more}")
        if new:
            self._tell(
                OutcomeKind.APPROVAL_REQUESTED,
                reason="ESCALATED" if number > 1 else "",
                summary=self._approval.summary,
                level=number,
                reviewers=len(new),
            )
        return self._send()

    # sending

    def _asking(self, profile_id: str, ask: Ask, level: int, question_id: str = "") -> Asking:
        now_us = self._now_us
        return Asking(profile_id, ask, level, now_us, question_id, due_us=now_us)

    def _send(self) -> Move:
        """Send what is due, and remind whom it is time to remind."""
        for asking, time_us in list(self._turns.reminders()):
            if time_us <= self._now_us:
                self._add(self._asking(asking.profile_id, Ask.REMINDER, asking.level))
        for index, asking in enumerate(self._approval.asked):
            if 0 < asking.due_us <= self._now_us:
                self._go_on(index)
        return self._rest()

    def _add(self, asking: Asking) -> int:
        self._keep(self._approval.with_asking(asking))
        return len(self._approval.asked) - 1

    def _go_on(self, index: int) -> None:
        """Try what is left to try of what one reviewer gets; in their quiet hours later."""
        asking = self._approval.asked[index]
        if not asking.message_ids:
            asking = asking._replace(time_us=self._now_us)
        send = sent_by(self._kind, asking.ask)
        if send is None or self._turns.gone(asking.profile_id):
            self._keep(self._approval.with_asking_at(index, asking._replace(due_us=0)))
            return
        to = Reviewer(self._journey, self._step.step_id, self._approval, asking)
        opens_us = outgoing.until_us(to, None) if asking.ask is not Ask.NOTICE else self._now_us
        if opens_us > self._now_us and not asking.message_ids:
            move: Move = outgoing.put_off(to, opens_us)
        else:
            move = outgoing.go_on(to, send, None)
        due_us = move.due_us if isinstance(move, Hold) else None
        asking = to.asking._replace(due_us=due_us or 0)
        self._keep(self._approval.with_asking_at(index, asking))

    # resting and ending

    def _rest(self) -> Move:
        """Hold until the next thing is due; go on at once where nobody asked can be reached."""
        if self._turns.late:
            return self._hold(None)
        if self._approval.phase:
            return Hold(self._journey.due_us)
        if self._turns.level_is_due():
            return self._round() if self._approval.level_us < self._now_us else self._find()
        if self._approval.level >= len(self._kind.levels) and self._turns.lost():
            asked = any(True for _ in self._turns.requests())
            return self._end("UNREACHABLE" if asked else "NO_REVIEWERS")
        return self._hold(self._turns.next_us())

    def _hold(self, due_us: int | None) -> Hold:
        return Hold(self._turns.end_us if due_us is None else min(due_us, self._turns.end_us))

    def _end(self, reason: str, detail: str = "") -> Move:
        """Go the way of the default decision, or of the timeout."""
        if reason == "TIMED_OUT":
            wait.ignore(self._journey, self._step.step_id)
        self._put(timed_out=True)
        self._journey.leave(self._step.step_id, reason=reason)
        return self._close(self._kind.default, reason=reason, detail=detail)

    def _decided(self, message: Message, engagement: Engagement) -> Move:
        by = self._journey.draft.profile(message.profile_id).user_id
        comment = str(engagement.data.get("comment", ""))
        self._put(decided_by=by, comment=comment)
        return self._close(_DECISIONS[engagement.kind], message_id=message.message_id)

    def _close(
        self,
        decision: ApprovalDecision | None,
        *,
        reason: str = "",
        detail: str = "",
        message_id: str = "",
    ) -> Move:
        """End it: what was not sent yet is not, and whoever was asked is told."""
        self._put(phase=Phase.DECISION, decision=decision, end_us=self._now_us)
        approval, draft = self._approval, self._journey.draft
        word = str(approval.left()["decision"])
        by = f" by {approval.decided_by}" if approval.decided_by else ""
        said = ": ".join(filter(None, (f"{word}{by}", reason, approval.comment or detail)))
        self._journey.note("decided", said)
        self._tell(
            OutcomeKind.APPROVAL_DECIDED,
            message_id,
            reason=reason,
            decision=word,
            decided_by=approval.decided_by,
            comment=approval.comment,
        )
        for message in outgoing.made(self._journey, self._step.step_id):
            if message.state is MessageState.RETRYING:
                messages.suppress(draft, message, "DECIDED")
        self._give_notice()
        return self._way()

    def _way(self) -> Move:
        """Go the way of what was decided."""
        match self._approval.decision:
            case ApprovalDecision.APPROVED:
                return Into(self._kind.on_approved)
            case ApprovalDecision.DENIED:
                return Into(self._kind.on_denied)
            case None:
                return Into(self._kind.on_timeout) if self._kind.on_timeout else NEXT

    def _give_notice(self) -> None:
        if self._kind.notice is None:
            return
        for asking in tuple(self._turns.requests()):
            if self._turns.reached(asking):
                notice = self._asking(asking.profile_id, Ask.NOTICE, asking.level)
                self._go_on(self._add(notice))

    # questions

    def _asked(self, message: Message, engagement: Engagement) -> Move:
        """Keep a question, and say it to whoever may know."""
        questions = self._approval.questions
        asked_by = self._journey.draft.profile(message.profile_id).user_id
        question = Question(
            f"q{len(questions) + 1}",
            message.message_id,
            asked_by,
            str(engagement.data.get("body", "")),
            self._now_us,
        )
        self._put(questions=(*questions, question))
        self._journey.note("asked", f"{asked_by}: {question.question}")
        self._tell(
            OutcomeKind.APPROVAL_ASKED,
            message.message_id,
            question_id=question.question_id,
            question=question.question,
            asked_by=asked_by,
        )
        return Hold(self._journey.due_us)

    def _answered(self, message: Message, engagement: Engagement) -> Move:
        """Keep an answer, and send it to whoever asked."""
        question = self._approval.unanswered(message.message_id, engagement.data)
        assert question is not None, "an answer without a question is refused"
        answer = str(engagement.data.get("body", ""))
        self._keep(self._approval.with_answer(question, answer, self._now_us))
        self._journey.note("question_answered", f"{question.question_id}: {answer}")
        self._tell(
            OutcomeKind.APPROVAL_ANSWERED,
            message.message_id,
            question_id=question.question_id,
            question=question.question,
            answer=answer,
        )
        level = next(a.level for a in self._turns.requests() if a.profile_id == message.profile_id)
        told = self._asking(message.profile_id, Ask.ANSWER, level, question.question_id)
        self._go_on(self._add(told))
        return self._rest()

    # writing

    def _put(self, **fields: object) -> None:
        """Change what is said of the approval."""
        self._keep(replace(self._approval, **fields))

    def _keep(self, approval: Approval) -> None:
        """Go on with *approval*, and leave it at the step."""
        self._approval = approval
        self._journey.leave(self._step.step_id, **approval.left())

    def _tell(
        self, kind: OutcomeKind, message_id: str = "", reason: str = "", **properties: object
    ) -> None:
        self._journey.outcome(
            kind,
            step_id=self._step.step_id,
            message_id=message_id,
            reason=reason,
            properties={name: value for name, value in properties.items() if value != ""},
        )
