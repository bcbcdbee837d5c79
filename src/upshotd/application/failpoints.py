"""Named points at which a test makes the program fail, to show that nothing is lost there.

Nothing is armed in normal life, and a point costs one look at an empty dictionary then. What can
happen at a point, and how it is told, is in `adapters/failing.py`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

#: Where the program can be made to fail.
POINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "load.before": "before the rows of a batch are read",
        "decide.after": "a batch is decided, nothing of it is written",
        "commit.before": "before the transaction of a batch",
        "commit.after": "a batch is committed, nobody knows yet",
        "write.begun": "in the transaction, before the first row",
        "write.before_log": "in the transaction, rows are written, outcomes are not",
        "claim.after": "timers are claimed",
        "answer.before": "after the commit, before callers are answered and providers asked",
        "intent.before_call": "an intent is committed, its provider not yet called",
        "provider.answered": "the provider has answered, nobody knows yet",
        "result.taken": "the answer waits for the next batch",
        "stream.before_write": "before a page goes out",
        "stream.after_write": "after a page went out",
        "cursor.before_commit": "before a subscription's cursor is stored",
        "cursor.after_commit": "it is stored, the caller does not know",
        "define.before_commit": "before a workflow is stored",
        "define.after_commit": "it is stored, the caller does not know",
        "engagement.received": "engagements have come, nothing is done about them",
        "schedule.page": "events of a page of people are taken, how far that is is not stored",
        "filling.page": "a page of what came before an audience is done, how far is not stored",
        "migration.before": "before the tables are made or changed",
        "migration.after": "they are, in a transaction that is not committed",
        "prune.before": "before old rows are deleted",
        "drain.begun": "SIGTERM was heard",
        "lease.before_beat": "before a replica renews its lease (PostgreSQL)",
        "relay.posted": "the far end has answered, the relay's cursor is not stored",
    }
)

_armed: dict[str, Callable[[], None]] = {}


def failpoint(name: str) -> None:
    """Fail here, if that was asked for."""
    if _armed:
        act = _armed.get(name)
        if act is not None:
            act()


def arm(acts: Mapping[str, Callable[[], None]]) -> None:
    """Let *acts* happen at the points they are named for, and at no others."""
    _armed.clear()
    _armed.update(acts)
