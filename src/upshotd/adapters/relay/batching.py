"""Items packed into what a far end takes at once, by bytes and by number. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from upshotd.adapters.relay.far_end import Item, Limits


@dataclass(frozen=True, slots=True)
class ItemPage:
    """The items of one page of the outcome log; none when it was a checkpoint."""

    items: tuple[Item, ...]
    #: Everything up to here is in this page and those before it.
    cursor: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that go out together, and how far the log is read once they are taken."""

    items: tuple[Item, ...]
    #: Cursor of the last page that is whole with this batch; empty when none ends in it.
    cursor: str


def batches(pages: Iterable[ItemPage], limits: Limits) -> list[Batch]:
    """Return the items of *pages* in their order, in as few batches as the limits allow.

    A batch without items only carries a cursor.
    """
    packing = _Packing(limits)
    for page in pages:
        for item in page.items:
            packing.add(item)
        packing.end_page(page.cursor)
    packing.close()
    return packing.done


class _Packing:
    """The batch that is being filled, and those that are full."""

    def __init__(self, limits: Limits) -> None:
        self.done: list[Batch] = []
        self._limits = limits
        self._begin()

    def _begin(self) -> None:
        self._items: list[Item] = []
        self._size = self._limits.around
        self._cursor = ""

    def add(self, item: Item) -> None:
        size = len(item.body) + self._limits.between
        full = len(self._items) == self._limits.items or self._size + size > self._limits.size
        if full and self._items:
            self.close()
        self._items.append(item)
        self._size += size

    def end_page(self, cursor: str) -> None:
        self._cursor = cursor

    def close(self) -> None:
        if self._items or self._cursor:
            self.done.append(Batch(tuple(self._items), self._cursor))
        self._begin()
