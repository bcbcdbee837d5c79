"""A busy project: few comments are told at once, many become one e-mail. Told on every store."""

import asyncio

from tests.scenarios.examples import workflow_of
from tests.world import DAY, HOUR, MINUTE, World
from upshotd.domain.event import Event, EventType
from upshotd.domain.outcome import EngagementKind


def comment(n: int, project: str = "p1", user: str = "ana") -> Event:
    properties = {"project_id": project, "project": project, "author": f"a{n}", "text": f"t{n}"}
    return Event(f"comment-{project}-{n}", EventType.TRACK, user, name="Comment Added",
                 properties=properties)  # fmt: skip


async def told(scenario: World) -> list[tuple[str, str]]:
    return [(d.content.subject, d.content.text) for d in scenario.email.ledger]


async def test_few_at_once_and_the_rest_in_one(scenario: World) -> None:
    await scenario.define(workflow_of("project-updates"))
    await scenario.identify("ana", email="ana@example.com")
    for n in range(5):
        await scenario.ingest(comment(n))
        await scenario.advance(10 * MINUTE)
    assert [subject for subject, _ in await told(scenario)] == [
        "a0 commented in p1", "a1 commented in p1", "a2 commented in p1",
    ]  # fmt: skip
    await scenario.advance(HOUR)
    subject, text = (await told(scenario))[-1]
    assert subject == "2 more comments in p1"
    assert text.splitlines() == ["a3: t3", "a4: t4"]
    await scenario.advance(DAY)
    assert len(await told(scenario)) == 4


async def test_all_at_the_same_moment_from_many_clients(scenario: World) -> None:
    """Of events in one second two were throttled as one, or opened two digests, elsewhere."""
    await scenario.define(workflow_of("project-updates"))
    await scenario.identify("ana", email="ana@example.com")
    calls = [scenario.ingest(comment(n, project)) for n in range(12) for project in ("p1", "p2")]
    await asyncio.gather(*calls)
    await scenario.settle()
    assert len(await told(scenario)) == 6
    await scenario.advance(2 * HOUR)
    later = sorted(subject for subject, _ in (await told(scenario))[6:])
    assert later == ["9 more comments in p1", "9 more comments in p2"]


async def test_an_event_that_comes_twice_takes_one_place(scenario: World) -> None:
    """A throttle counted the repetition of an event elsewhere."""
    await scenario.define(workflow_of("project-updates"))
    await scenario.identify("ana", email="ana@example.com")
    for n in (0, 0, 0, 1, 1, 2):
        await scenario.ingest(comment(n))
    await scenario.settle()
    assert len(await told(scenario)) == 3


async def test_opening_one_project_lets_the_other_ones_wait(scenario: World) -> None:
    await scenario.define(workflow_of("project-updates"))
    await scenario.identify("ana", email="ana@example.com")
    for project in ("p1", "p2"):
        for n in range(5):
            await scenario.ingest(comment(n, project))
    await scenario.settle()
    await scenario.track("ana", "Project Opened", properties={"project_id": "p1"})
    await scenario.advance(DAY)
    assert [subject for subject, _ in (await told(scenario))[6:]] == ["2 more comments in p2"]


async def test_whoever_unsubscribes_while_it_collects_gets_nothing(scenario: World) -> None:
    """Mail went out after an opt-out during a digest's window elsewhere."""
    await scenario.define(workflow_of("project-updates"))
    await scenario.identify("ana", email="ana@example.com")
    for n in range(5):
        await scenario.ingest(comment(n))
    await scenario.settle()
    first = scenario.email.ledger[0]
    await scenario.engage(first.message_id, EngagementKind.UNSUBSCRIBED)
    await scenario.advance(DAY)
    assert len(await told(scenario)) == 3
    assert (await scenario.story("ana"))[-1] == "SUPPRESSED EMAIL"


async def test_a_digest_is_whole_after_the_server_was_started_again(scenario: World) -> None:
    await scenario.define(workflow_of("project-updates"))
    await scenario.identify("ana", email="ana@example.com")
    for n in range(5):
        await scenario.ingest(comment(n))
    await scenario.settle()
    await scenario.stop()
    again = World(scenario.store, clock=scenario.clock)
    await again.start()
    await again.book.refresh("default")
    await again.ingest(comment(5))
    await again.advance(2 * HOUR)
    assert [d.content.subject for d in again.email.ledger] == ["3 more comments in p1"]
    await again.stop()
