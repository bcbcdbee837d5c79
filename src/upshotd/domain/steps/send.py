"""send: one message on one channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from upshotd.domain import messages
from upshotd.domain.caps import counted, reached
from upshotd.domain.errors import TemplateError
from upshotd.domain.message import Channel, Content, Email, Message, MessageState, Sms, Webhook
from upshotd.domain.names import instant, microseconds
from upshotd.domain.steps.move import NEXT, Hold, Move
from upshotd.domain.window import next_inside

if TYPE_CHECKING:
    from upshotd.domain.caps import Cap
    from upshotd.domain.journey import Journey
    from upshotd.domain.profile import Profile
    from upshotd.domain.workflow import Step


@dataclass(frozen=True, slots=True)
class Send:
    """Sends one message; the texts of `content` are templates here, rendered at intent."""

    channel: Channel
    content: Content


def enter(step: Step, send: Send, journey: Journey) -> Move:
    """Make the message and its intent; the run holds until the provider took it or it failed."""
    opens_us = _opens_us(journey)
    if opens_us > journey.now_us:
        journey.note("quiet", f"until {instant(opens_us).isoformat()}")
        return Hold(opens_us)
    message = _message(step, send, journey)
    refused = _refusal(message, journey)
    if refused is not None:
        return give_up(journey, message, *refused)
    caps = _caps(message, journey)
    cap = reached(caps, journey.profile, journey.now_us)
    if cap is not None:
        return give_up(journey, message, MessageState.SUPPRESSED, "CAPPED", cap.name)
    try:
        content = _rendered(send.content, message, journey)
    except TemplateError as error:
        return give_up(journey, message, MessageState.UNDELIVERABLE, "TEMPLATE_ERROR", str(error))
    if caps:
        journey.draft.put_profile(counted(caps, journey.profile, journey.now_us))
    message = messages.attempt(journey.draft, message, content=content)
    journey.leave(step.step_id, message_id=message.message_id, sent=False)
    journey.note("sending", f"{send.channel.name.lower()} by {message.provider}")
    return Hold(None)


def _opens_us(journey: Journey) -> int:
    """Return when a message of this run may go out; in quiet hours that is their end."""
    definitions = journey.draft.definitions
    hours = definitions.policy.hours.get(journey.plan.workflow.purpose)
    if hours is None:
        return journey.now_us
    zone = definitions.zone(journey.profile)
    return microseconds(next_inside(hours, zone, instant(journey.now_us)))


def _caps(message: Message, journey: Journey) -> list[Cap]:
    """Return the caps that *message* counts against."""
    workflow, caps = journey.plan.workflow, journey.draft.definitions.policy.caps
    about = (message.channel, workflow.topic, workflow.purpose)
    return [cap for cap in caps if cap.covers(*about)]


def give_up(
    journey: Journey, message: Message, state: MessageState, reason: str, detail: str = ""
) -> Move:
    """Record that the message will not reach the person, and go on."""
    messages.finish(journey.draft, message, state, reason, detail)
    word = state.name.lower()
    left = {word: True, "undeliverable": True, "reason": reason}
    journey.leave(message.step_id, message_id=message.message_id, sent=False, **left)
    journey.note(word, f"{reason}: {detail}" if detail else reason)
    return NEXT


def address(profile: Profile, channel: Channel) -> str:
    """Return where *channel* reaches the person; empty when it does not."""
    match channel:
        case Channel.EMAIL:
            return profile.contact.get("email", "")
        case Channel.SMS:
            return profile.contact.get("phone_number", "")
        case Channel.WEBHOOK:
            return profile.user_id or next(iter(profile.anonymous_ids), "")
        case Channel.UNSPECIFIED:
            return ""
        case _:
            assert_never(channel)


def _message(step: Step, send: Send, journey: Journey) -> Message:
    run, definitions = journey.run, journey.draft.definitions
    route = definitions.routes.get(send.channel)
    return Message(
        message_id=journey.draft.ids.next(),
        run_id=run.run_id,
        step_id=step.step_id,
        profile_id=run.profile_id,
        workflow_id=run.workflow_id,
        workflow_version=run.workflow_version,
        channel=send.channel,
        state=MessageState.SENDING,
        provider=route.provider if route is not None else "",
        recipient=address(journey.profile, send.channel),
        create_us=journey.now_us,
    )


def _refusal(message: Message, journey: Journey) -> tuple[MessageState, str] | None:
    if not message.recipient:
        return MessageState.UNROUTABLE, "NO_ADDRESS"
    if not message.provider:
        return MessageState.UNROUTABLE, "NO_PROVIDER"
    topic = journey.plan.workflow.topic
    held = messages.holding(journey.draft, message.profile_id, message.channel, topic)
    return (MessageState.SUPPRESSED, held.reason) if held is not None else None


def _rendered(content: Content, message: Message, journey: Journey) -> Content:
    definitions, names = journey.draft.definitions, journey.names()
    render = definitions.templates.render
    match content:
        case Email():
            email = Email(
                " ".join(render(content.subject, names).split()),
                render(content.html, names, html=True) if content.html else "",
                render(content.text, names) if content.text else "",
            )
            workspace_id = journey.draft.changes.workspace_id
            return definitions.links.decorate(email, workspace_id, message.message_id)
        case Sms():
            return Sms(render(content.body, names))
        case Webhook():
            return Webhook(render(content.body, names))
        case _:
            assert_never(content)
