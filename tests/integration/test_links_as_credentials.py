"""What a signed link opens for whoever holds it: its own message, in its own way, no other."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.wire import Wire, fact, identify, mail, running, track, workflow
from upshot.v1 import admin_pb2
from upshot.v1 import service_pb2 as pb

OPENED, CLICKED, UNSUBSCRIBED = "OPENED", "CLICKED", "UNSUBSCRIBED"
SHOP = "https://shop.example/"
#: What each kind tells of its own message.
OWN_WAYS = {
    "o": {OPENED},
    "c": {CLICKED},
    "u": {UNSUBSCRIBED},
    "p": set[str](),
    "a": {"APPROVED"},
    "d": {"DENIED"},
    "q": {"ASKED"},
    "r": {"APPROVED", "DENIED", "ASKED"},
}
#: Those that people get, and the token that providers bring back.
KINDS = [*OWN_WAYS, "k"]
DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
async def wire(database: Path) -> AsyncIterator[Wire]:
    """Ana and Ben got a mail each, and there is a topic to choose."""
    async with running(database) as started:
        await started.define(workflow("welcome", "Signed Up", mail()))
        topic = admin_pb2.DefineTopicRequest(topic=admin_pb2.Topic(topic_id="news"))
        await started.admin.DefineTopic(topic)
        for who in ("ana", "ben"):
            await started.ingest(identify(f"i-{who}", who), track(f"t-{who}", user_id=who))
        await started.advance()
        yield started


async def ids(wire: Wire) -> tuple[str, str]:
    """Return the messages of Ana and of Ben."""
    (ana,), (ben,) = [await wire.messages(user_id=who) for who in ("ana", "ben")]
    return ana.message_id, ben.message_id


def token(wire: Wire, kind: str, message_id: str) -> str:
    links = wire.app.links
    named = links.named("default", message_id)
    url = {
        "o": lambda: links.open_url("default", message_id).removesuffix(".gif"),
        "c": lambda: links.click_url("default", message_id, SHOP),
        "u": lambda: links.unsubscribe_url("default", message_id),
        "p": lambda: links.preferences_url("default", message_id),
        "a": lambda: named["approve"],
        "d": lambda: named["deny"],
        "q": lambda: named["ask"],
        "r": lambda: named["review"],
        "k": lambda: links.callback_token("default", message_id),
    }[kind]()
    return str(url).rpartition("/")[2]


async def code(call: Any, request: Any, link: str) -> grpc.StatusCode:
    """Return how a call by *link* ends."""
    try:
        await call(request, metadata=[("authorization", f"Link {link}")])
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_looks_at_or_changes_what_somebody_else_chose(wire: Wire, kind: str):
    ana, ben = await ids(wire)
    link = token(wire, kind, ana)
    for who in ({"user_id": "ben"}, {"message_id": ben}, {"anonymous_id": "x"}):
        get = admin_pb2.GetPreferencesRequest(**who)
        assert await code(wire.admin.GetPreferences, get, link) is DENIED
        choose = admin_pb2.SetPreferenceRequest(topic_id="news", **who)
        choose.status = admin_pb2.PREFERENCE_STATUS_OPTED_OUT
        assert await code(wire.admin.SetPreference, choose, link) is DENIED
    request = admin_pb2.GetPreferencesRequest(user_id="ben")
    (news,) = (await wire.admin.GetPreferences(request)).preferences
    assert news.status == admin_pb2.PREFERENCE_STATUS_OPTED_IN


async def test_the_page_of_a_message_is_that_of_its_person(wire: Wire):
    ana, _ = await ids(wire)
    get = admin_pb2.GetPreferencesRequest(message_id=ana)
    codes = {
        kind: await code(wire.admin.GetPreferences, get, token(wire, kind, ana)) for kind in KINDS
    }
    assert codes.pop("p") is grpc.StatusCode.OK
    assert set(codes.values()) == {DENIED}


@pytest.mark.parametrize("kind", OWN_WAYS)
async def test_nobody_tells_of_somebody_else_s_message(wire: Wire, kind: str):
    ana, ben = await ids(wire)
    link, word = token(wire, kind, ana), min(OWN_WAYS[kind], default=OPENED)
    by_provider = fact(word)
    by_provider.provider_message.provider_message_id = "theirs"
    for facts in ([fact(word, ben)], [fact(word, ana), fact(word, ben)], [by_provider]):
        request = pb.RecordEngagementRequest(engagements=facts)
        assert await code(wire.upshot.RecordEngagement, request, link) is DENIED
    (found,) = await wire.messages(user_id="ben")
    assert not set(found.facts) - {"sent"}


@pytest.mark.parametrize("kind", OWN_WAYS)
async def test_a_link_tells_what_it_is_for(wire: Wire, kind: str):
    ana, _ = await ids(wire)
    words = [*("BOUNCED", "COMPLAINED", "REPLIED", "ANSWERED"), *set().union(*OWN_WAYS.values())]
    for word in words:
        url = SHOP if kind == "c" else ""
        request = pb.RecordEngagementRequest(engagements=[fact(word, ana, link_url=url)])
        ended = await code(wire.upshot.RecordEngagement, request, token(wire, kind, ana))
        assert (ended is grpc.StatusCode.OK) is (word in OWN_WAYS[kind]), word


@pytest.mark.parametrize("kind", "adqr")
async def test_a_decision_brings_no_other_address_along(wire: Wire, kind: str):
    ana, _ = await ids(wire)
    told = fact(min(OWN_WAYS[kind]), ana, link_url=SHOP)
    request = pb.RecordEngagementRequest(engagements=[told])
    assert await code(wire.upshot.RecordEngagement, request, token(wire, kind, ana)) is DENIED


@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_to_decide_reads_what_its_own_message_asks_for(wire: Wire, kind: str):
    """Here it asks for nothing, which a link of that kind is told."""
    ana, ben = await ids(wire)
    link = token(wire, kind, ana)
    own = admin_pb2.GetApprovalRequest(message_id=ana)
    allowed = await code(wire.admin.GetApproval, own, link)
    assert allowed is (grpc.StatusCode.NOT_FOUND if kind in "adqr" else DENIED)
    (message,) = await wire.messages(user_id="ana")
    place = {"run_id": message.run_id, "step_id": message.step_id}
    for by in ({"message_id": ben}, place, {"message_id": ana, **place}, {}):
        request = admin_pb2.GetApprovalRequest(**by)
        assert await code(wire.admin.GetApproval, request, link) is DENIED


@pytest.mark.parametrize("word", ["APPROVED", "DENIED", "ASKED", "ANSWERED"])
async def test_a_provider_decides_nothing(wire: Wire, word: str):
    ana, _ = await ids(wire)
    facts = [fact("DELIVERED", ana), fact(word, ana)]
    request = pb.RecordEngagementRequest(engagements=facts)
    assert await code(wire.upshot.RecordEngagement, request, token(wire, "k", ana)) is DENIED


async def test_a_click_leads_where_its_link_leads(wire: Wire):
    ana, _ = await ids(wire)
    told = fact(CLICKED, ana, link_url="https://evil.example/")
    request = pb.RecordEngagementRequest(engagements=[told])
    ended = await code(wire.upshot.RecordEngagement, request, token(wire, "c", ana))
    assert ended is DENIED


async def test_a_provider_tells_of_all_that_it_carried(wire: Wire):
    ana, ben = await ids(wire)
    facts = [fact("DELIVERED", ana), fact("BOUNCED", ben)]
    request = pb.RecordEngagementRequest(engagements=facts)
    ended = await code(wire.upshot.RecordEngagement, request, token(wire, "k", ana))
    assert ended is grpc.StatusCode.OK
