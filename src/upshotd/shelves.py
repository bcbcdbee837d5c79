"""What is defined beside workflows, each kind on a shelf of its own: templates and topics."""

from collections.abc import Awaitable, Callable

from upshotd.adapters.grpc import topic_codec
from upshotd.application import shelf
from upshotd.application.codec import Codec
from upshotd.application.ports import Clock, Store
from upshotd.application.shelf import Kind, Shelf
from upshotd.domain.consent import Topic
from upshotd.domain.errors import Violation
from upshotd.domain.template import Template


def templates(
    store: Store,
    clock: Clock,
    codec: Codec,
    faults: Callable[[Template], tuple[Violation, ...]],
    refresh: Callable[[str], Awaitable[None]],
) -> Shelf[Template]:
    """Return where reusable templates are kept."""
    kind: Kind[Template] = Kind(
        shelf.TEMPLATES,
        lambda template: template.template_id,
        codec.encode_template,
        codec.decode_template,
        faults,
    )
    return Shelf(store, clock, kind, refresh)


def topics(
    store: Store, clock: Clock, codec: Codec, refresh: Callable[[str], Awaitable[None]]
) -> Shelf[Topic]:
    """Return where topics are kept."""
    kind: Kind[Topic] = Kind(
        shelf.TOPICS,
        lambda topic: topic.topic_id,
        codec.encode_topic,
        codec.decode_topic,
        topic_codec.faults,
    )
    return Shelf(store, clock, kind, refresh)
