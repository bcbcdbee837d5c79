"""What turns values into the bytes that are stored, as the application sees it."""

from collections.abc import Mapping
from typing import Protocol

from upshotd.domain.audience import Audience
from upshotd.domain.consent import Topic
from upshotd.domain.event import Event
from upshotd.domain.outcome import Outcome
from upshotd.domain.state import Identity, StoredEvent
from upshotd.domain.template import Template
from upshotd.domain.workflow import Workflow


class Codec(Protocol):
    """Turns values into the bytes that are stored, in the encoding of the contract."""

    def encode_outcome(self, outcome: Outcome, partition: int, position: int) -> bytes:
        """Return *outcome* at its place, encoded as one field of a response: whatever stands
        behind each other in the log is ready to be sent."""

    def erased_outcome(
        self, body: bytes, users: Mapping[str, int], anonymous: Mapping[str, int]
    ) -> bytes | None:
        """Return an encoded outcome without what is personal, if it is about one of these people.

        Both map ids to the microsecond until which outcomes are erased. None where there is nothing
        to do.
        """

    def decode_event(self, stored: StoredEvent) -> Event:
        """Return the event of a stored payload, with the stored id and times."""

    def scheduled_event(
        self, event_id: str, identity: Identity, workflow_id: str, event_us: int, receive_us: int
    ) -> Event:
        """Return the event by which a workflow's schedule comes to a person."""

    def audience_event(self, event: Event) -> Event:
        """Return an event by which a workflow hears of an audience, with its payload."""

    def event_json(self, payload: bytes) -> str:
        """Return a payload as protobuf JSON for people, cut to 64 KiB."""

    def encode_workflow(self, workflow: Workflow) -> bytes:
        """Return the canonical encoding, without the version: equal definitions, equal bytes."""

    def decode_workflow(self, definition: bytes, version: int) -> Workflow:
        """Return the workflow of a stored definition."""

    def encode_topic(self, topic: Topic) -> bytes:
        """Return the canonical encoding, without the version."""

    def decode_topic(self, definition: bytes, version: int) -> Topic:
        """Return the topic of a stored definition."""

    def encode_audience(self, audience: Audience) -> bytes:
        """Return the canonical encoding, without the version."""

    def decode_audience(self, definition: bytes, version: int) -> Audience:
        """Return the audience of a stored definition."""

    def encode_template(self, template: Template) -> bytes:
        """Return the canonical encoding, without the version."""

    def decode_template(self, definition: bytes, version: int) -> Template:
        """Return the template of a stored definition."""
