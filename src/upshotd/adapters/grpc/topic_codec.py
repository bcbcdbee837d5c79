"""Topics and preferences of the contract <-> those of the domain."""

import re
from typing import Final

from upshot.v1 import admin_pb2 as pb
from upshot.v1 import outcome_pb2
from upshotd.adapters.grpc.reading import Reading
from upshotd.domain.consent import Preference, Topic, TopicDefault
from upshotd.domain.errors import Violation

#: Longest text for people, in characters.
TEXT_MAX: Final = 1_000
_TOPIC_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def topic(message: pb.Topic) -> tuple[Topic, tuple[Violation, ...]]:
    """Return the topic, as far as *message* says one, and every fault of it by path."""
    reading = Reading()
    reading.unknown_fields(message, "topic")
    default = TopicDefault.OPTED_IN
    if message.default:
        default = reading.enum(TopicDefault, message.default, "topic.default", default)
    read = Topic(message.topic_id, message.display_name, message.description, default)
    return read, (*reading.violations, *faults(read))


def faults(topic: Topic) -> tuple[Violation, ...]:
    """Return what is wrong with *topic*."""
    found = []
    if not _TOPIC_ID.fullmatch(topic.topic_id):
        text = f"{topic.topic_id!r} does not match {_TOPIC_ID.pattern}"
        found.append(Violation("topic.topic_id", text))
    texts = {"display_name": topic.display_name, "description": topic.description}
    text = f"at most {TEXT_MAX} characters are taken"
    long = (name for name, given in texts.items() if len(given) > TEXT_MAX)
    return (*found, *(Violation(f"topic.{name}", text) for name in long))


def message(topic: Topic) -> pb.Topic:
    """Return *topic* as a message, without its version."""
    return pb.Topic(
        topic_id=topic.topic_id,
        display_name=topic.display_name,
        description=topic.description,
        default=pb.TopicDefault.ValueType(topic.default),
    )


def encode_topic(topic: Topic) -> bytes:
    """Return the canonical encoding of *topic*, without its version."""
    return message(topic).SerializeToString(deterministic=True)


def decode_topic(definition: bytes, version: int) -> Topic:
    """Return the topic of a stored definition."""
    read, _ = topic(pb.Topic.FromString(definition))
    return Topic(read.topic_id, read.display_name, read.description, read.default, version)


def preference(found: Preference) -> pb.Preference:
    """Return what holds for a person and a topic."""
    status = pb.PREFERENCE_STATUS_OPTED_IN if found.wanted else pb.PREFERENCE_STATUS_OPTED_OUT
    return pb.Preference(
        topic=message(found.topic),
        status=status,
        chosen=found.chosen,
        channels_off=[outcome_pb2.Channel.ValueType(c) for c in sorted(found.channels_off)],
    )
