"""What follows from a fact that came about a message: acceptance, delivery, engagement."""

from collections.abc import Collection, Mapping

from upshotd.domain import approval, choices, devices, goals, messages, outgoing
from upshotd.domain.consent import Keyword
from upshotd.domain.draft import Draft
from upshotd.domain.erasure import ERASED
from upshotd.domain.journey import Journey, resume
from upshotd.domain.message import OPEN, UNREACHABLE, Channel, Message, MessageState
from upshotd.domain.outcome import ABOUT_APPROVALS, Engagement, EngagementKind, OutcomeKind
from upshotd.domain.run import Run
from upshotd.domain.steps import kinds, wait
from upshotd.domain.steps.move import Hold
from upshotd.domain.stimulus import EngagementResult, EngagementState
from upshotd.domain.values import replace

#: The outcome each kind leaves; DEFERRED and RESUBSCRIBED leave a fact only.
OUTCOMES = {
    EngagementKind.DELIVERED: OutcomeKind.MESSAGE_DELIVERED,
    EngagementKind.BOUNCED: OutcomeKind.MESSAGE_UNDELIVERABLE,
    EngagementKind.UNDELIVERED: OutcomeKind.MESSAGE_UNDELIVERABLE,
    EngagementKind.OPENED: OutcomeKind.MESSAGE_OPENED,
    EngagementKind.CLICKED: OutcomeKind.MESSAGE_CLICKED,
    EngagementKind.REPLIED: OutcomeKind.MESSAGE_REPLIED,
    EngagementKind.UNSUBSCRIBED: OutcomeKind.MESSAGE_UNSUBSCRIBED,
    EngagementKind.COMPLAINED: OutcomeKind.MESSAGE_COMPLAINED,
}
FAILURES = frozenset({EngagementKind.BOUNCED, EngagementKind.UNDELIVERED})
#: Said to whoever sends, not in answer to what was sent: no wait for REPLIED is met, and no goal.
_NO_ANSWERS = frozenset({Keyword.STOP, Keyword.HELP})


def engage(draft: Draft, engagement: Engagement) -> EngagementResult:
    """Record one fact; the runs that waited for it go on."""
    if engagement.engagement_id in draft.state.engagement_ids:
        return EngagementResult(EngagementState.DUPLICATE, message_id=engagement.message_id)
    if engagement.recipient:
        return _answered(draft, engagement)
    key = (engagement.provider, engagement.provider_message_id)
    message_id = engagement.message_id or draft.state.provider_messages.get(key, "")
    taken = engagement.kind is EngagementKind.ACCEPTED
    if not message_id and taken:  # the answer that brings its id will say the same
        return EngagementResult(EngagementState.RECORDED)
    if not message_id:
        draft.changes.pending[engagement.engagement_id] = engagement
        return EngagementResult(EngagementState.PENDING, "UNKNOWN_PROVIDER_MESSAGE")
    message = draft.message(message_id)
    if message is None:
        return EngagementResult(EngagementState.REJECTED, "UNKNOWN_MESSAGE", message_id)
    if message.reason == ERASED:
        return EngagementResult(EngagementState.REJECTED, ERASED)
    refused = _refusal(draft, message, engagement)
    if refused:
        return EngagementResult(EngagementState.REJECTED, refused, message_id)
    _look_for_devices(draft, message, engagement)  # before a run goes on, to another push perhaps
    if message.state in OPEN or _arrived(message, engagement):
        message = accepted(draft, message)
    if taken:
        return EngagementResult(EngagementState.RECORDED, "", message_id)
    resumed = _record(draft, message, engagement)
    return EngagementResult(EngagementState.RECORDED, "", message_id, resumed)


def _answered(draft: Draft, engagement: Engagement) -> EngagementResult:
    """Record an answer that names no message but the address it came from.

    It is about the newest message that a provider has taken for the address: that one needs no
    acceptance. Where there is none, what the person wants of us counts all the same.
    """
    message = draft.message(draft.state.by_recipient.get(engagement.recipient, ""))
    if message is not None and message.reason != ERASED:
        resumed = _record(draft, message, engagement)
        return EngagementResult(EngagementState.RECORDED, "", message.message_id, resumed)
    if not choices.told(draft, engagement):
        return EngagementResult(EngagementState.REJECTED, "UNKNOWN_MESSAGE")
    draft.changes.engagements[engagement.engagement_id] = (engagement, "")
    return EngagementResult(EngagementState.RECORDED)


def _arrived(message: Message, engagement: Engagement) -> bool:
    """Return whether *engagement* shows that a message we had given up was sent after all."""
    if message.state is MessageState.ACCEPTED or engagement.kind in FAILURES:
        return False
    return "sent" not in message.facts


def accepted(
    draft: Draft, message: Message, provider_message_id: str = "", detail: str = ""
) -> Message:
    """Record acceptance, apply what came before it, and let the run go on."""
    message = messages.accept(draft, message, provider_message_id)
    journey = holder(draft, message)
    if journey is not None:
        leave(journey, message, sent=True)
        taken = f"{message.provider}: {detail}" if detail else message.provider
        journey.note("sent", messages.named(draft, message, taken))
    if (message.provider, message.provider_message_id) in draft.state.pending:
        if journey is not None:
            journey.save()
        apply_pending(draft, message)
        journey = holder(draft, message)
    if journey is not None:
        journey.follow(kinds.settled(journey.plan.steps[journey.step_id], journey, message))
    return draft.message(message.message_id) or message


def apply_pending(draft: Draft, message: Message) -> None:
    """Record what the provider told before we knew its id of *message*."""
    key = (message.provider, message.provider_message_id)
    waiting = draft.state.pending.get(key, ())
    if waiting:
        draft.changes.applied_pending.append(key)
    for engagement in waiting:
        if _refusal(draft, draft.message(message.message_id) or message, engagement):
            continue
        _look_for_devices(draft, message, engagement)
        _record(draft, draft.message(message.message_id) or message, engagement)


def _refusal(draft: Draft, message: Message, engagement: Engagement) -> str:
    """Return why *engagement* cannot be taken; empty where it can."""
    if not message.attempt:  # it was never given to a provider
        return "MESSAGE_NOT_SENT"
    if engagement.kind not in ABOUT_APPROVALS:
        return ""
    return approval.refusal(draft.run(message.run_id), message, engagement)


def leave(journey: Journey, message: Message, **left: object) -> None:
    """Leave at the send step of *message* what became of it; of its own an approve step says that
    itself."""
    if message.ask is None:
        journey.leave(message.step_id, **left)


def holder(draft: Draft, message: Message) -> Journey | None:
    """Return the journey that stands at the message's own step, or None."""
    run = draft.run(message.run_id)
    if run is None or run.step_id != message.step_id:
        return None
    return resume(draft, run.run_id)


def lose_devices(draft: Draft, message: Message, gone: Collection[str]) -> None:
    """Take devices that are *gone* off the person, and tell the run that was sending to them."""
    count = devices.forget(draft, message, gone)
    journey = holder(draft, message) if count else None
    if journey is not None:
        gone_of = f"{count} of {len(message.recipient.split())}"
        journey.note("device_gone", messages.named(draft, message, gone_of))
        journey.save()


def _look_for_devices(draft: Draft, message: Message, engagement: Engagement) -> None:
    if message.channel is Channel.PUSH:
        lose_devices(draft, message, devices.named(message, engagement.data))


def _record(draft: Draft, message: Message, engagement: Engagement) -> tuple[str, ...]:
    """Add the fact and its outcome; return the runs that went on."""
    draft.changes.engagements[engagement.engagement_id] = (engagement, message.message_id)
    word = wait.fact(engagement.kind, machine=engagement.machine)
    first = word not in message.facts
    if first:
        message = replace(message, facts={**message.facts, word: engagement.occur_us})
    message = _with_failure(message, engagement)
    draft.put_message(message)
    kind = OUTCOMES.get(engagement.kind)
    if kind is not None:
        messages.append(
            draft,
            message,
            kind,
            occur_us=engagement.occur_us,
            reason=engagement.kind.name if engagement.kind in FAILURES else "",
            link_url=engagement.link_url,
            machine=engagement.machine,
            properties=_properties(message, engagement),
        )
    run = draft.run(message.run_id)
    if run is None:
        return ()
    answers = choices.asked_for(message.channel, engagement) not in _NO_ANSWERS
    # What asks for a decision is no message of the person's own, also where they decide themselves.
    if answers and message.ask is None and draft.profile(run.profile_id).trials:
        goals.engaged(draft, run.profile_id, message, engagement)
        run = draft.run(message.run_id) or run
    choices.engaged(draft, message, run, engagement)
    return _tell(draft, message, run, engagement, word if answers else "")


def _left(journey: Journey, message: Message, word: str) -> dict[str, object]:
    """Return what a send step leaves now of its *message*; nothing of its own for no *word*."""
    left: dict[str, object] = {word: True} if word else {}
    if message.state is MessageState.ACCEPTED:
        left |= _corrected(journey.steps.get(message.step_id, {}))
    if message.state is MessageState.UNDELIVERABLE:
        left |= {"reason": message.reason}
        if all(m.state in UNREACHABLE for m in outgoing.made(journey, message.step_id)):
            left |= {"undeliverable": True}
    return left


def _corrected(left: Mapping[str, object]) -> dict[str, object]:
    """Return what a send step left wrongly, when its message was given up and came all the same."""
    return {"sent": True, "undeliverable": False} if left.get("undeliverable") else {}


def _properties(message: Message, engagement: Engagement) -> dict[str, object]:
    found = dict(engagement.data)
    if engagement.reason:
        found["detail"] = engagement.reason
    asked = choices.asked_for(message.channel, engagement)
    if asked is not None:
        found["keyword"] = str(asked)
    return found


def _with_failure(message: Message, engagement: Engagement) -> Message:
    """A failure makes the message unreachable, unless a person has engaged with it already."""
    if engagement.kind not in FAILURES or message.state is not MessageState.ACCEPTED:
        return message
    if wait.touched(message):
        return message
    return replace(
        message,
        state=MessageState.UNDELIVERABLE,
        reason=engagement.kind.name,
        detail=engagement.reason[:500],
    )


def _tell(
    draft: Draft, message: Message, run: Run, engagement: Engagement, word: str
) -> tuple[str, ...]:
    """Let the run know, and go on where it waited for this; an empty *word* meets no wait."""
    journey = resume(draft, run.run_id)
    if journey is None:
        return ()
    leave(journey, message, **_left(journey, message, word))
    step = journey.plan.steps[run.step_id]
    move = kinds.engaged(step, journey, message, engagement, answers=bool(word))
    if move is None:
        journey.save()
        return ()
    journey.follow(move)
    return () if isinstance(move, Hold) else (run.run_id,)
