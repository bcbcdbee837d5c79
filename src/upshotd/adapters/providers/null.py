"""A provider that accepts everything at once, for benches and for trying a workflow out."""

from upshotd.adapters.providers.options import Home, Options
from upshotd.domain.message import Accepted, Delivery, SendResult


class NullProvider:
    """Sends nothing and accepts all; its id of a message is ours."""

    __slots__ = ("name",)

    #: Nothing is delivered, so nothing is delivered twice.
    idempotent = True

    def __init__(self, name: str) -> None:
        self.name = name

    async def send(self, delivery: Delivery) -> SendResult:
        """Accept without looking."""
        return Accepted(delivery.message_id)

    async def close(self) -> None:
        """Nothing to release."""


def make(name: str, options: Options, _home: Home) -> NullProvider:
    """The provider out of its table, which has nothing in it."""
    options.check("null")
    return NullProvider(name)
