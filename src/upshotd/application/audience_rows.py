"""What audiences know of people, and what a new one is filled from."""

from collections.abc import Collection
from typing import Protocol

from upshotd.domain.audience import Membership
from upshotd.domain.message import Message
from upshotd.domain.state import StoredEvent


class AudienceRows(Protocol):
    """Memberships, and what happened before an audience was defined. Reads only; every method is a
    transaction of its own."""

    async def members(
        self, workspace_id: str, audience_id: str, after: str, limit: int
    ) -> list[Membership]:
        """Return who is in an audience, by profile_id, with ids above *after*."""

    async def member_count(self, workspace_id: str, audience_id: str) -> int:
        """Return how many are in an audience."""

    async def membership(
        self, workspace_id: str, audience_id: str, profile_id: str
    ) -> Membership | None:
        """Return what an audience knows of one person."""

    async def memberships_of(
        self, workspace_id: str, profile_ids: Collection[str]
    ) -> dict[str, list[Membership]]:
        """Return what all audiences know of people; of whom none does nobody is named."""

    async def unready(
        self, workspace_id: str, audience_id: str, after: str, limit: int
    ) -> list[Membership]:
        """Return who was not looked at since an audience was defined and is remembered already."""

    async def event_page(
        self, workspace_id: str, after: str, limit: int
    ) -> list[tuple[str, StoredEvent]]:
        """Return kept events and whose they were when they came, with ids above *after*, by id."""

    async def messages_of(
        self, workspace_id: str, profile_ids: Collection[str]
    ) -> dict[str, list[Message]]:
        """Return the messages of people, without their contents."""
