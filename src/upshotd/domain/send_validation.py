"""What is wrong with a send step: its route, its contents and its limits."""

import re
from collections.abc import Mapping
from typing import Final, assert_never

from upshotd.domain.findings import Findings
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
from upshotd.domain.routing import Route, channels
from upshotd.domain.steps.delay import WAIT_MAX_US
from upshotd.domain.steps.send import Send

#: Routes inside of routes; that of the step is the first.
ROUTES_MAX: Final = 3
#: Most attachments of an e-mail.
ATTACHMENTS_MAX: Final = 10
#: Most headers of an e-mail.
HEADERS_MAX: Final = 20
#: Most entries of the data of a push message.
DATA_MAX: Final = 50
#: Headers that a workflow may set beside those that begin with `X-`.
HEADERS: Final = frozenset({"auto-submitted", "precedence", "references", "in-reply-to"})
UTM: Final = ("source", "medium", "campaign", "term", "content", "id")

_HEADER = re.compile(r"[A-Za-z0-9-]{1,70}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Fields of the contract by the channel whose content they hold.
_FIELDS: Mapping[Channel, str] = {
    channel: channel.name.lower() for channel in Channel if channel is not Channel.UNSPECIFIED
}


def check(send: Send, path: str, findings: Findings) -> None:
    """Note what is wrong with a send step that stands at *path*."""
    if send.template_id:
        _from_template(send, path, findings)
    for content in send.contents:
        check_content(content, path, findings)
    if isinstance(send.routing, Route):
        _route(send.routing, f"{path}.route", findings)
    _fitting(send, path, findings)
    if send.max_lateness_us is not None:
        findings.span(f"{path}.max_lateness", send.max_lateness_us, most_us=WAIT_MAX_US)


def _route(route: Route, path: str, findings: Findings, *, depth: int = 1) -> None:
    if not route.options:
        findings.fault(path, "at least one channel is required")
    if depth > ROUTES_MAX:
        findings.fault(path, f"routes nest at most {ROUTES_MAX} deep")
        return
    inner = [option for option in route.options if isinstance(option, Route)]
    for index, option in enumerate(inner):
        _route(option, f"{path}.routes[{index}]", findings, depth=depth + 1)


def _fitting(send: Send, path: str, findings: Findings) -> None:
    """Look at whether each channel has its content, and each content its channel."""
    routed = list(channels(send.routing))
    given = [CHANNELS[type(content)] for content in send.contents]
    if isinstance(send.routing, Route):
        for channel in dict.fromkeys(routed):
            if channel is Channel.UNSPECIFIED:
                findings.fault(f"{path}.route", "a channel in it is unspecified")
            elif routed.count(channel) > 1:
                findings.fault(f"{path}.route", f"{channel.name} is named twice")
    elif send.routing is Channel.UNSPECIFIED:
        findings.fault(f"{path}.channel", "this or route is required")
        return
    elif len(given) == 1 and routed != given:
        text = f"is {routed[0].name}, but the content is for {given[0].name}"
        findings.fault(f"{path}.channel", text)
        return
    missing = set() if send.template_id else set(routed) - {*given, Channel.UNSPECIFIED}
    for channel in sorted(missing):
        findings.fault(f"{path}.{_FIELDS[channel]}", f"is required: it is sent on {channel.name}")
    for channel in sorted(set(given) - set(routed)):
        text = f"is never sent: {channel.name} is none of its channels"
        findings.fault(f"{path}.{_FIELDS[channel]}", text)


def _from_template(send: Send, path: str, findings: Findings) -> None:
    findings.name(f"{path}.template_id", send.template_id)
    if send.contents:
        findings.fault(f"{path}.template_id", "takes the place of the contents: there may be none")


def check_content(content: Content, path: str, findings: Findings) -> None:
    """Note what is wrong with a content, which stands in a field of its channel below *path*."""
    path = f"{path}.{_FIELDS[CHANNELS[type(content)]]}"
    match content:
        case Email():
            _email(content, path, findings)
        case Sms(body) | Webhook(body) | Chat(body):
            _required(body, f"{path}.body", findings)
        case Push(title, body, data):
            _required(title, f"{path}.title", findings)
            findings.template(f"{path}.body", body)
            _texts(data, f"{path}.data", DATA_MAX, findings)
        case Inbox(title, body, action_url):
            _required(title, f"{path}.title", findings)
            findings.template(f"{path}.body", body)
            findings.template(f"{path}.action_url", action_url)
        case _:
            assert_never(content)


def _email(email: Email, path: str, findings: Findings) -> None:
    if not email.subject:
        findings.fault(f"{path}.subject", "is required")
    elif _CONTROL.search(email.subject):
        findings.fault(f"{path}.subject", "line breaks and control characters are not taken")
    if email.html and email.mjml:
        findings.fault(f"{path}.mjml", "takes the place of html: only one of them is taken")
    elif not (email.html or email.mjml or email.text):
        findings.fault(path, "html, mjml or text is required")
    findings.template(f"{path}.subject", email.subject)
    findings.template(f"{path}.html", email.html, html=True)
    findings.template(f"{path}.mjml", email.mjml, html=True)
    findings.template(f"{path}.text", email.text)
    findings.template(f"{path}.reply_to", email.reply_to)
    _texts(email.headers, f"{path}.headers", HEADERS_MAX, findings)
    for name in email.headers:
        own = name.lower() in HEADERS or name.lower().startswith("x-")
        if not own or name.lower().startswith("x-upshot") or not _HEADER.fullmatch(name):
            findings.fault(f"{path}.headers.{name}", "is no header that a workflow may set")
    _attachments(email.attachments, f"{path}.attachments", findings)
    _texts(email.utm, f"{path}.utm", len(UTM), findings)
    for name in email.utm:
        if name not in UTM:
            findings.fault(f"{path}.utm.{name}", f"is none of {', '.join(UTM)}")


def _attachments(given: tuple[Attachment, ...], path: str, findings: Findings) -> None:
    if len(given) > ATTACHMENTS_MAX:
        findings.fault(path, f"{len(given)} given; at most {ATTACHMENTS_MAX} are taken")
    for index, (url, filename) in enumerate(given):
        _required(url, f"{path}[{index}].url", findings)
        findings.template(f"{path}[{index}].filename", filename)


def _required(source: str, path: str, findings: Findings) -> None:
    if not source:
        findings.fault(path, "is required")
    findings.template(path, source)


def _texts(texts: Mapping[str, str], path: str, most: int, findings: Findings) -> None:
    if len(texts) > most:
        findings.fault(path, f"{len(texts)} given; at most {most} are taken")
    for name, source in texts.items():
        findings.template(f"{path}.{name}", source)
