"""Who is to be asked for a decision: looked up in the store, where no decision may look."""

from typing import Final

from upshotd.application.ports import Store
from upshotd.domain.fetching import Found, ReviewersRequest

#: People that are looked at at once.
PAGE: Final = 200


class ReviewerSearch:
    """Finds people who are known by a user_id, at most as many as are wanted."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find(self, request: ReviewersRequest) -> Found:
        """Return whom *request* names; of a group or an audience those with the lowest ids."""
        if request.user_ids:
            return await self._users(request)
        found = await self._members(request)
        return Found(tuple(found[: request.most]), more=len(found) > request.most)

    async def _users(self, request: ReviewersRequest) -> Found:
        """Return those who can decide, in the order in which they are named."""
        people = await self._store.users(request.workspace_id, set(request.user_ids))
        able = {name: person.profile_id for name, person in people.items() if person.can_decide}
        found = tuple(able[name] for name in request.user_ids if name in able)
        unknown = tuple(name for name in request.user_ids if name not in able)
        return Found(found[: request.most], more=len(found) > request.most, unknown=unknown)

    async def _members(self, request: ReviewersRequest) -> list[str]:
        """Return the members that can decide, up to one more than are wanted."""
        found: list[str] = []
        after = ""
        while len(found) <= request.most and (ids := await self._page(request, after)):
            people = await self._store.profiles(request.workspace_id, set(ids))
            found += [one for one in ids if one in people and people[one].can_decide]
            after = ids[-1]
        return found

    async def _page(self, request: ReviewersRequest, after: str) -> list[str]:
        workspace_id, group_id = request.workspace_id, request.group_id
        if request.audience_id:
            rows = self._store.audience_rows
            members = await rows.members(workspace_id, request.audience_id, after, PAGE)
            return [row.profile_id for row in members]
        if not group_id:
            return []
        return await self._store.group_members(workspace_id, group_id, after, PAGE)
