"""What is defined beside workflows, and kept as they are: templates, topics and audiences."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog

from upshotd.application import pages
from upshotd.application.pages import Page
from upshotd.application.ports import Clock, Defined, Store, StoredWorkflow, Task, no_task
from upshotd.domain.errors import InvalidArgument, NotFound, Violation

log = structlog.get_logger()

T = TypeVar("T")

#: What their names begin with among all definitions; no workflow can have such an id.
TEMPLATES: Final = "template:"
TOPICS: Final = "topic:"
AUDIENCES: Final = "audience:"
#: Says up to which version of an audience everybody was looked at.
FILLED: Final = "audience-filled:"


def is_workflow(name: str) -> bool:
    """Return whether a definition of this name is a workflow."""
    return ":" not in name


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of thing that is defined."""

    prefix: str
    id_of: Callable[[T], str]
    #: Canonical: equal things, equal bytes.
    encode: Callable[[T], bytes]
    decode: Callable[[bytes, int], T]
    validate: Callable[[T], tuple[Violation, ...]]
    #: Makes what is to be done in the background for a new version.
    task: Callable[[str, T], Task] = lambda _workspace_id, _thing: no_task
    #: Is called when a version was stored.
    wake: Callable[[], None] = lambda: None

    @property
    def word(self) -> str:
        """What it is called."""
        return self.prefix.removesuffix(":")


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """One version of it."""

    thing: T
    version: int
    #: When it was defined, in microseconds.
    create_us: int


class Shelf(Generic[T]):
    """Stores things of one kind, and gives them back."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        kind: Kind[T],
        refresh: Callable[[str], Awaitable[None]],
    ) -> None:
        """*refresh* makes a workspace's new version known to the loop."""
        self._store = store
        self._clock = clock
        self._kind = kind
        self._refresh = refresh

    async def define(self, workspace_id: str, thing: T, *, validate_only: bool) -> Defined:
        """Store *thing* as a new version unless it equals the current one.

        Raises InvalidArgument with every fault.
        """
        kind = self._kind
        faults = kind.validate(thing)
        if faults:
            raise InvalidArgument.of(faults)
        name, definition = kind.prefix + kind.id_of(thing), kind.encode(thing)
        if validate_only:
            current = await self._store.workflow(workspace_id, name, 0)
            version = current.version if current is not None else 0
            unchanged = current is not None and current.definition == definition
            return Defined(version if unchanged else version + 1, unchanged)
        now_us = self._clock.now_us()
        task = kind.task(workspace_id, thing)
        defined = await self._store.define(workspace_id, name, definition, None, now_us, task)
        await self._refresh(workspace_id)
        kind.wake()
        if not defined.unchanged:
            which = {f"{kind.word}_id": kind.id_of(thing)}
            log.info(
                "definition.defined",
                workspace_id=workspace_id,
                version=defined.version,
                **which,
            )
        return defined

    async def get(self, workspace_id: str, thing_id: str, version: int) -> Kept[T]:
        """Return one version, the current one for 0. Raises NotFound."""
        stored = await self._store.workflow(workspace_id, self._kind.prefix + thing_id, version)
        if stored is None:
            raise NotFound(self._kind.word, f"{thing_id}/{version}" if version else thing_id)
        return self._decoded(stored)

    async def list(self, workspace_id: str, page_size: int, page_token: str) -> Page[Kept[T]]:
        """Return current versions, by id. Raises InvalidArgument for a bad page."""
        asked, prefix = pages.asked(page_size, page_token), self._kind.prefix
        current = await self._store.current_workflows(workspace_id)
        found = [
            stored
            for stored in current
            if stored.workflow_id.startswith(prefix) and stored.workflow_id > prefix + asked.last
        ]
        page = asked.page(found, lambda stored: stored.workflow_id.removeprefix(prefix))
        return Page([self._decoded(stored) for stored in page.items], page.next_page_token)

    def _decoded(self, stored: StoredWorkflow) -> Kept[T]:
        thing = self._kind.decode(stored.definition, stored.version)
        return Kept(thing, stored.version, stored.create_us)
