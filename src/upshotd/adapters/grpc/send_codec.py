"""Send steps: of the contract <-> of the domain, but for the steps inside of them."""

from typing import assert_never

from upshot.v1 import outcome_pb2
from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.grpc.times import duration
from upshotd.domain.message import (
    CHANNELS,
    Attachment,
    Channel,
    Chat,
    Content,
    Email,
    Inbox,
    Push,
    Sms,
    Webhook,
)
from upshotd.domain.routing import Method, Route, Routing
from upshotd.domain.steps.send import OnUnknown, Send

#: Deeper than the domain takes; what is below is not read.
_DEPTH_MAX = 8


def send(message: pb.Send, path: str, reading: Reading) -> Send:
    """Return the send step at *path*; faults go into *reading*."""
    on_unknown = None
    if message.on_unknown:
        at = f"{path}.on_unknown"
        on_unknown = reading.enum(OnUnknown, message.on_unknown, at, OnUnknown.GIVE_UP)
    max_lateness_us = None
    if message.HasField("max_lateness"):
        max_lateness_us = reading.span_us(message.max_lateness, f"{path}.max_lateness")
    return Send(
        _routing(message, path, reading),
        contents(message),
        max_lateness_us,
        on_unknown=on_unknown,
        template_id=message.template_id,
    )


def _routing(message: pb.Send, path: str, reading: Reading) -> Routing:
    if not message.HasField("route"):
        # Which channel was meant is not known: that of the content is harmless.
        fitting = next((CHANNELS[type(content)] for content in contents(message)), Channel.EMAIL)
        return reading.enum(Channel, message.channel, f"{path}.channel", fitting)
    if message.channel:
        reading.fault(f"{path}.route", "takes the place of channel: only one of them is taken")
    return _route(message.route, f"{path}.route", reading)


def _route(message: pb.Route, path: str, reading: Reading, depth: int = 1) -> Route:
    if not message.method:
        reading.fault(f"{path}.method", "is required: SINGLE or ALL")
    method = reading.enum(Method, message.method or Method.ALL, f"{path}.method", Method.ALL)
    found: list[Routing] = [
        reading.enum(Channel, number, f"{path}.channels[{index}]", Channel.UNSPECIFIED)
        for index, number in enumerate(message.channels)
    ]
    if depth < _DEPTH_MAX:
        for index, inner in enumerate(message.routes):
            found.append(_route(inner, f"{path}.routes[{index}]", reading, depth + 1))
    return Route(method, tuple(found))


def contents(message: pb.Send | pb.TemplateContent) -> tuple[Content, ...]:
    """Return the contents that *message* has."""
    found: list[Content] = []
    if message.HasField("email"):
        found.append(_email(message.email))
    if message.HasField("sms"):
        found.append(Sms(message.sms.body))
    if message.HasField("push"):
        push = message.push
        found.append(Push(push.title, push.body, dict(push.data)))
    if message.HasField("webhook"):
        found.append(Webhook(message.webhook.body))
    if message.HasField("chat"):
        found.append(Chat(message.chat.body))
    if message.HasField("inbox"):
        inbox = message.inbox
        found.append(Inbox(inbox.title, inbox.body, inbox.action_url))
    return tuple(found)


def _email(message: pb.EmailContent) -> Email:
    return Email(
        subject=message.subject,
        html=message.html,
        text=message.text,
        reply_to=message.reply_to,
        headers=dict(message.headers),
        mjml=message.mjml,
        utm=dict(message.utm),
        attachments=tuple(Attachment(one.url, one.filename) for one in message.attachments),
    )


def message(send: Send) -> pb.Send:
    """Return *send* as a message, without the steps inside of it."""
    on_unknown = pb.OnUnknown.ValueType(send.on_unknown or 0)
    written = pb.Send(on_unknown=on_unknown, template_id=send.template_id)
    if isinstance(send.routing, Route):
        written.route.CopyFrom(_route_message(send.routing))
    else:
        written.channel = outcome_pb2.Channel.ValueType(send.routing)
    for content in send.contents:
        write_content(content, written)
    if send.max_lateness_us is not None:
        written.max_lateness.CopyFrom(duration(send.max_lateness_us))
    return written


def _route_message(route: Route) -> pb.Route:
    written = pb.Route(method=pb.RouteMethod.ValueType(route.method))
    for option in route.options:
        if isinstance(option, Route):
            written.routes.append(_route_message(option))
        else:
            written.channels.append(outcome_pb2.Channel.ValueType(option))
    return written


def write_content(content: Content, written: pb.Send | pb.TemplateContent) -> None:
    """Write *content* to the field of its channel."""
    match content:
        case Email():
            email = pb.EmailContent(
                subject=content.subject,
                html=content.html,
                text=content.text,
                mjml=content.mjml,
                reply_to=content.reply_to,
                headers=content.headers,
                utm=content.utm,
                attachments=[
                    pb.Attachment(url=u, filename=name) for u, name in content.attachments
                ],
            )
            written.email.CopyFrom(email)
        case Sms(body):
            written.sms.CopyFrom(pb.SmsContent(body=body))
        case Push(title, body, data):
            written.push.CopyFrom(pb.PushContent(title=title, body=body, data=data))
        case Webhook(body):
            written.webhook.CopyFrom(pb.WebhookContent(body=body))
        case Chat(body):
            written.chat.CopyFrom(pb.ChatContent(body=body))
        case Inbox(title, body, action_url):
            inbox = pb.InboxContent(title=title, body=body, action_url=action_url)
            written.inbox.CopyFrom(inbox)
        case _:
            assert_never(content)
