"""send: a message, on one channel or on those of a route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from upshotd.domain import messages
from upshotd.domain.caps import counted, reached
from upshotd.domain.errors import TemplateError
from upshotd.domain.message import (
    CHANNELS,
    OPEN,
    UNREACHABLE,
    Channel,
    Content,
    Message,
    MessageState,
)
from upshotd.domain.names import instant, microseconds
from upshotd.domain.rendering import rendered
from upshotd.domain.routing import Route, Routing, channels, take
from upshotd.domain.steps.move import NEXT, Hold, Into, Move
from upshotd.domain.window import next_inside

if TYPE_CHECKING:
    from upshotd.domain.caps import Cap
    from upshotd.domain.journey import Journey
    from upshotd.domain.profile import Profile
    from upshotd.domain.workflow import Step


class OnUnknown(IntEnum):
    """What to do where nobody tells whether the provider took it; the contract's numbers."""

    RESEND = 1
    GIVE_UP = 2


@dataclass(frozen=True, slots=True)
class Send:
    """Sends one message on each channel that its route takes."""

    routing: Routing
    #: One for each channel; their texts are templates, rendered at intent.
    contents: tuple[Content, ...]
    #: Microseconds after its time at which a message is of no use any more; None: never.
    max_lateness_us: int | None = None
    #: When no message of it reached a provider.
    on_failure: tuple[Step, ...] = ()
    #: None: by the purpose of the workflow.
    on_unknown: OnUnknown | None = None
    #: In place of the contents: the template that has them.
    template_id: str = ""


class Refusal(NamedTuple):
    """Why a message is not even tried."""

    state: MessageState
    reason: str
    detail: str = ""


def enter(step: Step, send: Send, journey: Journey) -> Move:
    """Make the messages and their intents; in quiet hours hold until their end."""
    expire_us = _expire_us(step, send, journey)
    until_us = _until_us(journey, expire_us)
    if until_us > journey.now_us:
        return _wait(journey, until_us)
    return _go_on(step, send, journey, expire_us)


def settled(journey: Journey) -> Move:
    """Go on from a send step one of whose messages was accepted or has failed."""
    step = journey.plan.steps[journey.step_id]
    assert isinstance(step.kind, Send)
    return _go_on(step, step.kind, journey, _expire_us(step, step.kind, journey))


def message_ids(left: Mapping[str, object]) -> tuple[str, ...]:
    """Return the messages of a send step by what it *left*, those made first in front."""
    several = left.get("message_ids")
    if isinstance(several, list):
        return tuple(map(str, several))
    one = left.get("message_id")
    return (one,) if isinstance(one, str) else ()


def made(journey: Journey, step_id: str) -> list[Message]:
    """Return the messages of a send step of this run."""
    left = journey.steps.get(step_id)
    if left is None:
        return []
    found = map(journey.draft.message, message_ids(left))
    return [message for message in found if message is not None]


def _go_on(step: Step, send: Send, journey: Journey, expire_us: int | None) -> Move:
    """Try what is left to try, and hold while a message of it is open."""
    # A channel stands in a route once: what is made on the way is of no other reach.
    before = made(journey, step.step_id)
    if before and isinstance(send.routing, Channel):
        return _after(before, step, send, journey)
    if not journey.draft.knows(journey.profile.contact):
        return Hold(journey.now_us)  # an address that came a moment ago: once more, with it loaded
    if isinstance(send.routing, Channel):
        message = _message(step, send, send.routing, journey, expire_us)
        if _try(message, send, journey, alone=True):
            return Hold(None)
        return _after(made(journey, step.step_id), step, send, journey)
    return _along(send.routing, before, step, send, journey, expire_us)


def _along(
    route: Route,
    before: list[Message],
    step: Step,
    send: Send,
    journey: Journey,
    expire_us: int | None,
) -> Move:
    """Take a route from what its messages *before* became."""
    # The first message is made when `enter` has looked at the clock; the next may come hours later.
    until_us = _until_us(journey, expire_us) if before else journey.now_us
    waits = False

    def reach(channel: Channel, alone: bool) -> bool:
        nonlocal waits
        if not alone and channel.name in _passed_over(journey, step.step_id):
            return False
        for message in before:
            if message.channel is channel:
                return not _spent(message)
        if until_us > journey.now_us:
            waits = True
            return True
        return _try(_message(step, send, channel, journey, expire_us), send, journey, alone=alone)

    take(route, reach)
    if waits:
        return _wait(journey, until_us)
    tried = made(journey, step.step_id)
    if not tried:  # it was to be the first that reaches the person, and none does
        reach(next(channels(route)), True)
    return _after(tried, step, send, journey)


def _after(tried: list[Message], step: Step, send: Send, journey: Journey) -> Move:
    """Return how it goes on when nothing is left to try: by what became of the messages."""
    states = {message.state for message in tried}
    if not states.isdisjoint(OPEN):
        return Hold(None)
    if MessageState.ACCEPTED in states:
        return NEXT
    journey.leave(step.step_id, undeliverable=True)
    return Into(send.on_failure)


def _passed_over(journey: Journey, step_id: str) -> list[str]:
    """Return the channels that could not reach the person when it was their turn."""
    left = journey.steps.get(step_id, {}).get("passed_over")
    return left if isinstance(left, list) else []


def _spent(message: Message) -> bool:
    """Return whether it is certain that *message* reached nobody: another channel may be tried."""
    return message.state in UNREACHABLE and not message.unsure


def _try(message: Message, send: Send, journey: Journey, *, alone: bool) -> bool:
    """Begin *message*, or say why it is not; where it is not alone it is just passed over."""
    caps = _caps(message, journey)
    refusal = _refusal(message, caps, journey)
    if refusal is not None and not alone:
        # For good: what becomes possible while another channel is being tried would come twice.
        passed_over = [*_passed_over(journey, message.step_id), message.channel.name]
        journey.leave(message.step_id, passed_over=passed_over)
        journey.note("passed_over", f"{message.channel.name.lower()}: {refusal.reason}")
        return False
    if refusal is None:
        try:
            content = rendered(_content(send, message.channel, journey), message, journey)
        except TemplateError as error:
            refusal = Refusal(MessageState.UNDELIVERABLE, "TEMPLATE_ERROR", str(error))
    if refusal is not None:
        _give_up(journey, message, refusal)
        return False
    if caps:
        journey.draft.put_profile(counted(caps, journey.profile, journey.now_us))
    message = messages.attempt(journey.draft, message, content=content)
    _remember(journey, message, sent=False)
    journey.note("sending", f"{message.channel.name.lower()} by {message.provider}")
    return True


def _content(send: Send, channel: Channel, journey: Journey) -> Content:
    """Return what is sent on *channel*, before it is rendered; raises TemplateError."""
    if send.template_id:
        locale = journey.profile.contact.get("locale", "")
        return journey.draft.definitions.library.content(send.template_id, channel, locale)
    return next(content for content in send.contents if CHANNELS[type(content)] is channel)


def _give_up(journey: Journey, message: Message, refusal: Refusal) -> None:
    """Record that the message will not reach the person."""
    state, reason, detail = refusal
    messages.finish(journey.draft, message, state, reason, detail)
    word = state.name.lower()
    _remember(journey, message, sent=False, **lost(word, reason))
    journey.note(word, f"{reason}: {detail}" if detail else reason)


def lost(word: str, reason: str) -> dict[str, object]:
    """Return what one lost message leaves; a step is `undeliverable` when all of it are lost."""
    return {"reason": reason} if word == "undeliverable" else {word: True, "reason": reason}


def _remember(journey: Journey, message: Message, **left: object) -> None:
    """Leave the message at its step, beside what the step *left* already."""
    before = journey.steps.get(message.step_id, {})
    known = message_ids(before)
    if not known:
        journey.leave(message.step_id, message_id=message.message_id, **left)
        return
    left["sent"] = bool(before.get("sent")) or bool(left["sent"])
    if before.get("undeliverable"):  # until this one was made
        left["undeliverable"] = False
    journey.leave(message.step_id, message_ids=[*known, message.message_id], **left)


def _expire_us(step: Step, send: Send, journey: Journey) -> int | None:
    """Return when the messages of the step are of no use any more; None: never."""
    if send.max_lateness_us is None:
        return None
    # Its time is when the run was due to come here, however late it came, and whatever holds it.
    planned_us = journey.steps.get(step.step_id, {}).get("planned_us")
    if not isinstance(planned_us, int):
        planned_us = journey.planned_us
        journey.leave(step.step_id, planned_us=planned_us)
    return planned_us + send.max_lateness_us


def _until_us(journey: Journey, expire_us: int | None) -> int:
    """Return when a message may be begun; one that is of no use by then is given up on at once."""
    until_us = _opens_us(journey)
    return until_us if expire_us is None else min(until_us, expire_us + 1)


def _wait(journey: Journey, until_us: int) -> Move:
    journey.note("quiet", f"until {instant(until_us).isoformat()}")
    return Hold(until_us)


def _opens_us(journey: Journey) -> int:
    """Return when a message of this run may go out; in quiet hours that is their end."""
    definitions = journey.draft.definitions
    by_purpose = definitions.policy.hours
    hours = by_purpose.get(journey.plan.workflow.purpose) if by_purpose else None
    if hours is None:
        return journey.now_us
    zone = definitions.zone(journey.profile)
    return microseconds(next_inside(hours, zone, instant(journey.now_us)))


def _caps(message: Message, journey: Journey) -> list[Cap]:
    """Return the caps that *message* counts against."""
    caps = journey.draft.definitions.policy.caps
    if not caps:
        return []
    workflow = journey.plan.workflow
    about = (message.channel, workflow.topic, workflow.purpose)
    return [cap for cap in caps if cap.covers(*about)]


def _message(
    step: Step, send: Send, channel: Channel, journey: Journey, expire_us: int | None
) -> Message:
    run = journey.run
    carriers = journey.draft.definitions.carriers.get(channel, ())
    return Message(
        message_id=journey.draft.ids.next(),
        run_id=run.run_id,
        step_id=step.step_id,
        profile_id=run.profile_id,
        workflow_id=run.workflow_id,
        workflow_version=run.workflow_version,
        channel=channel,
        state=MessageState.SENDING,
        provider=carriers[0].provider if carriers else "",
        recipient=address(journey.profile, channel),
        create_us=journey.now_us,
        expire_us=expire_us,
        template_id=send.template_id,
    )


def _refusal(message: Message, caps: list[Cap], journey: Journey) -> Refusal | None:
    if not message.recipient:
        return Refusal(MessageState.UNROUTABLE, "NO_ADDRESS")
    if not message.provider:
        return Refusal(MessageState.UNROUTABLE, "NO_PROVIDER")
    if message.expire_us is not None and journey.now_us > message.expire_us:
        at = instant(message.expire_us).isoformat()
        return Refusal(MessageState.UNDELIVERABLE, "EXPIRED", f"of no use since {at}")
    topic = journey.plan.workflow.topic
    held = messages.holding(journey.draft, message.profile_id, message, topic)
    if held is not None:
        return Refusal(MessageState.SUPPRESSED, held.reason)
    cap = reached(caps, journey.profile, journey.now_us) if caps else None
    return Refusal(MessageState.SUPPRESSED, "CAPPED", cap.name) if cap is not None else None


def address(profile: Profile, channel: Channel) -> str:
    """Return where *channel* reaches the person; empty when it does not."""
    match channel:
        case Channel.EMAIL:
            return profile.contact.get("email", "")
        case Channel.SMS:
            return profile.contact.get("phone_number", "")
        case Channel.PUSH:
            return profile.contact.get("push_tokens", "")
        case Channel.CHAT:
            return profile.contact.get("chat", "")
        case Channel.WEBHOOK | Channel.INBOX:
            return profile.user_id or next(iter(profile.anonymous_ids), "")
        case Channel.UNSPECIFIED:
            return ""
