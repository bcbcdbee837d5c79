"""Templates: defined, and looked at. They are kept as workflows are, by names of their own."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from upshotd.application import pages
from upshotd.application.codec import Codec
from upshotd.application.pages import Page
from upshotd.application.ports import Clock, Defined, Store, StoredWorkflow
from upshotd.domain.errors import InvalidArgument, NotFound, Violation
from upshotd.domain.template import Template

log = structlog.get_logger()

#: What the names of templates begin with among all definitions; no workflow can have it.
PREFIX: Final = "template:"


@dataclass(frozen=True, slots=True)
class DefinedTemplate:
    """One version of a template."""

    template: Template
    #: When it was defined, in microseconds.
    create_us: int


class TemplateShelf:
    """Stores templates that can be used, and gives them back."""

    def __init__(
        self,
        store: Store,
        codec: Codec,
        clock: Clock,
        validate: Callable[[Template], tuple[Violation, ...]],
        refresh: Callable[[str], Awaitable[None]],
    ) -> None:
        """*validate* finds faults; *refresh* makes a workspace's new version known to the loop."""
        self._store = store
        self._codec = codec
        self._clock = clock
        self._validate = validate
        self._refresh = refresh

    async def define(
        self, workspace_id: str, template: Template, *, validate_only: bool
    ) -> Defined:
        """Store *template* as a new version unless it equals the current one.

        Raises InvalidArgument with every fault.
        """
        faults = self._validate(template)
        if faults:
            text = "; ".join(f"{fault.field} {fault.description}" for fault in faults)
            raise InvalidArgument(text, faults)
        name = PREFIX + template.template_id
        definition = self._codec.encode_template(template)
        if validate_only:
            current = await self._store.workflow(workspace_id, name, 0)
            version = current.version if current is not None else 0
            unchanged = current is not None and current.definition == definition
            return Defined(version if unchanged else version + 1, unchanged)
        now_us = self._clock.now_us()
        defined = await self._store.define(workspace_id, name, definition, None, now_us)
        await self._refresh(workspace_id)
        if not defined.unchanged:
            log.info(
                "template.defined",
                workspace_id=workspace_id,
                template_id=template.template_id,
                version=defined.version,
            )
        return defined

    async def get(self, workspace_id: str, template_id: str, version: int) -> DefinedTemplate:
        """Return one version, the current one for 0. Raises NotFound."""
        stored = await self._store.workflow(workspace_id, PREFIX + template_id, version)
        if stored is None:
            raise NotFound("template", f"{template_id}/{version}" if version else template_id)
        return self._decoded(stored)

    async def list(
        self, workspace_id: str, page_size: int, page_token: str
    ) -> Page[DefinedTemplate]:
        """Return current versions, by id. Raises InvalidArgument for a bad page."""
        asked = pages.asked(page_size, page_token)
        current = await self._store.current_workflows(workspace_id)
        found = [
            stored
            for stored in current
            if stored.workflow_id.startswith(PREFIX) and stored.workflow_id > PREFIX + asked.last
        ]
        page = asked.page(found, lambda stored: stored.workflow_id.removeprefix(PREFIX))
        return Page([self._decoded(stored) for stored in page.items], page.next_page_token)

    def _decoded(self, stored: StoredWorkflow) -> DefinedTemplate:
        template = self._codec.decode_template(stored.definition, stored.version)
        return DefinedTemplate(template, stored.create_us)
