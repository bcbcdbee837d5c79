"""Looking in: runs, messages, people, refused events, and how many of what happened."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from upshotd.application import pages
from upshotd.application.pages import Page
from upshotd.application.ports import MessageFilter, OutcomeCount, RunFilter, Store
from upshotd.domain import addresses
from upshotd.domain.errors import InvalidArgument, NotFound, Violation
from upshotd.domain.event import RejectedEvent
from upshotd.domain.message import Message
from upshotd.domain.profile import Profile, Suppression
from upshotd.domain.run import Run, RunState
from upshotd.domain.state import Identity, IdKind, KeptEvent

#: More than is held back from any one address.
_SCOPES_MAX: Final = 100
_HOUR_US: Final = 3_600_000_000
#: End of a window without an end: nothing is recorded after now, so any later instant will do.
_NEVER_US: Final = 2**62


@dataclass(frozen=True, slots=True)
class RunView:
    """A run and whose it is."""

    run: Run
    #: None when the person is not kept any more.
    profile: Profile | None


@dataclass(frozen=True, slots=True)
class ProfileView:
    """A person, what is held back from them or from an address of theirs, and their audiences."""

    profile: Profile
    suppressions: Sequence[Suppression]
    #: Which they are in, in order.
    audience_ids: Sequence[str] = ()


class Admin:
    """Reads; changes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self, workspace_id: str, run_id: str) -> RunView:
        """Return a run. Raises NotFound."""
        run = await self._store.run(workspace_id, run_id)
        if run is None:
            raise NotFound("run", run_id)
        return (await self._views(workspace_id, [run]))[0]

    async def runs(
        self,
        workspace_id: str,
        *,
        workflow_id: str,
        user_id: str,
        state: RunState | None,
        page_size: int,
        page_token: str,
    ) -> Page[RunView]:
        """Return runs, newest first; empty filters let all through, an unknown user has none.

        Raises InvalidArgument for a bad page.
        """
        asked = pages.asked(page_size, page_token)
        profile_id = await self._profile_id(workspace_id, user_id)
        if profile_id is None:
            return Page(())
        chosen = RunFilter(workflow_id, profile_id, state)
        found = await self._store.runs(workspace_id, chosen, asked.last, asked.size + 1)
        page = asked.page(found, lambda run: run.run_id)
        return Page(await self._views(workspace_id, page.items), page.next_page_token)

    async def event(self, workspace_id: str, event_id: str) -> KeptEvent:
        """Return an accepted event, and what workflows made of it. Raises NotFound."""
        event = await self._store.event(workspace_id, event_id)
        if event is None:
            raise NotFound("event", event_id)
        return event

    async def message(self, workspace_id: str, message_id: str) -> Message:
        """Return a message. Raises NotFound."""
        message = await self._store.message(workspace_id, message_id)
        if message is None:
            raise NotFound("message", message_id)
        return message

    async def messages(
        self,
        workspace_id: str,
        *,
        run_id: str,
        workflow_id: str,
        user_id: str,
        page_size: int,
        page_token: str,
    ) -> Page[Message]:
        """Return messages, newest first; filters and errors as in `runs`."""
        asked = pages.asked(page_size, page_token)
        profile_id = await self._profile_id(workspace_id, user_id)
        if profile_id is None:
            return Page(())
        chosen = MessageFilter(run_id, workflow_id, profile_id)
        found = await self._store.messages(workspace_id, chosen, asked.last, asked.size + 1)
        return asked.page(found, lambda message: message.message_id)

    async def profile(self, workspace_id: str, identity: Identity) -> ProfileView:
        """Return a person by an id from outside. Raises NotFound."""
        found = await self._store.profile(workspace_id, identity)
        if found is None:
            raise NotFound("profile")
        profile, suppressions = found
        for address in addresses.keys(profile.contact):
            listed = await self._store.suppressions(workspace_id, f"{address} ", _SCOPES_MAX)
            suppressions += [one.suppression for one in listed if one.owner == address]
        rows = await self._store.audience_rows.memberships_of(workspace_id, [profile.profile_id])
        inside = (row.audience_id for row in rows.get(profile.profile_id, ()) if row.member)
        return ProfileView(profile, suppressions, sorted(inside))

    async def rejected_events(
        self, workspace_id: str, page_size: int, page_token: str
    ) -> Page[RejectedEvent]:
        """Return refused events, newest first. Raises InvalidArgument for a bad page."""
        asked = pages.asked(page_size, page_token)
        found = await self._store.rejected_events(workspace_id, asked.last, asked.size + 1)
        return asked.page(found, lambda rejected: rejected.rejection_id)

    async def counts(
        self, workspace_id: str, start_us: int | None, end_us: int | None, workflow_id: str
    ) -> list[OutcomeCount]:
        """Return counts over the whole hours that the window touches; None leaves an end open.

        Raises InvalidArgument for a window that ends before it begins.
        """
        begin = start_us if start_us is not None else 0
        end = end_us if end_us is not None else _NEVER_US
        if end < begin:
            fault = Violation("end_time", "is before start_time")
            raise InvalidArgument(f"{fault.field} {fault.description}", (fault,))
        first_hour = begin - begin % _HOUR_US
        end_hour = end + -end % _HOUR_US
        return await self._store.counts(workspace_id, first_hour, end_hour, workflow_id)

    async def _views(self, workspace_id: str, runs: Sequence[Run]) -> list[RunView]:
        profile_ids = {run.profile_id for run in runs}
        profiles = await self._store.profiles(workspace_id, profile_ids) if runs else {}
        return [RunView(run, profiles.get(run.profile_id)) for run in runs]

    async def _profile_id(self, workspace_id: str, user_id: str) -> str | None:
        """Return whose rows are wanted: empty for everybody's, None when nobody has this id."""
        if not user_id:
            return ""
        found = await self._store.profile(workspace_id, (IdKind.USER, user_id))
        return found[0].profile_id if found is not None else None
