"""The suppression list: who and what gets nothing, put on and taken off by hand or from files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from upshotd.application import pages
from upshotd.application.loop import Loop
from upshotd.application.pages import Page
from upshotd.application.ports import Store
from upshotd.domain import addresses
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.message import Channel
from upshotd.domain.profile import ContactRules, Listed, Profile, Suppression
from upshotd.domain.state import Identity, identity_of
from upshotd.domain.stimulus import SuppressionResult, SuppressionSet
from upshotd.domain.values import replace

#: Reasons that can be given; of a topic also a person's own.
REASONS: Final = frozenset({"SUPPRESSED", "UNSUBSCRIBED", "COMPLAINED", "BOUNCED", "STOP"})
TOPIC_REASONS: Final = REASONS | {"OPTED_OUT", "CHANNEL_OFF"}
#: An address of the list whose owner was erased.
_HASH = re.compile(addresses.HASHED + r"[0-9a-f]{64}")
#: Most entries of one call.
ENTRIES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the list."""

    suppression: Suppression
    #: The person, where it is one.
    identity: Identity | None = None
    #: Else the address, and the channel it is of.
    channel: Channel = Channel.UNSPECIFIED
    address: str = ""


class Suppressions:
    """Changes the list and shows it."""

    def __init__(self, store: Store, loop: Loop, rules: ContactRules) -> None:
        self._store = store
        self._loop = loop
        self._rules = rules

    async def change(self, workspace_id: str, entries: Sequence[Entry], *, held: bool) -> int:
        """Put *entries* on the list, or take them off; return how many were not so already.

        When it returns nothing is sent against it any more. Raises InvalidArgument with every
        fault by path; nothing is changed then.
        """
        faults: list[Violation] = []
        asked = [
            self._asked(entry, held, f"entries[{index}]", faults)
            for index, entry in enumerate(entries)
        ]
        if not 0 < len(entries) <= ENTRIES_MAX:
            text = f"{len(entries)} entries; 1 to {ENTRIES_MAX} are taken"
            faults.append(Violation("entries", text))
        if faults:
            text = "; ".join(f"{fault.field} {fault.description}" for fault in faults[:10])
            raise InvalidArgument(text, tuple(faults))
        answers = await self._loop.ask(workspace_id, asked)
        return sum(isinstance(answer, SuppressionResult) and answer.changed for answer in answers)

    def _asked(
        self, entry: Entry, held: bool, path: str, faults: list[Violation]
    ) -> SuppressionSet:
        suppression = entry.suppression
        allowed = TOPIC_REASONS if suppression.topic else REASONS
        if suppression.reason not in allowed:
            words = ", ".join(sorted(allowed))
            text = f"is none of {words}"
            faults.append(Violation(f"{path}.suppression.reason", text))
        if entry.identity is not None:
            if not suppression.topic and suppression.channel is Channel.UNSPECIFIED:
                text = "say which channel or topic is held back"
                faults.append(Violation(f"{path}.suppression.scope", text))
            return SuppressionSet(suppression, entry.identity, held)
        field = addresses.FIELDS[entry.channel]
        usable = self._usable(field, entry.address)
        if usable is None:
            faults.append(Violation(f"{path}.{field}", f"is no usable {field}"))
        if suppression.channel not in (Channel.UNSPECIFIED, entry.channel):
            text = f"a {field} holds back {entry.channel.name} only"
            faults.append(Violation(f"{path}.suppression.channel", text))
        own = replace(suppression, channel=entry.channel)
        return SuppressionSet(own, addresses.key(entry.channel, usable or ""), held)

    def _usable(self, field: str, address: str) -> str | None:
        """Return the normal form of an address; None where it is none. Its hash is one, too."""
        if _HASH.fullmatch(address):
            return address
        return self._rules.email(address) if field == "email" else self._rules.phone(address)

    async def list(self, workspace_id: str, page_size: int, page_token: str) -> Page[Entry]:
        """Return what is held back, in an order of its own. Raises InvalidArgument.

        A page may have fewer entries than asked for: what people asked for holds nothing back.
        """
        asked = pages.asked(page_size, page_token)
        found = await self._store.suppressions(workspace_id, asked.last, asked.size + 1)
        page = asked.page(found, lambda listed: listed.key)
        owners = {e.owner for e in page.items if not addresses.of_key(e.owner)[1]}
        people = await self._store.profiles(workspace_id, owners) if owners else {}
        held = (e for e in page.items if not e.suppression.opts_in)
        return Page([_entry(e, people.get(e.owner)) for e in held], page.next_page_token)


def _entry(listed: Listed, profile: Profile | None) -> Entry:
    channel, address = addresses.of_key(listed.owner)
    identity = identity_of(profile) if profile is not None else None
    return Entry(listed.suppression, identity, channel, address)
