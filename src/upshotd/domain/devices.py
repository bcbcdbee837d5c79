"""The devices that a push message goes to, and those that are gone. Pure."""

from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Final

from upshotd.domain import messages
from upshotd.domain.contacts import PUSH_TOKENS, without_devices
from upshotd.domain.draft import Draft
from upshotd.domain.message import Message
from upshotd.domain.profile import Profile
from upshotd.domain.values import replace

#: Where an engagement names devices that are gone, by their digests: it is kept, and exported.
GONE: Final = "gone_devices"


def forget(draft: Draft, message: Message, gone: Collection[str]) -> int:
    """Take devices off the person of *message*; return how many there were.

    Sends that were decided with them are refused.
    """
    profile = _person(draft, message)
    contact = without_devices(profile.contact, gone)
    if contact is profile.contact:
        return 0
    draft.put_profile(replace(profile, contact=contact))
    return len(_tokens(profile.contact)) - len(_tokens(contact))


def left(draft: Draft, message: Message) -> str:
    """Return the devices of *message* that the person still has, a space between."""
    has = set(_tokens(_person(draft, message).contact))
    return " ".join([token for token in message.recipient.split() if token in has])


def named(message: Message, data: Mapping[str, object]) -> list[str]:
    """Return the devices of *message* that the data of an engagement says are gone."""
    told = data.get(GONE)
    if not isinstance(told, list | tuple):
        return []
    return [token for token in message.recipient.split() if digest(token) in told]


def digest(token: str) -> str:
    """Return what a device is called where its token must not stand."""
    return sha256(token.encode()).hexdigest()


def _person(draft: Draft, message: Message) -> Profile:
    return draft.profile(messages.whose(draft, message))


def _tokens(contact: Mapping[str, str]) -> list[str]:
    return contact.get(PUSH_TOKENS, "").split()
