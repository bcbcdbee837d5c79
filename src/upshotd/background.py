"""Work that goes on beside the loop: what one process leaves behind, another one takes up."""

from typing import NamedTuple

from upshotd.application.codec import Codec
from upshotd.application.definitions import DefinitionBook
from upshotd.application.erasing import Erasing
from upshotd.application.filling import Fillings
from upshotd.application.in_flight import InFlight
from upshotd.application.loop import Loop
from upshotd.application.ports import Clock, Store
from upshotd.application.schedules import Schedules


class Background(NamedTuple):
    """Each has no end: it rests, and may be woken."""

    schedules: Schedules
    in_flight: InFlight
    erasing: Erasing
    fillings: Fillings

    @classmethod
    def of(
        cls,
        store: Store,
        loop: Loop,
        clock: Clock,
        codec: Codec,
        book: DefinitionBook,
        lease_us: int,
    ) -> "Background":
        """Return what goes on over *store*; where it is shared, others may commit for up to two
        leases what they had decided before."""
        settle_us = 2 * lease_us if store.shared else 0
        return cls(
            Schedules(store, loop, clock, codec, book),
            InFlight(store, loop, clock),
            Erasing(store, loop, clock, codec, settle_us=settle_us),
            Fillings(store, loop, clock, codec, book, settle_us=settle_us),
        )

    def look_at_workflows(self) -> None:
        """Look at once: a workflow was defined."""
        self.in_flight.wake()
        self.schedules.wake()
