"""Looking in: pages that neither skip nor repeat, filters, and counts by whole hours."""

import base64
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import (
    HOUR,
    NOON,
    a_message,
    a_profile,
    a_rejection,
    a_run,
    an_outcome,
    changes,
)
from upshotd.adapters.memory import MemoryStore
from upshotd.application import pages
from upshotd.application.admin import Admin, RunView
from upshotd.application.pages import Page
from upshotd.domain.errors import InvalidArgument, NotFound
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.profile import Suppression
from upshotd.domain.run import RunState
from upshotd.domain.state import IdKind

WORKSPACE = "default"


class World:
    def __init__(self) -> None:
        self.store = MemoryStore(encode_outcome=lambda *_: b"")
        self.admin = Admin(self.store)

    async def keep(self, *things: object, **fields: Any) -> None:
        await self.store.commit([changes(*things, **fields)])

    async def runs(self, **fields: Any) -> Page[RunView]:
        asked = {"workflow_id": "", "user_id": "", "state": None, "page_size": 0, "page_token": ""}
        return await self.admin.runs(WORKSPACE, **{**asked, **fields})

    async def messages(self, **fields: Any) -> list[str]:
        asked = {"run_id": "", "workflow_id": "", "user_id": "", "page_size": 0, "page_token": ""}
        page = await self.admin.messages(WORKSPACE, **{**asked, **fields})
        return [message.message_id for message in page.items]


@pytest.fixture
def world() -> World:
    return World()


def ids(page: Page[RunView]) -> list[str]:
    return [view.run.run_id for view in page.items]


# -- runs and messages -----------------------------------------------------------------------------


async def test_a_run_is_shown_with_its_person(world: World) -> None:
    ana, run, lost = a_profile(), a_run(run_id="r-1"), a_run(run_id="r-2", profile_id="gone")
    await world.keep(ana, run, lost)
    shown = await world.admin.run(WORKSPACE, "r-1")
    assert (shown.run.run_id, shown.profile and shown.profile.user_id) == ("r-1", "ana")
    assert (await world.admin.run(WORKSPACE, "r-2")).profile is None
    with pytest.raises(NotFound):
        await world.admin.run(WORKSPACE, "r-3")
    with pytest.raises(NotFound):
        await world.admin.run("other", "r-1")


async def test_runs_are_found_by_what_is_asked(world: World) -> None:
    ana, ben = a_profile(), a_profile(user_id="ben")
    await world.keep(
        ana,
        ben,
        a_run(run_id="r-1"),
        a_run(run_id="r-2", profile_id="profile-ben"),
        a_run(run_id="r-3", workflow_id="other", state=RunState.COMPLETED),
    )
    assert ids(await world.runs()) == ["r-3", "r-2", "r-1"]
    assert ids(await world.runs(user_id="ana")) == ["r-3", "r-1"]
    assert ids(await world.runs(workflow_id="welcome")) == ["r-2", "r-1"]
    assert ids(await world.runs(state=RunState.COMPLETED)) == ["r-3"]
    assert ids(await world.runs(user_id="ben", workflow_id="other")) == []
    people = [view.profile and view.profile.user_id for view in (await world.runs()).items]
    assert people == ["ana", "ben", "ana"]


async def test_an_unknown_user_has_nothing(world: World) -> None:
    await world.keep(a_profile(), a_run(), a_message())
    assert await world.runs(user_id="nobody") == Page(())
    assert await world.messages(user_id="nobody") == []


async def test_messages_are_found_by_what_is_asked(world: World) -> None:
    await world.keep(
        a_profile(),
        a_profile(user_id="ben"),
        a_run(run_id="r-2", profile_id="profile-ben"),
        a_message(message_id="m-1", run_id="r-1"),
        a_message(message_id="m-2", run_id="r-2", profile_id="profile-ben"),
        a_message(message_id="m-3", workflow_id="other"),
    )
    assert await world.messages() == ["m-3", "m-2", "m-1"]
    assert await world.messages(run_id="r-1") == ["m-1"]
    assert await world.messages(workflow_id="other") == ["m-3"]
    assert await world.messages(user_id="ben") == ["m-2"]
    assert (await world.admin.message(WORKSPACE, "m-2")).profile_id == "profile-ben"
    with pytest.raises(NotFound):
        await world.admin.message(WORKSPACE, "m-4")


async def test_a_person_is_found_by_either_id(world: World) -> None:
    ana = a_profile(user_id="ana", anonymous_ids=("cookie",))
    held = Suppression(Channel.EMAIL)
    await world.keep(ana, suppressions={(ana.profile_id, held.scope): held})
    for identity in ((IdKind.USER, "ana"), (IdKind.ANONYMOUS, "cookie")):
        view = await world.admin.profile(WORKSPACE, identity)
        assert (view.profile.user_id, list(view.suppressions)) == ("ana", [held])
    with pytest.raises(NotFound):
        await world.admin.profile(WORKSPACE, (IdKind.USER, "cookie"))


async def test_refused_events_are_listed_newest_first(world: World) -> None:
    await world.keep(*(a_rejection(rejection_id=f"x-{number}") for number in range(3)))
    page = await world.admin.rejected_events(WORKSPACE, 2, "")
    assert [item.rejection_id for item in page.items] == ["x-2", "x-1"]
    page = await world.admin.rejected_events(WORKSPACE, 2, page.next_page_token)
    assert ([item.rejection_id for item in page.items], page.next_page_token) == (["x-0"], "")


# -- counts ----------------------------------------------------------------------------------------


async def test_counts_cover_whole_hours(world: World) -> None:
    for hours, kind in ((0, OutcomeKind.MESSAGE_SENT), (1, OutcomeKind.MESSAGE_OPENED)):
        await world.keep(*(an_outcome(kind=kind, record_us=NOON + hours * HOUR) for _ in "ab"))
    await world.keep(an_outcome(workflow_id="other"))

    async def kinds(start: int | None, end: int | None, workflow_id: str = "welcome") -> Any:
        counted = await world.admin.counts(WORKSPACE, start, end, workflow_id)
        return {count.kind.name: count.count for count in counted}

    both = {"MESSAGE_SENT": 2, "MESSAGE_OPENED": 2}
    assert await kinds(None, None) == both
    assert await kinds(NOON + 1, NOON + HOUR) == {"MESSAGE_SENT": 2}
    assert await kinds(NOON + HOUR - 1, NOON + HOUR + 1) == both
    assert await kinds(NOON + HOUR, None) == {"MESSAGE_OPENED": 2}
    assert await kinds(None, NOON) == {}
    assert await kinds(NOON, NOON) == {}


async def test_a_window_cannot_end_before_it_begins(world: World) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await world.admin.counts(WORKSPACE, NOON, NOON - 1, "")
    assert [v.field for v in caught.value.violations] == ["end_time"]


# -- pages -----------------------------------------------------------------------------------------


async def test_pages_neither_skip_nor_repeat(world: World) -> None:
    await world.keep(*(a_run(run_id=f"r-{number:03}") for number in range(120)))
    token, sizes, found = "", [], list[str]()
    while True:
        page = await world.runs(page_token=token)
        sizes.append(len(page.items))
        found += ids(page)
        token = page.next_page_token
        if not token:
            break
    assert (sizes, found) == ([50, 50, 20], [f"r-{number:03}" for number in reversed(range(120))])
    exact = await world.runs(page_size=120)
    assert (len(exact.items), exact.next_page_token) == (120, "")


def test_pages_are_bounded() -> None:
    assert [pages.asked(size, "").size for size in (0, 1, 500, 501, 10**9)] == [
        *(50, 1, 500, 500, 500)
    ]
    with pytest.raises(InvalidArgument) as caught:
        pages.asked(-1, "?")
    assert [v.field for v in caught.value.violations] == ["page_size", "page_token"]


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: base64.b64encode(b).decode()))
def test_no_token_breaks_the_reader(token: str) -> None:
    with contextlib.suppress(InvalidArgument):
        last = pages.asked(0, token).last
        assert last.isprintable()
        assert bool(last) == bool(token)


@pytest.mark.parametrize("token", ["é", "A", "A" * 1_001, "AAAA", "_w", "===="])
async def test_a_token_that_is_none_of_ours_is_refused_everywhere(world: World, token: str) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: world.runs(page_token=token),
        lambda: world.messages(page_token=token),
        lambda: world.admin.rejected_events(WORKSPACE, 0, token),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument) as caught:
            await call()
        assert [v.field for v in caught.value.violations] == ["page_token"]
