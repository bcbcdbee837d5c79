"""What a dead process was sending is taken over when the next one opens its database."""

from pathlib import Path

from tests.builders import NOON, a_message, changes
from upshotd.adapters.storage.store import SqlStore
from upshotd.domain.message import MessageState

LEASE_US = NOON + 120_000_000


def opened(path: Path) -> SqlStore:
    return SqlStore(path, encode_outcome=lambda *_: b"")


async def test_leases_end_with_the_process_that_held_them_and_other_timers_stay(
    tmp_path: Path,
) -> None:
    store = opened(tmp_path / "upshot.db")
    await store.open()
    waiting = {
        state.name: a_message(message_id=state.name, state=state, due_us=LEASE_US, owner="dead")
        for state in (MessageState.SENDING, MessageState.RETRYING, MessageState.UNKNOWN)
    }
    await store.commit([changes(*waiting.values(), a_message(message_id="done"))])
    assert await store.claim(NOON, 10) == []
    await store.close()

    again = opened(tmp_path / "upshot.db")
    await again.open()
    await again.join("heir")
    assert [due.message_id for due in await again.claim(NOON, 10)] == ["SENDING"]
    assert {due.message_id for due in await again.claim(LEASE_US, 10)} == waiting.keys()
    await again.close()
