"""What every provider of e-mail does before it hands a message over."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from upshotd.adapters.providers.attachments import File, Files, Unfetched
from upshotd.adapters.providers.mime import Unsendable, unsubscribe_headers
from upshotd.adapters.providers.wording import has_controls
from upshotd.domain.message import Deferred, Delivery, Email, Refused

T = TypeVar("T")


async def prepared(
    files: Files, content: Email, make: Callable[[Sequence[File]], T]
) -> T | Deferred | Refused:
    """Return what *make* makes of the fetched attachments, or why nothing can be handed over."""
    try:
        return make(await files.fetch(content.attachments))
    except Unfetched as fault:
        detail = str(fault)
        if fault.again:
            return Deferred(detail, of_message=True)
        return Refused("ATTACHMENT_ERROR", detail)
    except Unsendable as fault:
        return Refused(fault.reason, fault.detail)


def subject_of(content: Email) -> str:
    """Return the subject on one line; raises Unsendable."""
    subject = content.subject.strip()
    if has_controls(subject):
        raise Unsendable("PROVIDER_ERROR", "the subject has control characters")
    return subject


def headers_of(delivery: Delivery, content: Email) -> dict[str, str]:
    """Return our own headers and those of the message, for an API that writes them itself."""
    return {
        "X-Upshot-Message-Id": delivery.message_id,
        **dict(unsubscribe_headers(content.unsubscribe_url)),
        **content.headers,
    }
