"""The codec of the contract: what the application's `Codec` port asks for."""

from collections.abc import Mapping

from upshotd.adapters.grpc import (
    audience_codec,
    event_codec,
    outcome_codec,
    template_codec,
    topic_codec,
    workflow_codec,
)
from upshotd.domain.audience import Audience
from upshotd.domain.consent import Topic
from upshotd.domain.event import Event
from upshotd.domain.outcome import Outcome
from upshotd.domain.state import Identity, StoredEvent
from upshotd.domain.template import Template
from upshotd.domain.workflow import Workflow


class ContractCodec:
    """Stores values in the encoding of `upshot.v1`."""

    def encode_outcome(self, outcome: Outcome, partition: int, position: int) -> bytes:
        return outcome_codec.encode_outcome(outcome, partition, position)

    def erased_outcome(
        self, body: bytes, users: Mapping[str, int], anonymous: Mapping[str, int]
    ) -> bytes | None:
        return outcome_codec.erased_outcome(body, users, anonymous)

    def decode_event(self, stored: StoredEvent) -> Event:
        return event_codec.decode_event(stored)

    def scheduled_event(
        self, event_id: str, identity: Identity, workflow_id: str, event_us: int, receive_us: int
    ) -> Event:
        return event_codec.scheduled_event(event_id, identity, workflow_id, event_us, receive_us)

    def audience_event(self, event: Event) -> Event:
        return event_codec.audience_event(event)

    def event_json(self, payload: bytes) -> str:
        return event_codec.event_json(payload)

    def encode_workflow(self, workflow: Workflow) -> bytes:
        return workflow_codec.encode_workflow(workflow)

    def decode_workflow(self, definition: bytes, version: int) -> Workflow:
        return workflow_codec.decode_workflow(definition, version)

    def encode_topic(self, topic: Topic) -> bytes:
        return topic_codec.encode_topic(topic)

    def decode_topic(self, definition: bytes, version: int) -> Topic:
        return topic_codec.decode_topic(definition, version)

    def encode_audience(self, audience: Audience) -> bytes:
        return audience_codec.encode_audience(audience)

    def decode_audience(self, definition: bytes, version: int) -> Audience:
        return audience_codec.decode_audience(definition, version)

    def encode_template(self, template: Template) -> bytes:
        return template_codec.encode_template(template)

    def decode_template(self, definition: bytes, version: int) -> Template:
        return template_codec.decode_template(definition, version)
