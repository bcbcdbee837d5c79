"""What is defined beside workflows, each kind on its shelf: templates, topics and audiences."""

from collections.abc import Awaitable, Callable

from upshotd.adapters.grpc import topic_codec
from upshotd.application import shelf
from upshotd.application.codec import Codec
from upshotd.application.filling import Filling
from upshotd.application.ports import Clock, Store, Task
from upshotd.application.shelf import Kind, Shelf
from upshotd.domain.audience import Audience
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


def audiences(
    store: Store,
    clock: Clock,
    codec: Codec,
    faults: Callable[[Audience], tuple[Violation, ...]],
    refresh: Callable[[str], Awaitable[None]],
    wake: Callable[[], None],
) -> Shelf[Audience]:
    """Return where audiences are kept; *wake* is called when one is to be filled."""

    def task(workspace_id: str, audience: Audience) -> Task:
        def fill(version: int) -> tuple[str, str]:
            begun = Filling(workspace_id, audience.audience_id, version, clock.now_us())
            return begun.name, begun.encoded()

        return fill

    kind: Kind[Audience] = Kind(
        shelf.AUDIENCES,
        lambda audience: audience.audience_id,
        codec.encode_audience,
        codec.decode_audience,
        faults,
        task,
        wake,
    )
    return Shelf(store, clock, kind, refresh)
