"""One sending to one person: over which channels it goes, and what is in the way of a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from upshotd.domain import messages
from upshotd.domain.caps import counted, reached
from upshotd.domain.errors import TemplateError
from upshotd.domain.message import (
    CHANNELS,
    OPEN,
    UNREACHABLE,
    Ask,
    Channel,
    Content,
    Message,
    MessageState,
)
from upshotd.domain.names import instant, microseconds
from upshotd.domain.rendering import rendered
from upshotd.domain.routing import Route, channels, take
from upshotd.domain.steps.move import NEXT, Hold, Into, Move
from upshotd.domain.window import next_inside

if TYPE_CHECKING:
    from upshotd.domain.caps import Cap
    from upshotd.domain.journey import Journey
    from upshotd.domain.profile import Profile
    from upshotd.domain.steps.send import Send


class Refusal(NamedTuple):
    """Why a message is not even tried."""

    state: MessageState
    reason: str
    detail: str = ""


class Addressee:
    """Whom a step sends to, and what the step keeps of it: here the person of the run."""

    __slots__ = ("journey", "step_id")

    def __init__(self, journey: Journey, step_id: str) -> None:
        self.journey = journey
        self.step_id = step_id

    @property
    def ask(self) -> Ask | None:
        """What its messages are of an approve step; None: they are of a send step."""
        return None

    @property
    def profile(self) -> Profile:
        """The person, as they are now."""
        return self.journey.profile

    def names(self) -> Mapping[str, object]:
        """Return what the texts may name."""
        return self.journey.names()

    def note(self, what: str, detail: str) -> None:
        """Note in the timeline what becomes of it."""
        self.journey.note(what, detail)

    def made(self) -> list[Message]:
        """Return the messages of this sending, those made first in front."""
        return made(self.journey, self.step_id)

    def passed_over(self) -> list[str]:
        """Return the channels that could not reach the person when it was their turn."""
        left = self.journey.steps.get(self.step_id, {}).get("passed_over")
        return left if isinstance(left, list) else []

    def pass_over(self, channel: Channel) -> None:
        """Do not come back to *channel*: what becomes possible later would come twice."""
        self.journey.leave(self.step_id, passed_over=[*self.passed_over(), channel.name])

    def remember(self, message: Message, **left: object) -> None:
        """Leave *message* at its step, beside what the step left already."""
        before = self.journey.steps.get(self.step_id, {})
        known = message_ids(before)
        if not known:
            self.journey.leave(self.step_id, message_id=message.message_id, **left)
            return
        left["sent"] = bool(before.get("sent")) or bool(left["sent"])
        if before.get("undeliverable"):  # until this one was made
            left["undeliverable"] = False
        self.journey.leave(self.step_id, message_ids=[*known, message.message_id], **left)


def message_ids(left: Mapping[str, object]) -> tuple[str, ...]:
    """Return the messages of a step by what it *left*, those made first in front."""
    several = left.get("message_ids")
    if isinstance(several, list):
        return tuple(map(str, several))
    one = left.get("message_id")
    return (one,) if isinstance(one, str) else ()


def made(journey: Journey, step_id: str) -> list[Message]:
    """Return the messages of a step of this run."""
    left = journey.steps.get(step_id)
    if left is None:
        return []
    return journey.draft.messages(message_ids(left))


def lost(word: str, reason: str) -> dict[str, object]:
    """Return what one lost message leaves; a step is `undeliverable` when all of it are lost."""
    return {"reason": reason} if word == "undeliverable" else {word: True, "reason": reason}


def go_on(to: Addressee, send: Send, expire_us: int | None) -> Move:
    """Try what is left to try, and hold while a message of it is open.

    `Next` where a provider has taken one, `Into` the steps of its failure where none will.
    """
    # A channel stands in a route once: what is made on the way is of no other reach.
    before, journey = to.made(), to.journey
    if before and isinstance(send.routing, Channel):
        return _after(before, to, send)
    if not journey.draft.knows(to.profile.contact):
        return Hold(journey.now_us)  # an address that came a moment ago: once more, with it loaded
    if isinstance(send.routing, Channel):
        message = _message(to, send, send.routing, expire_us)
        if _try(message, to, send, alone=True):
            return Hold(None)
        return _after(to.made(), to, send)
    return _along(send.routing, before, to, send, expire_us)


def until_us(to: Addressee, expire_us: int | None) -> int:
    """Return when a message may be begun; one that is of no use by then is given up on at once."""
    opens_us = _opens_us(to)
    return opens_us if expire_us is None else min(opens_us, expire_us + 1)


def put_off(to: Addressee, opens_us: int) -> Move:
    """Hold until the quiet hours are over."""
    to.note("quiet", f"until {instant(opens_us).isoformat()}")
    return Hold(opens_us)


def _along(
    route: Route, before: list[Message], to: Addressee, send: Send, expire_us: int | None
) -> Move:
    """Take a route from what its messages *before* became."""
    journey = to.journey
    # The first message is made when its step has looked at the clock; the next comes hours later.
    opens_us = until_us(to, expire_us) if before else journey.now_us
    waits = False

    def reach(channel: Channel, alone: bool) -> bool:
        nonlocal waits
        if not alone and channel.name in to.passed_over():
            return False
        for message in before:
            if message.channel is channel:
                return not _spent(message)
        if opens_us > journey.now_us:
            waits = True
            return True
        return _try(_message(to, send, channel, expire_us), to, send, alone=alone)

    take(route, reach)
    if waits:
        return put_off(to, opens_us)
    tried = to.made()
    if not tried:  # it was to be the first that reaches the person, and none does
        reach(next(channels(route)), True)
    return _after(tried, to, send)


def _after(tried: list[Message], to: Addressee, send: Send) -> Move:
    """Return how it goes on when nothing is left to try: by what became of the messages."""
    states = {message.state for message in tried}
    if not states.isdisjoint(OPEN):
        return Hold(None)
    return NEXT if MessageState.ACCEPTED in states else Into(send.on_failure)


def _spent(message: Message) -> bool:
    """Return whether it is certain that *message* reached nobody: another channel may be tried."""
    return message.state in UNREACHABLE and not message.unsure


def _try(message: Message, to: Addressee, send: Send, *, alone: bool) -> bool:
    """Begin *message*, or say why it is not; where it is not alone it is just passed over."""
    journey = to.journey
    caps = _caps(message, journey)
    refusal = _refusal(message, caps, to)
    if refusal is not None and not alone:
        to.pass_over(message.channel)
        to.note("passed_over", f"{message.channel.name.lower()}: {refusal.reason}")
        return False
    if refusal is None:
        try:
            content = rendered(_content(send, message.channel, to), message, journey, to.names())
        except TemplateError as error:
            refusal = Refusal(MessageState.UNDELIVERABLE, "TEMPLATE_ERROR", str(error))
    if refusal is not None:
        _give_up(to, message, refusal)
        return False
    if caps:
        journey.draft.put_profile(counted(caps, to.profile, journey.now_us))
    message = messages.attempt(journey.draft, message, content=content)
    to.remember(message, sent=False)
    to.note("sending", f"{message.channel.name.lower()} by {message.provider}")
    return True


def _content(send: Send, channel: Channel, to: Addressee) -> Content:
    """Return what is sent on *channel*, before it is rendered; raises TemplateError."""
    if send.template_id:
        locale = to.profile.contact.get("locale", "")
        return to.journey.draft.definitions.library.content(send.template_id, channel, locale)
    return next(content for content in send.contents if CHANNELS[type(content)] is channel)


def _give_up(to: Addressee, message: Message, refusal: Refusal) -> None:
    """Record that the message will not reach the person."""
    state, reason, detail = refusal
    messages.finish(to.journey.draft, message, state, reason, detail)
    word = state.name.lower()
    to.remember(message, sent=False, **lost(word, reason))
    to.note(word, f"{reason}: {detail}" if detail else reason)


def _opens_us(to: Addressee) -> int:
    """Return when a message of this run may go out; in quiet hours that is their end."""
    journey = to.journey
    definitions = journey.draft.definitions
    by_purpose = definitions.policy.hours
    hours = by_purpose.get(journey.plan.workflow.purpose) if by_purpose else None
    if hours is None:
        return journey.now_us
    zone = definitions.zone(to.profile)
    return microseconds(next_inside(hours, zone, instant(journey.now_us)))


def _caps(message: Message, journey: Journey) -> list[Cap]:
    """Return the caps that *message* counts against."""
    caps = journey.draft.definitions.policy.caps
    if not caps:
        return []
    workflow = journey.plan.workflow
    about = (message.channel, workflow.topic, workflow.purpose)
    return [cap for cap in caps if cap.covers(*about)]


def _message(to: Addressee, send: Send, channel: Channel, expire_us: int | None) -> Message:
    journey, profile = to.journey, to.profile
    run = journey.run
    carriers = journey.draft.definitions.carriers.get(channel, ())
    return Message(
        message_id=journey.draft.ids.next(),
        run_id=run.run_id,
        step_id=to.step_id,
        profile_id=profile.profile_id,
        workflow_id=run.workflow_id,
        workflow_version=run.workflow_version,
        channel=channel,
        state=MessageState.SENDING,
        provider=carriers[0].provider if carriers else "",
        recipient=address(profile, channel),
        create_us=journey.now_us,
        expire_us=expire_us,
        template_id=send.template_id,
        ask=to.ask,
    )


def _refusal(message: Message, caps: list[Cap], to: Addressee) -> Refusal | None:
    journey = to.journey
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
    cap = reached(caps, to.profile, journey.now_us) if caps else None
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
            return profile.user_id or profile.anonymous_id
        case Channel.UNSPECIFIED:
            return ""
