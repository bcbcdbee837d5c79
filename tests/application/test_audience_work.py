"""What an audience costs: one event the work of one person, time only those whom it changes."""

from collections import Counter
from collections.abc import Sequence

from tests.world import DAY, HOUR, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.memory import MemoryStore
from upshotd.application.ports import Due
from upshotd.domain.audience import AllOf, Audience, Did, Not, Often
from upshotd.domain.event import Event, EventType
from upshotd.domain.state import Changes, State, Wanted

PEOPLE = 2_000
UNUSED = Audience(
    "unused", AllOf((Did("Signed Up", often=Often(ago_us=3 * DAY)), Not(Did("Feature Used"))))
)


class Counting(MemoryStore):
    """Counts the rows that go out and come in."""

    def __init__(self) -> None:
        super().__init__(encode_outcome=ContractCodec().encode_outcome)
        self.rows: Counter[str] = Counter()

    async def load(self, workspace_id: str, wanted: Wanted) -> State:
        state = await super().load(workspace_id, wanted)
        self.rows["read profiles"] += len(state.profiles)
        self.rows["read memberships"] += sum(map(len, state.memberships.values()))
        return state

    async def commit(self, batch: Sequence[Changes]) -> None:
        await super().commit(batch)
        for changes in batch:
            self.rows["profiles"] += len(changes.profiles)
            self.rows["memberships"] += len(changes.memberships)
            self.rows["events"] += len(changes.events)
            self.rows["outcomes"] += len(changes.outcomes)

    async def claim(self, now_us: int, limit: int) -> list[Due]:
        found = await super().claim(now_us, limit)
        self.rows["due"] += len(found)
        return found

    def taken(self) -> dict[str, int]:
        """Return what was counted, and begin anew."""
        counted = {name: count for name, count in self.rows.items() if count}
        self.rows.clear()
        return counted


async def test_an_event_is_the_work_of_one_person_and_time_that_of_those_who_are_due() -> None:
    store = Counting()
    async with world(store) as w:
        await w.define_audience(UNUSED)
        for n in range(PEOPLE):
            if n % 200 == 0:
                await w.advance(HOUR)  # ten hours of signing up, two hundred people in each
            await w.ingest(Event(f"s{n}", EventType.TRACK, f"u{n}", name="Signed Up"))
        store.taken()

        await w.track("u7", "Seen")
        assert store.taken() == {"read profiles": 1, "read memberships": 1, "events": 1}
        await w.track("u7", "Feature Used")
        one = {"read profiles": 1, "read memberships": 1, "profiles": 1, "memberships": 1}
        assert store.taken() == {**one, "events": 1}

        fired = w.loop.fired
        await w.advance(2 * DAY)
        assert w.loop.fired == fired
        assert store.taken() == {}, "nobody is looked at before it can change anything"
        await w.advance(DAY - 9 * HOUR)
        counts = dict.fromkeys(("due", "read profiles", "profiles", "outcomes"), 199)
        counts |= dict.fromkeys(("read memberships", "memberships"), 199)
        assert store.taken() == counts, "those of the first hour, but for whom it was used"
        await w.track("u8", "Feature Used")
        assert store.taken() == {**one, "events": 1, "outcomes": 1}
        await w.advance(40 * DAY)
        assert store.taken()["due"] == PEOPLE - 200
        assert w.loop.fired - fired == PEOPLE - 1  # each of them is a timer
        await w.advance(40 * DAY)
        assert store.taken() == {}


async def test_a_workspace_without_audiences_asks_for_none_of_it() -> None:
    store = Counting()
    async with world(store) as w:
        await w.identify("ana", plan="pro")
        await w.track("ana", "Seen")
        assert store.taken() == {"read profiles": 1, "profiles": 1, "events": 2}
