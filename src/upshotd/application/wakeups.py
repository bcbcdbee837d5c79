"""Hints that wake whoever waits for the log."""

from typing import Protocol


class Wakeups(Protocol):
    """Hints that the log has grown. A hint may be lost or spurious; the log is the truth."""

    def ticket(self) -> int:
        """Return a ticket; take it before reading."""

    def notify(self) -> None:
        """Say that there may be more."""

    async def wait(self, ticket: int, at_most_us: int) -> None:
        """Return when something was notified after *ticket*, or the time is over."""

    @property
    def waiting(self) -> int:
        """How many wait."""
