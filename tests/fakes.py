"""Time and chance that tests hold in their hands."""

import asyncio
import heapq
import random
from itertools import count

from tests.builders import NOON


class ManualClock:
    """A clock that stands until it is moved; the sleeps that are over by then end.

    With *patient* False a sleep moves the clock itself and ends at once.
    """

    def __init__(self, now_us: int = NOON, *, patient: bool = True) -> None:
        self._now_us = now_us
        self._elapsed_us = 0
        self._patient = patient
        self._order = count()
        self._sleeping: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_us(self) -> int:
        return self._now_us

    def monotonic_us(self) -> int:
        return self._elapsed_us

    @property
    def sleepers(self) -> int:
        """How many are asleep."""
        return sum(not future.done() for _, _, future in self._sleeping)

    def advance(self, duration_us: int) -> None:
        """Let time pass."""
        self._now_us += duration_us
        self._elapsed_us += duration_us
        while self._sleeping and self._sleeping[0][0] <= self._elapsed_us:
            _, _, future = heapq.heappop(self._sleeping)
            if not future.done():
                future.set_result(None)

    def advance_to(self, now_us: int) -> None:
        """Make it this late; an earlier time changes nothing."""
        self.advance(max(now_us - self._now_us, 0))

    async def sleep(self, duration_us: int) -> None:
        if not self._patient:
            self.advance(max(duration_us, 0))
        if not self._patient or duration_us <= 0:
            # Others run here, as in a real sleep.
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        entry = (self._elapsed_us + duration_us, next(self._order), future)
        heapq.heappush(self._sleeping, entry)
        await future


class SeededIds:
    """Ids in order and the same chance every time: `id-00000001`, `id-00000002` ..."""

    def __init__(self, seed: int = 0, prefix: str = "id") -> None:
        self._random = random.Random(seed)
        self._prefix = prefix
        self._numbers = count(1)

    def next(self) -> str:
        return f"{self._prefix}-{next(self._numbers):08d}"

    def fraction(self) -> float:
        return self._random.random()
