"""Events of the contract -> events of the domain, as they come and as they are stored."""

from collections.abc import Mapping

from google.protobuf.json_format import MessageToJson, SerializeToJsonError
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from upshot.v1 import audience_pb2 as pb_audience
from upshot.v1 import event_pb2 as pb
from upshotd.adapters.grpc import audience_codec
from upshotd.adapters.grpc.structs import LazyStruct
from upshotd.adapters.grpc.times import clamped, instant_us
from upshotd.domain.audience import Transition
from upshotd.domain.event import Event, EventType, corrected_time
from upshotd.domain.state import Identity, IdKind, StoredEvent

#: Longest form for people, in bytes.
JSON_BYTES_MAX = 64 * 1024

_NOTHING: Mapping[str, object] = {}
_OURS = (EventType.SCHEDULED, EventType.AUDIENCE)


def event(message: pb.Event, receive_us: int) -> Event:
    """Return the event that came at *receive_us*, with its corrected time.

    Raises nothing: what is wrong with an event the domain says of the value. A call that is
    missing, or of a kind this server does not know, is EventType.UNSPECIFIED.
    """
    original_us = instant_us(message.event_time) if message.HasField("event_time") else None
    sent_us = instant_us(message.sent_time) if message.HasField("sent_time") else None
    event_us = clamped(corrected_time(receive_us, sent_us, original_us))
    payload = message.SerializeToString()
    read = _event(message, message.event_id, receive_us, event_us, payload)
    # What only the server says is no call that anybody can make.
    return read._replace(type=EventType.UNSPECIFIED) if read.type in _OURS else read


def scheduled_event(
    event_id: str, identity: Identity, workflow_id: str, event_us: int, receive_us: int
) -> Event:
    """Return the event by which a workflow's schedule comes to a person."""
    kind, value = identity
    message = pb.Event(event_id=event_id, scheduled=pb.Scheduled(workflow_id=workflow_id))
    if kind is IdKind.USER:
        message.user_id = value
    else:
        message.anonymous_id = value
    message.event_time.FromMicroseconds(event_us)
    return _event(message, event_id, receive_us, event_us, message.SerializeToString())


def audience_event(event: Event) -> Event:
    """Return an event by which a workflow hears of an audience, with its payload."""
    transition = Transition[str(event.properties["transition"])]
    changed = pb.AudienceChanged(
        audience_id=event.name,
        transition=audience_codec.transition_number(transition),
        reason=str(event.properties["reason"]),
    )
    message = pb.Event(
        event_id=event.event_id,
        user_id=event.user_id,
        anonymous_id=event.anonymous_id,
        audience_changed=changed,
    )
    message.event_time.FromMicroseconds(event.event_us)
    payload = message.SerializeToString()
    return event._replace(payload=payload, size=len(payload))


def decode_event(stored: StoredEvent) -> Event:
    """Return the event of a stored payload, with the stored id and times."""
    message = pb.Event.FromString(stored.payload)
    return _event(message, stored.event_id, stored.receive_us, stored.event_us, stored.payload)


def event_json(payload: bytes) -> str:
    """Return a payload as protobuf JSON for people, cut to 64 KiB."""
    try:
        message = pb.Event.FromString(payload)
    except DecodeError:
        return ""
    try:
        text = MessageToJson(message, preserving_proto_field_name=True, indent=None)
    except (SerializeToJsonError, ValueError):
        # NaN and times out of range have no JSON; people can still read protobuf's own text.
        text = str(message)
    return text.encode()[:JSON_BYTES_MAX].decode(errors="ignore")


def _event(  # noqa: C901 - a case for each call
    message: pb.Event, event_id: str, receive_us: int, event_us: int, payload: bytes
) -> Event:
    kind = EventType.UNSPECIFIED
    name = group_id = previous_id = ""
    properties = traits = _NOTHING
    match message.WhichOneof("call"):
        case "track":
            kind, name = EventType.TRACK, message.track.event
            properties = _lazy(message.track)
        case "identify":
            kind, traits = EventType.IDENTIFY, _lazy_traits(message.identify)
        case "group":
            kind, group_id = EventType.GROUP, message.group.group_id
            traits = _lazy_traits(message.group)
        case "page":
            kind, name, properties = EventType.PAGE, message.page.name, _lazy(message.page)
        case "screen":
            kind, name = EventType.SCREEN, message.screen.name
            properties = _lazy(message.screen)
        case "alias":
            kind, previous_id = EventType.ALIAS, message.alias.previous_id
        case "delete":
            kind = EventType.DELETE
        case "scheduled":
            kind, name = EventType.SCHEDULED, message.scheduled.workflow_id
        case "audience_changed":
            kind, name = EventType.AUDIENCE, message.audience_changed.audience_id
            properties = _of_change(message.audience_changed)
        case None:
            pass
    return Event(
        event_id=event_id,
        type=kind,
        user_id=message.user_id,
        anonymous_id=message.anonymous_id,
        name=name,
        properties=properties,
        traits=traits,
        context=_mapping(message.context) if message.HasField("context") else _NOTHING,
        group_id=group_id,
        previous_id=previous_id,
        receive_us=receive_us,
        event_us=event_us,
        size=len(payload),
        payload=payload,
    )


def _of_change(changed: pb.AudienceChanged) -> Mapping[str, object]:
    if changed.transition not in pb_audience.AudienceTransition.values()[1:]:  # from outside
        return _NOTHING
    transition = Transition(changed.transition).name
    named = {"audience_id": changed.audience_id, "transition": transition}
    return {**named, "reason": changed.reason}


def _mapping(struct: Struct) -> Mapping[str, object]:
    return LazyStruct(struct) if struct.fields else _NOTHING


def _lazy(call: pb.Track | pb.Page | pb.Screen) -> Mapping[str, object]:
    return _mapping(call.properties)


def _lazy_traits(call: pb.Identify | pb.Group) -> Mapping[str, object]:
    return _mapping(call.traits)
