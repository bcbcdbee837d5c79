"""How the providers are, as this process has found them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from upshotd.application.breakers import Breakers
from upshotd.domain.breaker import Breaker, State, state
from upshotd.domain.definitions import Carrier
from upshotd.domain.message import Channel


class Health(NamedTuple):
    """How one provider is."""

    provider: str
    channels: tuple[Channel, ...]
    state: State
    breaker: Breaker


class ProviderHealth:
    """Knows how the providers of the settings are."""

    def __init__(
        self,
        carriers: Mapping[Channel, tuple[Carrier, ...]],
        breakers: Breakers,
        now_us: Callable[[], int],
    ) -> None:
        self._channels: dict[str, tuple[Channel, ...]] = {}
        for channel, several in carriers.items():
            for carrier in several:
                known = self._channels.get(carrier.provider, ())
                self._channels[carrier.provider] = (*known, channel)
        self._breakers = breakers
        self._now_us = now_us

    def list(self) -> list[Health]:
        """Return all that serve a channel, by name."""
        now_us = self._now_us()
        found = ((name, self._breakers.of(name)) for name in sorted(self._channels))
        return [Health(n, self._channels[n], state(b, now_us), b) for n, b in found]
