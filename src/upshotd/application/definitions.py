"""The workflows in force, decoded once for each version and kept."""

from collections.abc import Iterable

from upshotd.application.codec import Codec
from upshotd.application.ports import (
    Store,
    StoredWorkflow,
)
from upshotd.application.shelf import AUDIENCES, FILLED, TEMPLATES, TOPICS
from upshotd.domain.audience import Audience
from upshotd.domain.audiences import AudiencePlan, Audiences
from upshotd.domain.consent import Topic
from upshotd.domain.definitions import Definitions, listening
from upshotd.domain.plan import Plan
from upshotd.domain.template import Library, Template
from upshotd.domain.values import replace


class DefinitionBook:
    """Holds one immutable `Definitions` for each workspace that was asked for."""

    def __init__(self, store: Store, codec: Codec, blank: Definitions) -> None:
        """Start empty; *blank* carries what all workspaces share: languages, routes, policy."""
        self._store = store
        self._codec = codec
        self._blank = blank
        #: Sums of the current versions, as `State.definitions_revision`.
        self._revisions: dict[str, int] = {}
        self._books: dict[str, Definitions] = {}

    @property
    def owner(self) -> str:
        """This process, as the owner of leases."""
        return self._blank.owner

    def adopt(self, owner: str) -> None:
        """Decide as *owner* from now on."""
        self._blank = replace(self._blank, owner=owner)
        self._books = {name: replace(book, owner=owner) for name, book in self._books.items()}

    def newest(self, workspace_id: str, revision: int) -> bool:
        """Return whether nothing was defined elsewhere since the workspace was read."""
        return self._revisions.get(workspace_id, 0) >= revision

    async def of(self, workspace_id: str) -> Definitions:
        """Return the definitions of a workspace."""
        if workspace_id not in self._books:
            await self.refresh(workspace_id)
        return self._books[workspace_id]

    def known(self, workspace_id: str) -> Definitions:
        """Return the definitions of a workspace that was asked for before, as they are by now."""
        return self._books[workspace_id]

    async def refresh(self, workspace_id: str) -> None:
        """Read the current versions again, after one was defined."""
        stored = await self._store.current_workflows(workspace_id)
        revision = sum(version.version for version in stored)
        known = self._books.get(workspace_id, self._blank)
        plans = dict(known.plans)
        current: dict[str, Plan] = {}
        templates: dict[str, Template] = {}
        topics: dict[str, Topic] = {}
        audiences: list[Audience] = []
        filled: dict[str, int] = {}
        for version in stored:
            if not version.definition:  # archived: it starts nothing, and is enrolled in by nobody
                continue
            if version.workflow_id.startswith(TEMPLATES):
                template = self._codec.decode_template(version.definition, version.version)
                templates[template.template_id] = template
                continue
            if version.workflow_id.startswith(TOPICS):
                topic = self._codec.decode_topic(version.definition, version.version)
                topics[topic.topic_id] = topic
                continue
            if version.workflow_id.startswith(AUDIENCES):
                audiences.append(self._audience(known, version))
                continue
            if version.workflow_id.startswith(FILLED):
                filled[version.workflow_id.removeprefix(FILLED)] = int(version.definition)
                continue
            key = (version.workflow_id, version.version)
            if key not in plans:
                plans[key] = self._plan(version.definition, version.version)
            current[version.workflow_id] = plans[key]
        library = Library(templates)
        members = Audiences.of(
            AudiencePlan.of(one, filled=filled.get(one.audience_id) == one.version)
            for one in audiences
        )
        if revision < self._revisions.get(workspace_id, 0):
            # A refresh that read later has ended sooner.
            current, library, topics = dict(known.current), known.library, dict(known.topics)
            members = known.audiences
        self._revisions[workspace_id] = max(revision, self._revisions.get(workspace_id, 0))
        # A decision under way keeps the book it was given.
        self._books[workspace_id] = replace(
            known,
            plans=plans,
            current=current,
            listening=listening(current),
            library=library,
            topics=topics,
            audiences=members,
        )

    async def covering(self, workspace_id: str, versions: Iterable[tuple[str, int]]) -> Definitions:
        """Return the definitions with the plans of all *versions*, older ones too."""
        book = await self.of(workspace_id)
        missing = {key for key in versions if key not in book.plans}
        if not missing:
            return book
        found: dict[tuple[str, int], Plan] = {}
        for workflow_id, version in missing:
            stored = await self._store.workflow(workspace_id, workflow_id, version)
            if stored is not None and stored.definition:
                found[workflow_id, version] = self._plan(stored.definition, version)
        # The book as it is by now: another version may have been defined meanwhile.
        book = self._books[workspace_id]
        book = replace(book, plans={**book.plans, **found})
        self._books[workspace_id] = book
        return book

    def _audience(self, known: Definitions, stored: StoredWorkflow) -> Audience:
        """Return an audience, decoded once for each version."""
        plan = known.audiences.plans.get(stored.workflow_id.removeprefix(AUDIENCES))
        if plan is not None and plan.audience.version == stored.version:
            return plan.audience
        return self._codec.decode_audience(stored.definition, stored.version)

    def _plan(self, definition: bytes, version: int) -> Plan:
        return Plan.of(self._codec.decode_workflow(definition, version))
