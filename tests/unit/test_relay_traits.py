"""Identify calls that say when a person last engaged, and none that takes it back."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from tests.relay_outcomes import ID, outcome
from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.envelope import CallRules
from upshotd.adapters.relay.far_end import NotExported
from upshotd.adapters.relay.segment import Segment, SegmentSettings
from upshotd.adapters.relay.track import track_call
from upshotd.adapters.relay.traits import LastEngagements
from upshotd.domain.event import Event, EventType
from upshotd.domain.outcome import OutcomeKind

RULES = CallRules(version="1")
OPENED, CLICKED, REPLIED = (
    OutcomeKind.MESSAGE_OPENED,
    OutcomeKind.MESSAGE_CLICKED,
    OutcomeKind.MESSAGE_REPLIED,
)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def at(minutes: int, kind: OutcomeKind = OPENED, **fields: object) -> pb.Outcome:
    time = Timestamp()
    time.FromDatetime(NOON + timedelta(minutes=minutes))
    return outcome(kind, **{"channel": pb.CHANNEL_EMAIL, **fields, "occur_time": time})


def traits(call: dict[str, object] | None) -> dict[str, object]:
    assert call is not None
    found = call["traits"]
    assert isinstance(found, dict)
    return found


def test_an_open_is_told_whole() -> None:
    assert LastEngagements(RULES).call(at(0)) == {
        "type": "identify",
        "messageId": f"upshot-{ID}-traits",
        "userId": "ana",
        "timestamp": "2026-01-31T12:00:00.000Z",
        "traits": {
            "last_message_opened_at": "2026-01-31T12:00:00.000Z",
            "last_engaged_at": "2026-01-31T12:00:00.000Z",
            "last_engaged_channel": "email",
        },
        "context": {"library": {"name": "upshot", "version": "1"}, "upshot": {"outcome_id": ID}},
        "integrations": {"Upshot": False},
    }


@pytest.mark.parametrize(
    ("kind", "trait"),
    [
        (OPENED, "last_message_opened_at"),
        (CLICKED, "last_message_clicked_at"),
        (REPLIED, "last_message_replied_at"),
    ],
)
def test_each_engagement_has_a_trait(kind: OutcomeKind, trait: str) -> None:
    found = traits(LastEngagements(RULES).call(at(0, kind, channel=pb.CHANNEL_SMS)))

    assert set(found) == {trait, "last_engaged_at", "last_engaged_channel"}
    assert found["last_engaged_channel"] == "sms"


@pytest.mark.parametrize("kind", [k for k in OutcomeKind if k not in (OPENED, CLICKED, REPLIED)])
def test_nothing_else_is_an_engagement(kind: OutcomeKind) -> None:
    assert LastEngagements(RULES).call(at(0, kind)) is None


def test_software_does_not_engage() -> None:
    assert LastEngagements(RULES).call(at(0, machine=True)) is None


def test_an_engagement_without_a_time_dates_nothing() -> None:
    assert LastEngagements(RULES).call(at(0, occur_time=None)) is not None
    made = at(0)
    made.ClearField("occur_time")
    assert LastEngagements(RULES).call(made) is None


def test_what_comes_late_takes_nothing_back() -> None:
    told = LastEngagements(RULES)
    told.call(at(10, CLICKED, channel=pb.CHANNEL_SMS))

    # The open was earlier: it is news as an open, and not as the last engagement.
    assert traits(told.call(at(5))) == {"last_message_opened_at": "2026-01-31T12:05:00.000Z"}
    assert told.call(at(4)) is None
    assert told.call(at(5)) is None
    assert set(traits(told.call(at(11)))) == {
        *("last_message_opened_at", "last_engaged_at", "last_engaged_channel")
    }


def test_people_do_not_stand_in_each_others_way() -> None:
    told = LastEngagements(RULES)
    told.call(at(10))

    assert told.call(at(5, user_id="ben")) is not None
    assert told.call(at(5, user_id="", anonymous_id="ana")) is not None


def test_only_so_many_people_are_remembered() -> None:
    told = LastEngagements(RULES, people_max=2)
    for user_id in ("ana", "ben", "cleo"):
        told.call(at(10, user_id=user_id))

    assert told.call(at(5, user_id="ben")) is None
    assert told.call(at(5, user_id="ana")) is not None, "the longest unheard-of was forgotten"


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([OPENED, CLICKED, REPLIED]))))
def test_whoever_applies_the_calls_as_they_come_has_the_newest(
    log: list[tuple[int, OutcomeKind]],
) -> None:
    told, profile = LastEngagements(RULES), dict[str, object]()
    for minutes, kind in log:
        call = told.call(at(minutes, kind))
        profile |= traits(call) if call is not None else {}

    newest = max((minutes for minutes, _ in log), default=None)
    for kind in (OPENED, CLICKED, REPLIED):
        times = [minutes for minutes, k in log if k is kind]
        trait = f"last_{kind.name.lower()}_at"
        assert profile.get(trait) == (_text(max(times)) if times else None)
    assert profile.get("last_engaged_at") == (_text(newest) if newest is not None else None)


def _text(minutes: int) -> str:
    return f"{NOON + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S}.000Z"


def test_an_identify_of_ours_is_known_when_it_comes_back() -> None:
    call = LastEngagements(RULES).call(at(0))
    assert call is not None

    assert Event(str(call["messageId"]), EventType.IDENTIFY).own


async def test_segment_gets_the_identify_after_the_track_and_only_if_asked() -> None:
    for identify, types in ((True, [b'"track"', b'"identify"']), (False, [b'"track"'])):
        far_end = Segment(SegmentSettings("http://x", "key", RULES, identify), lambda: 0)
        items = far_end.items(at(0))
        await far_end.close()
        assert not isinstance(items, NotExported)
        assert len(items) == len(types)
        assert all(kind in item.body for kind, item in zip(types, items, strict=True))


def test_what_is_not_exported_gives_no_traits() -> None:
    only_sent = CallRules(version="1", kinds=frozenset({OutcomeKind.MESSAGE_SENT}))

    assert track_call(at(0), only_sent) is NotExported.NOT_SELECTED
