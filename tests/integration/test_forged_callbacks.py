"""What nobody honest sends to the edge: none of it is believed, and none of it changes anything."""

import asyncio
import re
from collections import Counter
from pathlib import Path

from tests.integration.attacks import Attacker, Request
from tests.integration.forged_world import World, event_of, forged_world, status_of

#: Of the answers: nothing of how the server is made.
INTERNALS = re.compile(rb"Traceback|File \"|aiohttp|[Pp]ython|upshotd|line [0-9]+|[a-z]Error\b")
#: Attacks of one run; each of them comes from a seed.
ATTACKS, SEED, AT_ONCE = 3_000, 20_260_101, 64


async def test_thousands_of_forged_requests_are_refused_and_change_nothing(tmp_path: Path):
    async with forged_world(tmp_path) as world:
        await _genuine(world)
        before = world.rows()
        attacker = Attacker(SEED, world.known())
        requests = [attacker.request() for _ in range(ATTACKS)]
        answers = await _all(world, requests)
        wrong = [
            (request.method, request.path, request.headers, request.body[:80], answer[:300])
            for request, answer in zip(requests, answers, strict=True)
            if not 400 <= status_of(answer) < 500 or INTERNALS.search(answer)
        ]
        statuses = Counter(map(status_of, answers))
        assert not wrong, (len(wrong), statuses, wrong[:5])
        # Of each kind of refusal there were many: the attacks came as far as they can.
        assert all(statuses[status] > 50 for status in (400, 401, 403, 404, 405)), statuses
        assert world.rows() == before
        said = world.server.said()
        assert "Traceback" not in said
        assert "http.broke" not in said
        assert "rpc.broke" not in said


async def test_what_is_sent_again_changes_nothing(tmp_path: Path):
    async with forged_world(tmp_path) as world:
        await _genuine(world)
        before = world.rows()
        genuine = [world.sendgrid(world.ours()), world.twilio("delivered")]
        genuine.append(world.segment(event_of("genuine")))
        answers = await _all(world, [request for request in genuine for _ in range(50)])
        assert {status_of(answer) for answer in answers} == {200, 202, 204}
        assert world.rows() == before


async def test_a_genuine_signature_is_of_one_address_and_one_body(tmp_path: Path):
    async with forged_world(tmp_path) as world:
        await _genuine(world)
        before = world.rows()
        told, events = world.twilio("undelivered"), world.sendgrid(world.ours())
        other = world.links.callback_token("acme", "another-message").encode()
        moved = told.path.rpartition(b"/")[0] + b"/" + other
        at = [told.path + b"?x=1", told.path + b"/", b"/" + told.path, moved]
        swapped = [Request("POST", path, told.headers, told.body) for path in at]
        swapped += [
            Request("POST", told.path, told.headers, told.body.replace(b"SM1", b"SM2")),
            Request("POST", told.path, events.headers, events.body),
            Request("POST", events.path, told.headers, told.body),
            Request("POST", events.path, events.headers, events.body.replace(b"deli", b"open")),
        ]
        answers = await _all(world, swapped)
        assert {status_of(answer) for answer in answers} <= {403, 404}, answers
        assert world.rows() == before


async def _genuine(world: World) -> None:
    """What is honest is taken: what is refused afterwards is not refused for another reason."""
    assert status_of(await world.send(world.sendgrid(world.ours()).raw)) == 200
    assert status_of(await world.send(world.twilio("delivered").raw)) == 204
    assert status_of(await world.send(world.segment(event_of("genuine")).raw)) == 202
    assert len(world.rows()["engagements"]) == 2


async def _all(world: World, requests: list[Request]) -> list[bytes]:
    """Return the answers, some of the requests being under way at once."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def answer(request: Request) -> bytes:
        async with turn:
            return await world.send(request.raw)

    return await asyncio.gather(*map(answer, requests))
