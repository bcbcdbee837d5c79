"""Audiences, looked at: how far one is filled, who is in it, and why somebody is or is not."""

from dataclasses import dataclass
from typing import Final

from upshotd.application import pages
from upshotd.application.definitions import DefinitionBook
from upshotd.application.filling import Filling, filling_of, setting
from upshotd.application.pages import Page
from upshotd.application.ports import Clock, Defined, Store
from upshotd.application.shelf import Kept, Shelf
from upshotd.domain import judging
from upshotd.domain.audience import Audience, Membership, evaluate
from upshotd.domain.audiences import facts_of
from upshotd.domain.errors import InvalidArgument, NotFound, Violation
from upshotd.domain.profile import Profile
from upshotd.domain.state import Identity
from upshotd.domain.values import replace

#: Most audiences of a workspace: each of them may look at every event.
AUDIENCES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Shown:
    """An audience and how it stands."""

    kept: Kept[Audience]
    members: int
    #: Of this version; None where a newer one has taken its place.
    filling: Filling | None


@dataclass(frozen=True, slots=True)
class Member:
    """What an audience says of one person."""

    profile: Profile
    membership: Membership
    #: Why they are in it now, or are not; of a list why they came in.
    reason: str


class AudienceAdmin:
    """Defines audiences and looks into them."""

    def __init__(
        self, store: Store, shelf: Shelf[Audience], book: DefinitionBook, clock: Clock
    ) -> None:
        self.shelf = shelf
        self._store = store
        self._book = book
        self._clock = clock

    async def define(
        self, workspace_id: str, audience: Audience, *, validate_only: bool
    ) -> Defined:
        """Store *audience* as a new version unless it equals the current one.

        Raises InvalidArgument with every fault, and where there are too many audiences.
        """
        known = (await self._book.of(workspace_id)).audiences.plans
        if len(known) >= AUDIENCES_MAX and audience.audience_id not in known:
            text = f"there are {len(known)} audiences; at most {AUDIENCES_MAX} are taken"
            raise InvalidArgument.of((Violation("audience", text),))
        return await self.shelf.define(workspace_id, audience, validate_only=validate_only)

    async def show(self, workspace_id: str, audience_id: str, version: int) -> Shown:
        """Return one version, the current one for 0. Raises NotFound."""
        kept = await self.shelf.get(workspace_id, audience_id, version)
        members = await self._store.audience_rows.member_count(workspace_id, audience_id)
        value = await self._store.setting(setting(workspace_id, audience_id, kept.version))
        return Shown(kept, members, filling_of(value) if value is not None else None)

    async def members(
        self, workspace_id: str, audience_id: str, page_size: int, page_token: str
    ) -> Page[Member]:
        """Return who is in an audience. Raises NotFound, InvalidArgument for a bad page."""
        asked = pages.asked(page_size, page_token)
        await self.shelf.get(workspace_id, audience_id, 0)
        rows = self._store.audience_rows
        found = await rows.members(workspace_id, audience_id, asked.last, asked.size + 1)
        page = asked.page(found, lambda row: row.profile_id)
        known = await self._store.profiles(workspace_id, {row.profile_id for row in page.items})
        members = [
            Member(known[row.profile_id], row, row.reason)
            for row in page.items
            if row.profile_id in known
        ]
        return Page(members, page.next_page_token)

    async def why(self, workspace_id: str, audience_id: str, identity: Identity) -> Member:
        """Return what an audience says of a person now, and why. Raises NotFound."""
        await self._book.refresh(workspace_id)
        definitions = self._book.known(workspace_id)
        plan = definitions.audiences.plans.get(audience_id)
        if plan is None:
            raise NotFound("audience", audience_id)
        found = await self._store.profile(workspace_id, identity)
        if found is None:
            raise NotFound("profile", identity[1])
        profile, now_us = found[0], self._clock.now_us()
        kept = await self._store.audience_rows.membership(
            workspace_id, audience_id, profile.profile_id
        )
        row = judging.current(plan, kept)
        row = row or judging.blank(plan, profile.profile_id, ready=plan.filled)
        if profile.erased or not row.ready:
            return Member(profile, row, _unknown(profile, row))
        facts = facts_of(definitions.conditions, profile, row.happened)
        reason = judging.reason(plan, definitions.conditions, facts, now_us)
        verdict = evaluate(plan.audience.rule, facts, now_us)
        return Member(profile, replace(row, due_us=verdict.due_us), reason)


def _unknown(profile: Profile, row: Membership) -> str:
    """Return why it is not known of a person what the audience says of them."""
    if profile.erased:
        return "was erased"
    text = f"not everybody was looked at since version {row.version} was defined"
    return f"{text}; before that: {row.reason}" if row.reason else text
