"""Rendering a message: templates to texts, once, at its intent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, assert_never

from upshotd.domain.errors import TemplateError
from upshotd.domain.message import Chat, Content, Email, Inbox, Message, Push, Sms, Webhook
from upshotd.domain.values import NOTHING

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey


def rendered(content: Content, message: Message, journey: Journey) -> Content:
    """Return *content* with its templates filled for this run; raises TemplateError."""
    names, templates = journey.names(), journey.draft.definitions.templates

    def text(source: str) -> str:
        return templates.render(source, names) if source else ""

    match content:
        case Email():
            return _email(content, message, journey, text)
        case Sms(body):
            return Sms(text(body))
        case Push(title, body, data):
            return Push(_line(text(title)), text(body), _texts(data, text))
        case Webhook(body):
            return Webhook(text(body))
        case Chat(body):
            return Chat(text(body))
        case Inbox(title, body, action_url):
            return Inbox(_line(text(title)), text(body), _line(text(action_url)))
        case _:
            assert_never(content)


def _email(email: Email, message: Message, journey: Journey, text: Callable[[str], str]) -> Email:
    """Return the finished e-mail: written out, with its links made ours."""
    definitions, names = journey.draft.definitions, journey.names()
    source = email.mjml or email.html
    html = definitions.templates.render(source, names, html=True) if source else ""
    filled = Email(
        subject=_line(text(email.subject)),
        html="" if email.mjml else html,
        text=text(email.text),
        reply_to=_line(text(email.reply_to)),
        headers={name: _line(text(value)) for name, value in email.headers.items()} or NOTHING,
        mjml=html if email.mjml else "",
        utm={name: _line(text(value)) for name, value in email.utm.items()} or NOTHING,
    )
    try:
        finished = definitions.letters.finish(filled)
    except ValueError as error:
        raise TemplateError(str(error)) from None
    workspace_id = journey.draft.changes.workspace_id
    return definitions.links.decorate(finished, workspace_id, message.message_id)


def _line(text: str) -> str:
    return " ".join(text.split())


def _texts(texts: Mapping[str, str], text: Callable[[str], str]) -> Mapping[str, str]:
    return {name: text(value) for name, value in texts.items()} or NOTHING
