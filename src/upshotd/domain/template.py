"""A reusable template: contents for channels and languages, inside a layout. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from upshotd.domain.errors import TemplateError
from upshotd.domain.message import CHANNELS, Channel, Content, Email
from upshotd.domain.values import NOTHING, replace

#: Stands in the HTML or MJML of a layout where what is laid out goes.
CONTENT: Final = "{{ content }}"


@dataclass(frozen=True, slots=True)
class Template:
    """One version of a template."""

    template_id: str
    #: Contents by locale as `pt-br`; empty: for everybody else.
    variants: Mapping[str, tuple[Content, ...]]
    version: int = 0
    display_name: str = ""
    #: The template whose e-mail is put around that of this one; empty: none.
    layout_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def content(self, channel: Channel, locale: str) -> Content | None:
        """Return what *channel* says: to pt-BR its own, else that of pt, else the default."""
        for name in locales(locale):
            for content in self.variants.get(name, ()):
                if CHANNELS[type(content)] is channel:
                    return content
        return None


def locales(locale: str) -> Iterator[str]:
    """Yield the names under which contents for *locale* may stand, the best first."""
    parts = normal(locale).split("-")
    for length in range(len(parts), 0, -1):
        if name := "-".join(parts[:length]):
            yield name
    yield ""


def normal(locale: str) -> str:
    """Return a locale as variants are named: `pt_BR.UTF-8` is `pt-br`."""
    return locale.partition(".")[0].replace("_", "-").lower()


class Library:
    """The current templates of a workspace."""

    def __init__(self, templates: Mapping[str, Template] = NOTHING) -> None:
        self._templates = templates

    def content(self, template_id: str, channel: Channel, locale: str) -> Content:
        """Return what a template says on *channel*, with its layout; raises TemplateError."""
        template = self._templates.get(template_id)
        if template is None:
            raise TemplateError(f"there is no template {template_id!r}")
        content = template.content(channel, locale)
        if content is None:
            raise TemplateError(f"the template {template_id!r} says nothing on {channel.name}")
        if template.layout_id and isinstance(content, Email):
            return self._laid_out(template.layout_id, content, locale)
        return content

    def _laid_out(self, layout_id: str, email: Email, locale: str) -> Email:
        layout = self._templates.get(layout_id)
        around = layout.content(Channel.EMAIL, locale) if layout is not None else None
        if not isinstance(around, Email):
            raise TemplateError(f"there is no layout {layout_id!r} with an e-mail")
        inner = email.mjml or email.html
        return replace(
            email,
            html=around.html.replace(CONTENT, inner),
            mjml=around.mjml.replace(CONTENT, inner),
            text=around.text.replace(CONTENT, email.text) if around.text else email.text,
            reply_to=email.reply_to or around.reply_to,
            headers={**around.headers, **email.headers},
            utm={**around.utm, **email.utm},
        )

    def __contains__(self, template_id: str) -> bool:
        return template_id in self._templates
