"""Subscriptions: named places in the outcome log that outlive their readers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from upshotd.application.cursor import CursorWriter, check_head, decode
from upshotd.application.failpoints import failpoint
from upshotd.application.ports import Clock, PartitionSpan, Store, Subscription
from upshotd.domain.errors import InvalidArgument, NotFound, Violation
from upshotd.domain.values import replace

log = structlog.get_logger()

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class SubscriptionLag:
    """A subscription and how far it is behind."""

    name: str
    #: What was committed last.
    cursor: str
    #: Outcomes after the cursor, also those that are no longer kept.
    lag: int
    #: Age of the oldest kept outcome after the cursor, in microseconds; 0 when there is none.
    lag_us: int
    create_us: int
    #: When it was last committed; `create_us` before that.
    commit_us: int


def name_faults(name: str) -> list[Violation]:
    """Return what is wrong with the name of a subscription."""
    if _NAME.fullmatch(name):
        return []
    return [Violation("subscription", f"must match {_NAME.pattern}")]


class Subscriptions:
    """Commits, lists and forgets subscriptions; streams open them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def commit(self, workspace_id: str, name: str, cursor: str, rewind: bool) -> str:
        """Store how far *name* has been read, and return the cursor that is stored now.

        Merges by partition: a partition that *cursor* lacks stays, one that it has moves
        forward only, unless *rewind*. Raises NotFound for an unknown subscription,
        InvalidArgument for a cursor that is malformed, of another log, or beyond the head.
        """
        epoch = await self._store.log_epoch()
        positions = self._positions(workspace_id, name, cursor, epoch)
        check_head(positions, await self._store.spans(workspace_id), "cursor")

        def moved(held: Subscription | None) -> Subscription:
            if held is None:
                raise NotFound("subscription", name)
            merged = _merged(held.positions, positions, rewind=rewind)
            return replace(held, positions=merged, commit_us=self._clock.now_us())

        failpoint("cursor.before_commit")
        stored = await self._store.change_subscription(workspace_id, name, moved)
        failpoint("cursor.after_commit")
        return CursorWriter(epoch, workspace_id).text(stored.positions)

    def _positions(self, workspace_id: str, name: str, cursor: str, epoch: str) -> dict[int, int]:
        """Return what *cursor* says; raises InvalidArgument with the faults of both arguments."""
        faults = name_faults(name)
        try:
            positions = decode(cursor, epoch, workspace_id, self._store.partitions, "cursor")
        except InvalidArgument as error:
            if not faults:
                raise
            faults += error.violations
        if faults:
            raise InvalidArgument.of(faults)
        return positions

    async def open(
        self, workspace_id: str, name: str, start: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Return the committed positions of *name*; an unknown one is stored to begin at *start*.

        Durable when it returns. A partition that was never committed begins at *start*.
        """
        held = await self._store.subscription(workspace_id, name)
        if held is None:
            now_us = self._clock.now_us()
            made = Subscription(name, dict(start), create_us=now_us, commit_us=now_us)
            # Of two that open it in the same moment one is first, and both begin there.
            held = await self._store.change_subscription(
                workspace_id, name, lambda found: found if found is not None else made
            )
            log.info("subscription.created", workspace_id=workspace_id, subscription=name)
        return {**start, **held.positions}

    async def list(self, workspace_id: str) -> list[SubscriptionLag]:
        """Return all subscriptions with their lag, by name."""
        writer = CursorWriter(await self._store.log_epoch(), workspace_id)
        found = await self._store.subscriptions(workspace_id)
        # After the subscriptions: a cursor that is committed meanwhile is never beyond the head.
        spans = await self._store.spans(workspace_id)
        return [await self._lag(workspace_id, held, spans, writer) for held in found]

    async def delete(self, workspace_id: str, name: str) -> None:
        """Forget a subscription. Raises NotFound for an unknown one."""
        if not await self._store.delete_subscription(workspace_id, name):
            raise NotFound("subscription", name)
        log.info("subscription.deleted", workspace_id=workspace_id, subscription=name)

    async def _lag(
        self,
        workspace_id: str,
        held: Subscription,
        spans: Mapping[int, PartitionSpan],
        writer: CursorWriter,
    ) -> SubscriptionLag:
        now_us = self._clock.now_us()
        lag = lag_us = 0
        for partition, position in held.positions.items():
            behind = spans[partition].head - position
            if behind <= 0:
                continue
            lag += behind
            oldest_us = await self._store.outcome_time(workspace_id, partition, position + 1)
            if oldest_us is not None:
                lag_us = max(lag_us, now_us - oldest_us)
        return SubscriptionLag(
            name=held.name,
            cursor=writer.text(held.positions),
            lag=lag,
            lag_us=lag_us,
            create_us=held.create_us,
            commit_us=held.commit_us,
        )


def _merged(
    held: Mapping[int, int], committed: Mapping[int, int], *, rewind: bool
) -> dict[int, int]:
    if rewind:
        return {**held, **committed}
    forward = {p: max(held.get(p, 0), position) for p, position in committed.items()}
    return {**held, **forward}
