"""Outcomes as a relay reads them."""

from datetime import UTC, datetime

from google.protobuf.struct_pb2 import Struct

from upshot.v1 import outcome_pb2 as pb
from upshotd.domain.outcome import OutcomeKind, event_name

ID = "0190c5a2-7a10-7000-8000-000000000001"


def outcome(kind: OutcomeKind = OutcomeKind.MESSAGE_SENT, **fields: object) -> pb.Outcome:
    given: dict[str, object] = {
        "outcome_id": ID,
        "kind": int(kind),
        "event": event_name(kind),
        "user_id": "ana",
    }
    made = pb.Outcome(**(given | fields))  # type: ignore[arg-type]
    if "occur_time" not in fields:
        made.occur_time.FromDatetime(datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC))
    return made


def custom(properties: dict[str, object], **fields: object) -> pb.Outcome:
    struct = Struct()
    struct.update(properties)
    given: dict[str, object] = {"event": "Trial Nudged", "properties": struct}
    return outcome(OutcomeKind.CUSTOM, **(given | fields))
