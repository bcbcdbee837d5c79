"""What reached people wrongly from other systems of this kind, each told as it happened there.

The names say what went wrong; here it must not. On every store.
"""

import asyncio
import random

import pytest

from tests.flows import delay, email, track, wait_engagement
from tests.world import DAY, HOUR, MINUTE, World
from upshotd.application.ports import RunFilter
from upshotd.domain.errors import Unavailable
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Channel, Email, Refused
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.run import Run, RunState
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import Digest
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.throttle import Throttle
from upshotd.domain.stimulus import EngagementState, IngestState
from upshotd.domain.workflow import Reentry, ReentryMode, Step

ALWAYS = Reentry(ReentryMode.ALWAYS)
SUMMARY = Step("summary", Send(Channel.EMAIL, (Email("{{ steps.gather.count }}", text="x"),)))


def gather(key: str = "", **limits: int) -> Step:
    return Step("gather", Digest(key=key, **(limits or {"window_us": HOUR})))  # type: ignore[arg-type]


async def ana(scenario: World) -> None:
    await scenario.identify("ana", email="ana@example.com", first_name="Ana")


def go(number: int, **properties: object) -> Event:
    return Event(f"go-{number}", EventType.TRACK, "ana", name="Go", properties=properties)


def subjects(scenario: World) -> list[str]:
    contents = [delivery.content for delivery in scenario.email.ledger]
    return [content.subject for content in contents if isinstance(content, Email)]


async def runs(scenario: World) -> list[Run]:
    """Return all runs, oldest first."""
    found = await scenario.store.runs("default", RunFilter(), "", 1_000)
    return sorted(found, key=lambda run: (run.start_us, run.run_id))


async def test_two_events_in_one_second_made_two_digests(scenario: World) -> None:
    await scenario.define(track("Go", gather(), SUMMARY, reentry=ALWAYS))
    await ana(scenario)
    await asyncio.gather(*(scenario.ingest(go(n)) for n in range(2)))
    await scenario.advance(2 * HOUR)
    assert subjects(scenario) == ["2"]


async def test_a_delay_before_a_digest_sent_it_several_times(scenario: World) -> None:
    flow = track("Go", delay("pause", 10 * MINUTE), gather(), SUMMARY, reentry=ALWAYS)
    await scenario.define(flow)
    await ana(scenario)
    for n in range(3):
        await scenario.ingest(go(n))
        await scenario.advance(MINUTE)
    await scenario.advance(DAY)
    assert subjects(scenario) == ["3"]


async def test_the_key_of_a_digest_was_ignored_under_concurrency(scenario: World) -> None:
    await scenario.define(track("Go", gather("event.properties.project"), SUMMARY, reentry=ALWAYS))
    await ana(scenario)
    projects = ("p", "q", "p", "q", "p", "r")
    calls = (scenario.ingest(go(n, project=name)) for n, name in enumerate(projects))
    await asyncio.gather(*calls)
    await scenario.advance(2 * HOUR)
    assert sorted(subjects(scenario)) == ["1", "2", "3"]


async def test_a_digest_was_sent_again_when_it_was_retried_after_a_crash(
    scenario: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scenario.define(track("Go", gather(), SUMMARY, reentry=ALWAYS))
    await ana(scenario)
    for n in range(3):
        await scenario.ingest(go(n))
    commit, lost = scenario.store.commit, []

    async def commits_and_says_nothing(batch):  # type: ignore[no-untyped-def]
        await commit(batch)
        if not lost:
            lost.append(batch)
            raise Unavailable("the answer was lost")

    monkeypatch.setattr(scenario.store, "commit", commits_and_says_nothing)
    await scenario.advance(2 * HOUR)
    assert lost
    await scenario.advance(DAY)
    assert subjects(scenario) == ["3"]


async def test_a_throttle_counted_an_event_twice(scenario: World) -> None:
    throttle = Step("limit", Throttle(2, DAY))
    await scenario.define(track("Go", throttle, email(), reentry=ALWAYS))
    await ana(scenario)
    for _ in range(3):
        await scenario.ingest(go(1))  # the same event, as a sender repeats it
    await scenario.ingest(go(2))
    await scenario.ingest(go(3))
    await scenario.settle()
    assert len(scenario.email.ledger) == 2
    assert [run.reason for run in await runs(scenario)] == ["", "", "THROTTLED"]


async def test_mail_went_out_after_an_opt_out_during_a_delay(scenario: World) -> None:
    await scenario.define(track("Go", email("first"), delay(), email("second"), topic="tips"))
    await ana(scenario)
    await scenario.ingest(go(1))
    await scenario.settle()
    (first,) = scenario.email.ledger
    await scenario.engage(first.message_id, EngagementKind.UNSUBSCRIBED)
    await scenario.advance(2 * DAY)
    assert await scenario.story() == ["SENT EMAIL", "UNSUBSCRIBED EMAIL", "SUPPRESSED EMAIL"]


async def test_a_date_in_the_past_stopped_the_run_without_a_word(scenario: World) -> None:
    past = Step("past", Delay(until="timestamp(event.properties.at)"))
    await scenario.define(track("Go", past, email()))
    await ana(scenario)
    await scenario.ingest(go(1, at="2020-01-01T00:00:00Z"))
    await scenario.settle()
    assert len(scenario.email.ledger) == 1
    (run,) = await runs(scenario)
    assert any("goes on at once" in entry.detail for entry in run.timeline)


async def test_two_events_at_once_entered_twice_where_once_was_said(scenario: World) -> None:
    for mode in (ReentryMode.ONCE_ACTIVE, ReentryMode.ONCE_EVER):
        name = mode.name.lower().replace("_", "-")
        flow = track("Go", delay(), email(), workflow_id=name, reentry=Reentry(mode))
        await scenario.define(flow)
    await ana(scenario)
    await asyncio.gather(*(scenario.ingest(go(n)) for n in range(10)))
    assert sorted(run.workflow_id for run in await runs(scenario)) == ["once-active", "once-ever"]


async def test_a_branch_could_not_tell_the_opening_of_this_mail_from_another(
    scenario: World,
) -> None:
    opened = (Case("steps.second.opened", (email("warm", "Warm"),)),)
    branch = Step("which", Branch(opened, (email("cold", "Cold"),)))
    flow = track("Go", email("first", "First"), email("second", "Second"), delay(), branch)
    await scenario.define(flow)
    await ana(scenario)
    await scenario.ingest(go(1))
    await scenario.settle()
    first, _ = scenario.email.ledger
    await scenario.engage(first.message_id, EngagementKind.OPENED)
    await scenario.advance(2 * DAY)
    assert subjects(scenario) == ["First", "Second", "Cold"]


async def test_a_send_that_failed_stalled_the_run_and_the_third_mail_never_came(
    scenario: World,
) -> None:
    steps = (email("first"), wait_engagement("opened", "first"), email("second"), email("third"))
    await scenario.define(track("Go", *steps))
    await ana(scenario)
    scenario.email.answers = [
        Refused("BOUNCED", "no such address"),
        RuntimeError("a bug of theirs"),
    ]
    await scenario.ingest(go(1))
    await scenario.advance(10 * DAY)
    (run,) = await runs(scenario)
    assert run.state is RunState.COMPLETED
    assert len(scenario.email.ledger) >= 3
    assert (await scenario.story())[-1] == "SENT EMAIL"


async def test_an_id_that_cannot_be_stored_is_refused_alone(scenario: World) -> None:
    await scenario.define(track("Go", delay()))
    strange = Event("e1", EventType.TRACK, "a\0b", name="Go")
    refused, started, unknown = await asyncio.gather(
        scenario.ingest(strange),
        scenario.track("ana", "Go"),
        scenario.engage("a\0b", EngagementKind.OPENED),
    )
    assert refused[0].reason == "INVALID_USER_ID"
    assert len(started.started) == 1
    assert unknown.reason == "UNKNOWN_MESSAGE"


async def test_an_id_that_is_too_long_for_an_index_costs_nobody_else_their_answer(
    scenario: World,
) -> None:
    await scenario.define(track("Go", delay()))
    digits = random.Random(1).randbytes(30_000).hex()  # an index would not pack it
    long, started = await asyncio.gather(
        scenario.engage("", EngagementKind.OPENED, provider="smtp", provider_message_id=digits),
        scenario.track("ana", "Go"),
    )
    assert long.state in (EngagementState.PENDING, EngagementState.REJECTED)
    assert len(started.started) == 1


async def test_a_template_that_makes_no_text_stops_nobody(scenario: World) -> None:
    halves = r"{{ '\ud83d\ude00' }}"  # as JSON writes an emoji
    telling = track("Tell", Step("tell", Emit("Told", {"face": halves})), workflow_id="telling")
    asking = track("Ask", Step("ask", FetchStep(f"https://{halves}.example")), workflow_id="asking")
    for older in (telling, asking):  # than the check that refuses them
        definition = scenario.codec.encode_workflow(older)
        await scenario.store.define("default", older.workflow_id, definition, None, 0)
    await scenario.book.refresh("default")
    await scenario.track("ana", "Tell")
    await scenario.track("ana", "Ask")
    await scenario.settle()
    story = {entry.what for run in await runs(scenario) for entry in run.timeline}
    assert {"emit_failed", "unanswered"} <= story
    assert (await scenario.identify("ana", plan="free")).state is IngestState.ACCEPTED
