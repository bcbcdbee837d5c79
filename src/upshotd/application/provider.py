"""What the use cases need of whoever delivers messages."""

from typing import Protocol

from upshotd.domain.message import Delivery, SendResult


class Provider(Protocol):
    """Delivers messages on a channel. One small interface, one contract suite."""

    @property
    def name(self) -> str:
        """The configured name, as it appears on messages and outcomes."""

    @property
    def idempotent(self) -> bool:
        """Whether a repeated `message_id` is never delivered twice (class A of guarantees.md)."""

    async def send(self, delivery: Delivery) -> SendResult:
        """Ask for one delivery and say what became of it.

        Never raises for what a provider or network does: that is a SendResult. A result is
        Unknown whenever the request may have arrived and no answer came.
        """

    async def close(self) -> None:
        """Release connections; no send is under way any more."""
