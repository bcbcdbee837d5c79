"""Where personal things are that nothing leads to from the person."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Final, Protocol, TypeAlias

from upshotd.domain.profile import Erasure

PREFIX: Final = "erase/"

#: Returns an encoded outcome without what is personal, or None where there is nothing to do.
Clear: TypeAlias = Callable[[bytes], bytes | None]


class ErasedRows(Protocol):
    """What is looked through for erased people. Every method is a transaction or two of its own,
    goes through at most `limit` rows, and returns the key of the last one; None at the end."""

    async def returned(self, workspace_id: str, profile_ids: Collection[str]) -> set[str]:
        """Return those of *profile_ids* who have done something again."""

    def partition_of(self, profile_id: str) -> int:
        """Return where the outcomes of a profile are."""

    async def erase_events(
        self, workspace_id: str, until_us: Mapping[str, int], after: str, limit: int
    ) -> str | None:
        """Empty the events of profiles that came until the time of each, with ids above *after*."""

    async def erase_outcomes(
        self, workspace_id: str, partition: int, after: int, limit: int, clear: Clear
    ) -> int | None:
        """Rewrite outcomes behind position *after* as *clear* says."""

    async def erase_rejected(
        self, workspace_id: str, until_us: Mapping[str, int], after: str, limit: int
    ) -> str | None:
        """Empty the payloads of refused events that came until the time of an id they name."""

    async def erased(self) -> None:
        """Leave nothing behind in files that can be emptied now."""


def task(workspace_id: str, erasure: Erasure) -> tuple[str, str]:
    """Return the name and the value of the setting that says what is left to do."""
    name = f"{PREFIX}{workspace_id}/{erasure.profile_id}"
    # Addresses are done with by the transaction that writes this.
    return name, json.dumps({**asdict(erasure), "addresses": ()})


def erasure_of(value: str) -> Erasure:
    """Return the erasure of a setting's value."""
    found = json.loads(value)
    return Erasure(
        found["profile_id"],
        tuple(found["profile_ids"]),
        found["user_id"],
        tuple(found["anonymous_ids"]),
        (),
        found["erase_us"],
    )
