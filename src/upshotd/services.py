"""What callers can ask, service by service, made from the parts of a server."""

from dataclasses import dataclass

from upshotd import shelves
from upshotd.adapters.contacts import contact_rules
from upshotd.adapters.grpc.admin_service import AdminCases, AdminService
from upshotd.adapters.grpc.key_service import KeyService
from upshotd.adapters.grpc.lab_service import LabService
from upshotd.adapters.grpc.server import Services
from upshotd.adapters.grpc.subscription_service import SubscriptionService
from upshotd.adapters.grpc.upshot_service import UpshotService
from upshotd.application.admin import Admin
from upshotd.application.approvals import Approvals
from upshotd.application.audience_admin import AudienceAdmin
from upshotd.application.codec import Codec
from upshotd.application.definitions import DefinitionBook
from upshotd.application.experiments import Experiments
from upshotd.application.health import ProviderHealth
from upshotd.application.keys import Keys
from upshotd.application.lab import Lab
from upshotd.application.loop import Loop
from upshotd.application.outcomes import OutcomeStreams
from upshotd.application.ports import Clock, Store
from upshotd.application.preferences import Preferences
from upshotd.application.subscriptions import Subscriptions
from upshotd.application.suppressions import Suppressions
from upshotd.application.workflows import Workflows
from upshotd.background import Background
from upshotd.checks import Checks
from upshotd.config import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """What services are made from."""

    settings: Settings
    store: Store
    clock: Clock
    codec: Codec
    checks: Checks
    book: DefinitionBook
    loop: Loop
    background: Background
    health: ProviderHealth
    streams: OutcomeStreams
    keys: Keys
    #: None unless the clock can be moved.
    lab: Lab | None


def services(parts: Parts) -> Services:
    """Return all services; that of the lab only where there is one."""
    workflows = Workflows(
        parts.store,
        parts.codec,
        parts.clock,
        parts.checks.workflow,
        parts.book.refresh,
        parts.background.look_at_workflows,
        parts.checks.steps_named,
    )
    return Services(
        upshot=UpshotService(
            parts.loop,
            workflows,
            parts.streams,
            parts.clock,
            contact_rules(parts.settings.contact, parts.settings.default_region),
            parts.background.erasing.wake,
        ),
        subscriptions=SubscriptionService(Subscriptions(parts.store, parts.clock)),
        admin=AdminService(_admin(parts, workflows)),
        keys=KeyService(parts.keys),
        lab=LabService(parts.lab) if parts.lab is not None else None,
    )


def _admin(parts: Parts, workflows: Workflows) -> AdminCases:
    store, clock, codec, book = parts.store, parts.clock, parts.codec, parts.book
    templates = shelves.templates(store, clock, codec, parts.checks.template, book.refresh)
    topics = shelves.topics(store, clock, codec, book.refresh)
    fill = parts.background.fillings.wake
    audiences = shelves.audiences(store, clock, codec, parts.checks.audience, book.refresh, fill)
    rules = contact_rules(parts.settings.contact, parts.settings.default_region)
    return AdminCases(
        admin=Admin(store),
        workflows=workflows,
        templates=templates,
        preferences=Preferences(store, parts.loop, clock, topics),
        suppressions=Suppressions(store, parts.loop, rules),
        erasing=parts.background.erasing,
        experiments=Experiments(store, workflows),
        loop=parts.loop,
        health=parts.health,
        audiences=AudienceAdmin(store, audiences, book, clock),
        approvals=Approvals(store, book),
    )
