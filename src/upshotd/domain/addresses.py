"""The suppression list: addresses that get nothing, whoever has them. Pure.

What is held back from an address is kept as what is held back from a person is, under a key made
of channel and address in place of a profile's id.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from upshotd.domain.message import Channel, Message

#: The row that every change of the list writes and every send relies on, as it does on the row of
#: its person. It is kept among the profiles, so that the same locks and versions hold; it sorts
#: behind their ids, so that who locks both locks it last.
LIST: Final = "list"

#: What stands before the hash of an address.
HASHED: Final = "sha256:"

#: Channels with addresses that several people may have, and the contact field with the address.
FIELDS: Final[Mapping[Channel, str]] = {Channel.EMAIL: "email", Channel.SMS: "phone_number"}


def key(channel: Channel, address: str) -> str:
    """Return what an address is listed under; empty where none of its kind is listed."""
    if channel not in FIELDS or not address:
        return ""
    return f"{channel.name.lower()}:{address.casefold()}"


def hidden(listed: str) -> str:
    """Return what an address is listed under once its owner was erased: by its hash.

    Whoever has it then is still left in peace, and nobody reads it off the list. Empty for an empty
    key.
    """
    word, colon, address = listed.partition(":")
    if not colon or address.startswith(HASHED):
        return listed
    return f"{word}:{HASHED}{hashlib.sha256(address.encode()).hexdigest()}"


def forms(listed: str) -> tuple[str, ...]:
    """Return the two keys under which an address may be listed; none for an empty one."""
    return (listed, hidden(listed)) if listed else ()


def keys(contact: Mapping[str, str]) -> list[str]:
    """Return what the addresses of a person are listed under, in both forms."""
    found = (key(channel, contact.get(field, "")) for channel, field in FIELDS.items())
    return [form for listed in found for form in forms(listed)]


def answering(message: Message) -> str:
    """Return the key of the address that an answer to *message* comes from, naming only itself.

    Empty where answers name their message, and for a message that no provider has taken.
    """
    if message.channel is not Channel.SMS or "sent" not in message.facts:
        return ""
    return key(message.channel, message.recipient)


def of_key(listed: str) -> tuple[Channel, str]:
    """Return channel and address of a key; UNSPECIFIED for the id of a profile."""
    word, colon, address = listed.partition(":")
    return (Channel[word.upper()], address) if colon else (Channel.UNSPECIFIED, "")
