"""I18: a device that is gone comes off the profile with the word of it, and gets nothing more."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from upshotd.domain import devices
from upshotd.domain.message import Channel, Message, MessageState
from upshotd.domain.state import Changes
from upshotd.domain.values import text_at

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

#: A workspace and the token of a device.
Device = tuple[str, str]


@dataclass(frozen=True)
class Said:
    """That devices are gone, in the answer to an attempt."""

    tokens: tuple[str, ...]
    #: How a message is known whose row has this answer: by the provider's id, or by its detail.
    mark: str


@dataclass
class Devices:
    """What is true of devices, what was said of them, and what the rows made of it."""

    sim: "Simulation"
    #: Their apps are not there any more.
    gone: set[Device] = field(default_factory=set)
    #: By workspace, message and attempt.
    said: dict[tuple[str, str, int], Said] = field(default_factory=dict)
    #: The rows know it, and no app has said otherwise since.
    off: set[Device] = field(default_factory=set)

    def token(self, workspace_id: str, name: str) -> str:
        """Return the token that an app has now: another one after it was installed again."""
        number = 0
        while (workspace_id, f"{name}-{number}") in self.gone:
            number += 1
        return f"{name}-{number}"

    def of(self, workspace_id: str, recipient: str) -> tuple[str, ...]:
        """Return which of the devices of a push are gone."""
        return tuple(t for t in recipient.split() if (workspace_id, t) in self.gone)

    def committed(self, changes: Changes, before: dict[str, Message | None]) -> None:
        """Look at what was written."""
        where = changes.workspace_id
        # What an app says in the same transaction counts, before or after.
        told = {text_at(e.event.context, "device", "token") for e in changes.events.values()}
        self.off -= {(where, token) for token in told}
        learned: set[str] = set()
        for message in changes.messages.values():
            if message.channel is Channel.PUSH:
                then = before[message.message_id]
                self._begun(where, then, message)
                learned |= self._off(where, message, self._answer(where, then, message) - told)
        for engagement, message_id in changes.engagements.values():
            # An answer by number may be about no message.
            about = self.sim.database._tables(where).messages.get(message_id)
            if about is not None and about.channel is Channel.PUSH:
                named = devices.named(about, engagement.data)
                learned |= self._off(where, about, set(named) - told)
        self.off |= {(where, token) for token in learned}

    def _begun(self, where: str, before: Message | None, message: Message) -> None:
        begun = message.attempt - (before.attempt if before is not None else 0)
        if message.state is not MessageState.SENDING or not begun:
            return
        late = [token for token in message.recipient.split() if (where, token) in self.off]
        self.sim.watcher.expect(not late, f"I18 {message.message_id} is sent to {late}, gone")

    def _answer(self, where: str, before: Message | None, message: Message) -> set[str]:
        """Return the devices of which the answer that was written now says that they are gone."""
        said = self.said.get((where, message.message_id, before.attempt)) if before else None
        if said is None or before is None:
            return set()
        now, then = ({one.provider_message_id, one.detail} for one in (message, before))
        return set(said.tokens) if said.mark in now - then else set()

    def _off(self, where: str, message: Message, tokens: set[str]) -> set[str]:
        """Return *tokens*, none of which the person of *message* may have any more."""
        tables = self.sim.database._tables(where)
        if message.state is MessageState.SENDING:  # begun again, with what its answer said
            again = tokens & set(message.recipient.split())
            text = f"I18 {message.message_id} goes to {sorted(again)} again, gone"
            self.sim.watcher.expect(not again, text)
        profile = tables.profiles.get(tables.runs[message.run_id].profile_id)
        if profile is not None:  # else they were erased in the same transaction
            kept = tokens & set(profile.contact.get("push_tokens", "").split())
            who = profile.profile_id
            self.sim.watcher.expect(not kept, f"I18 {who} keeps {sorted(kept)}, gone")
        return tokens
