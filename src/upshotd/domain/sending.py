"""What follows from a provider's answer, or from none."""

from typing import assert_never

from upshotd.domain import choices, devices, messages, outgoing
from upshotd.domain.draft import Draft
from upshotd.domain.engagement import accepted, apply_pending, holder, leave, lose_devices
from upshotd.domain.erasure import ERASED
from upshotd.domain.message import (
    OPEN,
    Accepted,
    Ask,
    Channel,
    Deferred,
    Message,
    MessageState,
    Purpose,
    Refused,
    Unknown,
)
from upshotd.domain.retry import next_attempt_us
from upshotd.domain.run import Run
from upshotd.domain.steps.kinds import sent_by, settled
from upshotd.domain.steps.send import OnUnknown
from upshotd.domain.stimulus import SendSettled
from upshotd.domain.values import replace


def settle(draft: Draft, answer: SendSettled) -> None:
    """Record the answer to an attempt, and let the run go on.

    An answer that comes after its lease still counts, until another attempt begins.
    """
    message = draft.message(answer.message_id)
    if message is None or message.reason == ERASED:
        return
    if answer.result.gone:  # so it is, whichever attempt found it out
        lose_devices(draft, message, answer.result.gone)
    if message.attempt != answer.attempt:
        return
    if message.state is MessageState.ACCEPTED:
        _name(draft, message, answer)
    elif message.state in OPEN:
        _answered(draft, message, answer)


def _answered(draft: Draft, message: Message, answer: SendSettled) -> None:
    match answer.result:
        case Accepted(provider_message_id=provider_message_id, detail=detail):
            accepted(draft, message, provider_message_id, detail)
        case Refused(reason=reason, detail=detail):
            choices.refused(draft, message, reason)
            failed(draft, message, reason, detail)
        case Deferred():
            if message.state is not MessageState.RETRYING:
                _again(draft, message, answer.result)
        case Unknown(detail=detail):
            if message.state is MessageState.SENDING:
                unknown(draft, message, detail, idempotent=answer.idempotent)
        case _:
            assert_never(answer.result)


def due(draft: Draft, message: Message) -> None:
    """Do what a message is due for: its next attempt, the end of a lease or of a wait."""
    if message.state not in OPEN or message.due_us is None or message.due_us > draft.now_us:
        return
    match message.state:
        case MessageState.RETRYING:
            _attempt(draft, message)
        case MessageState.SENDING:
            _left_behind(draft, message)
        case MessageState.UNKNOWN:
            _resend_or_give_up(draft, message)


def _left_behind(draft: Draft, message: Message) -> None:
    """Go on with a message whose sender died: nobody will answer.

    An idempotent provider is asked again at once. It has refused nothing, and the lease was pause
    enough; a crash must not count as a failure of the provider.
    """
    idempotent = draft.definitions.idempotent(message.provider)
    if idempotent and _in_time(draft, message):
        _note(draft, message, "retrying", "no answer within the lease")
        _attempt(draft, replace(message, unsure=True))
    else:
        unknown(draft, message, "no answer within the lease", idempotent=idempotent)


def failed(draft: Draft, message: Message, reason: str, detail: str) -> None:
    """Record that the message will never reach the person, and let the run go on."""
    messages.finish(draft, message, MessageState.UNDELIVERABLE, reason, detail)
    _go_on(draft, message, "undeliverable", f"{reason}: {detail}" if detail else reason)


def unknown(draft: Draft, message: Message, detail: str, *, idempotent: bool) -> None:
    """Record an attempt without an answer; only an idempotent provider is simply asked again."""
    if idempotent:
        _again(draft, replace(message, unsure=True), Deferred(detail))
        return
    until_us = draft.now_us + draft.definitions.policy.reconcile_us
    message = replace(
        message,
        state=MessageState.UNKNOWN,
        due_us=until_us,
        owner="",
        detail=detail[:500],
        unsure=True,
    )
    draft.put_message(message)
    _note(draft, message, "unknown", detail)


def _name(draft: Draft, message: Message, answer: SendSettled) -> None:
    """Take the provider's id of a message that a callback accepted before the answer came."""
    result = answer.result
    named = isinstance(result, Accepted) and result.provider_message_id
    if not named or message.provider_message_id:
        return
    message = replace(message, provider_message_id=named)
    draft.put_message(message)
    apply_pending(draft, message)


def _again(draft: Draft, message: Message, result: Deferred) -> None:
    """Ask the next provider of the channel at once; after the last one the first, after a pause."""
    names = _names(draft, message)
    at = names.index(message.provider) if message.provider in names else -1
    if _spared(result):
        message = replace(message, spared=message.spared + 1)
    if not (message.unsure or result.put_off) and 0 <= at < len(names) - 1:
        _note(draft, message, "failed_over", f"{message.provider}: {result.detail}")
        detail = result.detail[:500]
        _attempt(draft, replace(message, detail=detail, provider=names[at + 1]))
        return
    if not message.unsure and names:
        message = replace(message, provider=names[0])
    _later(draft, message, result, len(names))


def _later(draft: Draft, message: Message, result: Deferred, providers: int) -> None:
    """Ask again after a pause that grows with the rounds that counted, if there is time for it."""
    policy, told = draft.definitions.policy, message.detail
    rounds = -(-(message.attempt - message.spared) // max(1, providers))
    due_us = next_attempt_us(
        draft.now_us, rounds, result.retry_after_us, policy, draft.ids.fraction()
    )
    message = replace(message, detail=result.detail[:500])
    if _expired(message, due_us):
        failed(draft, message, "EXPIRED", result.detail or "no attempt succeeded in time")
        return
    if due_us > message.create_us + policy.attempts_window_us:
        failed(draft, message, "PROVIDER_ERROR", result.detail or "no attempt succeeded in time")
        return
    message = replace(message, state=MessageState.RETRYING, due_us=due_us, owner="")
    draft.put_message(message)
    if not _spared(result) or message.detail != told:  # what lasts for hours is told once
        _note(draft, message, "retrying", result.detail)


def _spared(result: Deferred) -> bool:
    """Return whether an attempt counts for nothing: it was not made, or time was asked for."""
    return result.put_off or result.retry_after_us > 0


def _names(draft: Draft, message: Message) -> list[str]:
    """Return the providers of the channel, first choice first."""
    carriers = draft.definitions.carriers.get(message.channel, ())
    return [carrier.provider for carrier in carriers]


def _attempt(draft: Draft, message: Message, *, possible_duplicate: bool = False) -> None:
    """Begin another attempt, unless the run has ended, the person wants no more or it is late."""
    run = draft.run(message.run_id)
    over = _over(run, message)
    if run is None or over:
        messages.suppress(draft, message, over)
        return
    if _expired(message, draft.now_us):
        failed(draft, message, "EXPIRED", message.detail)
        return
    topic = draft.plan(run).workflow.topic
    held = messages.holding(draft, messages.whose(draft, message), message, topic)
    if held is not None:
        messages.suppress(draft, message, held.reason)
        _go_on(draft, message, "suppressed", held.reason)
        return
    if message.channel is Channel.PUSH:
        left = devices.left(draft, message)
        if not left:
            failed(draft, message, "DEVICE_GONE", "none of its devices is left")
            return
        message = replace(message, recipient=left)
    messages.attempt(draft, message, possible_duplicate=possible_duplicate)


def _over(run: Run | None, message: Message) -> str:
    """Return why another attempt is of no use: an upper-case word, empty where it is of use."""
    if message.ask is Ask.NOTICE and run is not None:  # its run goes on, or ends, without it
        return ""
    if run is None or not run.active:
        return "RUN_ENDED"
    return "DECIDED" if message.ask is not None and run.step_id != message.step_id else ""


def _resend_or_give_up(draft: Draft, message: Message) -> None:
    """Nobody told what became of it: ask again where that is worth a duplicate, else give up."""
    if _resends(draft, message) and _in_time(draft, message):
        _attempt(draft, message, possible_duplicate=True)
        return
    failed(draft, message, "UNKNOWN", message.detail or "the provider never answered")


def _resends(draft: Draft, message: Message) -> bool:
    """Return whether a possible duplicate is better than none: by the step, else the purpose."""
    plan = draft.definitions.plans[message.workflow_id, message.workflow_version]
    sent = sent_by(plan.steps[message.step_id], message)
    if sent is not None and sent.on_unknown is not None:
        return sent.on_unknown is OnUnknown.RESEND
    return plan.workflow.purpose is Purpose.TRANSACTIONAL


def _expired(message: Message, at_us: int) -> bool:
    """Return whether the message is of no use any more at that time."""
    return message.expire_us is not None and at_us > message.expire_us


def _in_time(draft: Draft, message: Message) -> bool:
    """Return whether another attempt may still begin."""
    return draft.now_us <= message.create_us + draft.definitions.policy.attempts_window_us


def _note(draft: Draft, message: Message, what: str, detail: str) -> None:
    journey = holder(draft, message)
    if journey is not None:
        journey.note(what, messages.named(draft, message, detail))
        journey.save()


def _go_on(draft: Draft, message: Message, what: str, detail: str) -> None:
    journey = holder(draft, message)
    if journey is not None:
        finished = draft.message(message.message_id)
        reason = finished.reason if finished is not None else ""
        leave(journey, message, **outgoing.lost(what, reason))
        journey.note(what, messages.named(draft, message, detail))
        journey.follow(settled(journey.plan.steps[journey.step_id], journey, message))
