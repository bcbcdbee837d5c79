"""What is due next, over all workspaces."""

import heapq
from collections.abc import Callable
from typing import TypeAlias

from upshotd.application.ports import Due

#: (due_us, key, workspace_id, what it is of): the order in which timers fire.
Timer: TypeAlias = tuple[int, str, str, str]
RUN, MESSAGE, MEMBERSHIP = "run", "message", "membership"


class Timers:
    """A heap that may hold timers which no longer count; `live` tells which do."""

    def __init__(self, live: Callable[[Timer], bool]) -> None:
        self._heap: list[Timer] = []
        self._live = live

    def add(self, timer: Timer) -> None:
        """Remember a timer; the ones before it for the same row no longer count."""
        heapq.heappush(self._heap, timer)

    def due(self, now_us: int, limit: int) -> list[Due]:
        """Return up to *limit* timers due at *now_us*, earliest first, ties by id."""
        found: list[Timer] = []
        while self._heap and self._heap[0][0] <= now_us and len(found) < limit:
            timer = heapq.heappop(self._heap)
            if self._live(timer) and (not found or found[-1] != timer):
                found.append(timer)
        for timer in found:
            heapq.heappush(self._heap, timer)
        return [_due(timer) for timer in found]

    def next_us(self) -> int | None:
        """Return the earliest time of all, in microseconds."""
        while self._heap and not self._live(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None


def _due(timer: Timer) -> Due:
    due_us, row_id, workspace_id, kind = timer
    if kind == MESSAGE:
        return Due(workspace_id, due_us, message_id=row_id)
    if kind == MEMBERSHIP:
        profile_id, _, audience_id = row_id.partition(" ")
        return Due(workspace_id, due_us, profile_id=profile_id, audience_id=audience_id)
    return Due(workspace_id, due_us, run_id=row_id)
