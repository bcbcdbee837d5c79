"""What tests of the loop share: events in a word, and a store that fails as told."""

from collections.abc import Sequence

from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.memory import MemoryStore
from upshotd.application.ports import Due, MessageFilter
from upshotd.domain.errors import ConstraintFailure
from upshotd.domain.event import Event, EventType
from upshotd.domain.state import Changes
from upshotd.domain.workflow import Reentry, ReentryMode

ALWAYS = Reentry(ReentryMode.ALWAYS)
#: Asks `Store.messages` for the newest of all.
EVERYTHING = (MessageFilter(), "", 10)


def go(event_id: str, user_id: str = "u", name: str = "Go") -> Event:
    return Event(event_id, EventType.TRACK, user_id, name=name)


class TroubledStore(MemoryStore):
    """Fails as told; `commits` counts the events of commits that went through."""

    def __init__(self) -> None:
        super().__init__(encode_outcome=ContractCodec().encode_outcome)
        self.troubles: list[Exception] = []
        self.poison = ""
        self.commits: list[int] = []
        #: What `claim` raises.
        self.blind: list[Exception] = []
        #: How often it was asked what is due.
        self.looks = 0

    async def commit(self, batch: Sequence[Changes]) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        if self.poison and any(self.poison in changes.events for changes in batch):
            raise ConstraintFailure("taken")
        await super().commit(batch)
        self.commits.append(sum(len(changes.events) for changes in batch))

    async def claim(self, now_us: int, limit: int) -> list[Due]:
        self.looks += 1
        if self.blind:
            raise self.blind.pop(0)
        return await super().claim(now_us, limit)
