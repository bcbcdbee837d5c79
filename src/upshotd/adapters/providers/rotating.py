"""A provider whose secrets are in files: made anew when one of them changes."""

import asyncio
from dataclasses import dataclass

from upshotd.application.provider import Provider
from upshotd.domain.message import Delivery, SendResult
from upshotd.secret_files import Renewed


@dataclass(eq=False, slots=True)
class _Turn:
    """One provider, while it is the current one and until its last send has ended."""

    provider: Provider
    sending: int = 0


class RotatingProvider:
    """Sends by the newest provider; the one before it is closed when its sends have ended."""

    def __init__(self, renewed: Renewed[Provider]) -> None:
        self._renewed = renewed
        self._turn = _Turn(renewed())
        self.name = self._turn.provider.name
        self.idempotent = self._turn.provider.idempotent
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Provider:
        """The one that sends now."""
        return self._turn.provider

    async def send(self, delivery: Delivery) -> SendResult:
        """Send with the secrets as they are now."""
        turn = self._current()
        turn.sending += 1
        try:
            return await turn.provider.send(delivery)
        finally:
            turn.sending -= 1
            self._leave(turn)

    async def close(self) -> None:
        """Close the current one, and wait until those before it are closed."""
        await asyncio.gather(self._turn.provider.close(), *self._closing)

    def _current(self) -> _Turn:
        provider = self._renewed()
        if provider is not self._turn.provider:
            before, self._turn = self._turn, _Turn(provider)
            self._leave(before)
        return self._turn

    def _leave(self, turn: _Turn) -> None:
        """Close *turn* when it is over; not in the send that was its last, whose answer counts."""
        if turn is self._turn or turn.sending:
            return
        task = asyncio.create_task(turn.provider.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
