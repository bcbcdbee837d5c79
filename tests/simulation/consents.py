"""I4: nothing is begun that its person, or the owner of its address, has forbidden."""

from collections.abc import Iterator, Mapping

from upshotd.domain import addresses
from upshotd.domain.message import Channel, Message
from upshotd.domain.profile import Suppression
from upshotd.domain.state import Changes

#: What people, and addresses, had forbidden, by scope.
Held = Mapping[str, Mapping[str, Suppression]]


def broken(
    changes: Changes, held: Held, message: Message, topic: str, now_us: int
) -> Iterator[str]:
    """Yield what forbids *message*, begun for *topic*, unless *changes* lift it."""
    which = message.message_id
    written = {scope for who, scope in changes.suppressions if who == message.profile_id}
    for one in held[message.profile_id].values():
        other = (one.topic and one.topic != topic) or one.reason == "OPTED_IN"
        about = not other and one.channel in (Channel.UNSPECIFIED, message.channel)
        if about and one.holds(now_us) and one.scope not in written:
            yield f"{which} is sent after an opt-out ({one.scope})"
    listed = addresses.key(message.channel, message.recipient)
    for one in held[listed].values():
        # What bounced a moment before is nobody's wish.
        forbids = one.holds(now_us) and one.reason != "BOUNCED"
        if forbids and (listed, one.scope) not in changes.suppressions:
            yield f"{which} is sent to {listed}, which is on the list"


def asked_for(changes: Changes, held: Held, message: Message, topic: str) -> bool:
    """Return whether the person of *message* has asked for *topic*."""
    scope = f"opt-in:{topic}"
    return scope in held[message.profile_id] or (message.profile_id, scope) in changes.suppressions
