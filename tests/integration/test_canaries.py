"""Canaries: nothing secret is anywhere it does not belong, nothing of a person where it may not be.

A server with every kind of provider and secret is made to fail in every way at hand, while the far
ends shout back what they were shown. Then everything that was said and kept is searched.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from tests import canaries, stores
from tests.integration.canary_world import (
    SECRETS,
    World,
    body_of,
    canary_world,
    event_of,
    twilio_signature,
)
from tests.integration.test_keys import METHODS
from tests.wire import mail, sms, workflow
from upshot.v1 import key_pb2, lab_pb2, service_pb2
from upshot.v1.key_pb2_grpc import KeyServiceStub
from upshot.v1.lab_pb2_grpc import LabServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshotd.adapters.failing import VARIABLE
from upshotd.adapters.storage.tables import metadata
from upshotd.application.erased import PREFIX

MOODS = ("401", "400", "500", "hang", "fine")
SCOPES = ("ingest", "engage", "stream", "workflow", "admin")
#: Each column of the database: those that may hold something of a person, then those that may not.
#: A column that is new is decided about here. Secrets may be in none but settings.value, which has
#: the key of signed links.
COLUMNS = {
    # What came, and what conditions were evaluated on where a workflow did not start.
    "events": (
        "started payload",
        "workspace_id event_id profile_id receive_us event_us group_id",
    ),
    "rejected_events": ("body", "workspace_id rejection_id receive_us"),
    "profiles": ("body", "workspace_id profile_id row_version"),
    # The ids by which the customer calls people.
    "identities": ("identity", "workspace_id profile_id"),
    "groups": ("body", "workspace_id group_id row_version"),
    "group_members": ("", "workspace_id group_id profile_id"),
    # Of an address, which is held back whoever has it.
    "suppressions": ("profile_id", "workspace_id scope channel topic until_us reason"),
    # Keys are what the workflow makes them of; in the body is what conditions were evaluated on.
    "runs": (
        "body reentry_key cancellation_key start_key",
        "workspace_id run_id workflow_id event_id profile_id start_us state holds_active"
        " holds_ever due_us row_version claim_owner",
    ),
    # The texts; the recipient, and the provider's words.
    "messages": (
        "content body recipient",
        "workspace_id message_id run_id profile_id workflow_id provider provider_message_id due_us"
        " row_version claim_owner",
    ),
    "asks": ("", "workspace_id profile_id message_id run_id"),
    "engagements": ("", "workspace_id engagement_id message_id record_us"),
    "pending_engagements": (
        "body",
        "workspace_id engagement_id provider provider_message_id record_us",
    ),
    # The recipient, and what an emit step tells.
    "outcomes": (
        "body user_id",
        "workspace_id partition position kind workflow_id channel record_us",
    ),
    "outcome_heads": ("", "workspace_id partition head earliest"),
    "outcome_counts": ("", "workspace_id hour_us workflow_id step_id channel kind count"),
    "subscriptions": ("", "workspace_id name positions create_us commit_us"),
    "workflows": ("", "workspace_id workflow_id version"),
    "workflow_versions": ("", "workspace_id workflow_id version definition create_us"),
    "replicas": ("", "owner until_us"),
    # How often and when somebody did something; what is compared in rules stands in the profile.
    "audience_members": (
        "",
        "workspace_id profile_id audience_id member ready due_us body claim_owner",
    ),
    "tallies": ("", "workspace_id experiment variant exposures successes"),
    "settings": ("", "name value"),
}
#: Fields that name what is defined or was sent. An error says which one there is not.
NAMES = {
    *("workflow_id", "template_id", "layout_id", "topic_id", "topic", "step_id", "run_id"),
    *("message_id", "event_id", "page_token", "subscription", "name", "cancellation_key"),
    *("label", "audience_id", "workspace_id", "provider", "provider_message_id", "engagement_id"),
}
#: Written by whoever defines something, who is told what is wrong with it in its own words.
DEFINITIONS = {f"upshot.v1.{name}" for name in ("Workflow", "Template", "Topic", "Audience")}
FLOWS = (
    workflow(
        "greet",
        "Go",
        mail(subject="Hello {{ traits.name }}", text="You like {{ traits.favourite }}."),
        sms(body="Dear {{ traits.first_name }}"),
        {
            "step_id": "talk",
            "send": {"channel": "CHANNEL_CHAT", "chat": {"body": "{{ traits.name }} is here"}},
        },
        {
            "step_id": "ring",
            "send": {
                "channel": "CHANNEL_PUSH",
                "push": {"title": "Hi", "body": "{{ traits.name }}"},
            },
        },
        {"step_id": "told", "emit": {"event": "Told", "properties": {"who": "{{ traits.name }}"}}},
    ),
    # Templates and conditions that cannot be had of these people.
    workflow("no-name", "Go", mail(text="Dear {{ traits.title }} of {{ event.properties.from }}")),
    workflow("no-sum", "Go", mail(text="{{ traits.favourite + 1 }}{{ traits.name | round }}")),
    workflow("no-date", "Go", mail(text="{{ traits.favourite | date('%Y') }}")),
    workflow(
        "branches",
        "Go",
        {
            "step_id": "fork",
            "branch": {
                "cases": [
                    {
                        "condition": "traits.favourite > 3",
                        "steps": [mail("impossible")],
                    }
                ],
                "otherwise": [{"step_id": "rest", "delay": {"duration": "10s"}}],
            },
        },
    ),
)


def test_every_column_is_decided_about():
    decided = {
        name: set(" ".join(words).split())
        for name, words in COLUMNS.items()
    }  # fmt: skip
    assert decided == {t.name: {c.name for c in t.columns} for t in metadata.tables.values()}


@pytest.mark.parametrize("kind", stores.DURABLE)
async def test_nothing_is_where_it_does_not_belong(kind: str, tmp_path: Path):
    async with canary_world(kind, tmp_path) as world:
        await world.server.started()
        await _make_keys(world)
        await _journeys(world)
        await _strangers(world)
        await _bad_requests(world)
        if kind == "sqlite":  # what programs print does not hang on the database
            await _failures_of_ours(world)
            await _commands(world)
        assert await world.server.stopped() == 0
        world.remember_logs()
        found = await _tables(world)
        _judge(world, found)


# -- what is provoked --------------------------------------------------------------------------


async def _make_keys(world: World) -> None:
    async with world.channel() as channel:
        stub = KeyServiceStub(channel)
        for scope in SCOPES:
            number = key_pb2.Scope.Value(f"SCOPE_{scope.upper()}")
            request = key_pb2.CreateKeyRequest(scopes=[number], workspace_id="acme")
            made = await world.call(stub.CreateKey, request, SECRETS["root"])
            world.keys[scope] = made.secret


async def _journeys(world: World) -> None:
    """Send to far ends that refuse, hang and work."""
    async with world.channel() as channel:
        upshot: Any = UpshotServiceStub(channel)
        for flow in FLOWS:
            request = service_pb2.DefineWorkflowRequest(workflow=flow)
            assert await world.call(upshot.DefineWorkflow, request, world.keys["workflow"])
        key = world.keys["ingest"]
        for mood in MOODS:  # somebody else each time: who is still on the way does not start again
            world.ends.mood = mood
            user = {"userId": "u-1" if mood == "fine" else f"u-{mood}"}
            person = {"type": "identify", **user, "traits": dict(canaries.TRAITS)}
            batch = {"batch": [person], "writeKey": key}
            assert await world.ask("POST", "/v1/batch", data=body_of(batch)) == 200
            event = {**event_of("Go", f"go-{mood}"), **user, "writeKey": key}
            assert await world.ask("POST", "/v1/track", data=body_of(event)) == 200
            await _advance(world, channel)
        await _advance(world, channel, 3600)


async def _advance(world: World, channel: Any, seconds: int = 400) -> None:
    request = lab_pb2.AdvanceTimeRequest()
    request.duration.FromSeconds(seconds)
    await world.call(LabServiceStub(channel).AdvanceTime, request, world.keys["admin"])


async def _strangers(world: World) -> None:
    """Knock at the edge with forged callbacks, wrong keys, and people in every place."""
    secrets = world.secrets
    person = {**event_of("Go", "x-1"), "traits": dict(canaries.TRAITS)}
    for key in ("wrong-quokka-key", secrets["segment write key"], world.keys["stream"]):
        event = {**person, "writeKey": key}
        assert await world.ask("POST", "/v1/track", data=body_of(event)) == 401
        path = f"/inbound/segment/{key}"
        assert await world.ask("POST", path, data=body_of(person)) == 401
    for path in ("/o/quokka.gif", "/c/quokka.x", "/u/quokka.x", "/p/quokka.x"):
        assert await world.ask("GET", path) == 404
        assert await world.ask("POST", path, data={"email": canaries.EMAIL}) in (404, 405)
    form = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": canaries.PHONE}
    path = f"/callbacks/twilio/texts/{canaries.PHONE}"
    signature = twilio_signature(secrets["twilio token"], f"https://up.example{path}", form)
    for told in (signature, secrets["twilio token"], ""):
        headers = {"X-Twilio-Signature": told}
        await world.ask("POST", path, data=form, headers=headers)
    headers = {"X-Twilio-Email-Event-Webhook-Signature": secrets["sendgrid"]}
    await world.ask("POST", "/callbacks/sendgrid/mail", data=body_of([person]), headers=headers)
    headers = {"Authorization": f"Bearer {world.keys['ingest']}"}
    for faulty in (b"{quokka", body_of(["quokka", 5]), body_of({"type": "quokka", **person})):
        await world.ask("POST", "/inbound/segment", data=faulty, headers=headers)
        await world.ask("POST", "/v1/batch", data=faulty, headers=headers)


async def _bad_requests(world: World) -> None:
    """Call every RPC with something of the person in every field, with keys good and bad."""
    values = (canaries.EMAIL, canaries.PHONE, "quokka\n\x00", "\N{BEAR FACE} quokka " * 50)
    callers = [world.keys["admin"], SECRETS["root"], world.keys["ingest"] + "x", None]
    async with world.channel() as channel:
        for name, method in METHODS.items():
            if name == "LabService/AdvanceTime" or method.server_streaming:
                continue
            for value in values:
                request = message_factory.GetMessageClass(method.input_type)()
                _fill(request, value, depth=6)
                for caller in callers:
                    await world.call(_unary(channel, method), request, caller)
        # The text of a key where its id belongs.
        revoke = _unary(channel, METHODS["KeyService/RevokeKey"])
        for text in (world.keys["stream"], SECRETS["root"]):
            request = key_pb2.RevokeKeyRequest(key_id=text)
            await world.call(revoke, request, world.keys["admin"])
        for name in ("ListMessages", "ListRuns", "ListRejectedEvents"):
            method = METHODS[f"AdminService/{name}"]
            request = message_factory.GetMessageClass(method.input_type)()
            assert await world.call(_unary(channel, method), request, world.keys["admin"])


def _unary(channel: Any, method: Any) -> Any:
    path = f"/{method.containing_service.full_name}/{method.name}"
    parse = message_factory.GetMessageClass(method.output_type).FromString
    return channel.unary_unary(path, lambda message: message.SerializeToString(), parse)


def _fill(message: Any, value: str, depth: int) -> None:
    """Put *value* into every text there is a place for, but for names of things."""
    for one in message.DESCRIPTOR.fields:
        if one.type == FieldDescriptor.TYPE_STRING:
            told = "no such thing" if one.name in NAMES else value
            if one.is_repeated:
                getattr(message, one.name).append(told)
            else:
                setattr(message, one.name, told)
        elif one.type == FieldDescriptor.TYPE_MESSAGE and depth:
            _fill_inner(message, one, value, depth - 1)


def _fill_inner(message: Any, one: FieldDescriptor, value: str, depth: int) -> None:
    inner, kind = getattr(message, one.name), one.message_type
    if kind.full_name == "google.protobuf.Struct":
        inner.update({value: value, "email": [value, {"name": value}]})
    elif not kind.GetOptions().map_entry and kind.full_name not in DEFINITIONS:
        _fill(inner.add() if one.is_repeated else inner, value, depth)


async def _failures_of_ours(world: World) -> None:
    """Let the server break in the middle of things, and die of it."""
    raising = "intent.before_call=raise;engagement.received=raise"
    for failpoints in (raising, "decide.after=raise", ""):
        world.server.kill()
        world.server.environ[VARIABLE] = failpoints
        await world.server.started()
        for number in range(4):
            event_id = f"{failpoints[:6]}-{number}"
            event = {**event_of("Go", event_id), "writeKey": world.keys["ingest"]}
            with suppress(aiohttp.ClientError):
                await world.ask("POST", "/v1/track", data=body_of(event))
        async with world.channel() as channel:
            request = service_pb2.RecordEngagementRequest()
            request.engagements.add(kind=1, reason=canaries.EMAIL).data.update(canaries.TRAITS)
            stub: Any = UpshotServiceStub(channel)
            await world.call(stub.RecordEngagement, request, world.keys["engage"])


async def _commands(world: World) -> None:
    """What people type, and what a relay says."""
    config = str(world.server.folder / "upshot.toml")
    for mood in ("401", "fine"):
        world.ends.mood = mood
        code = 0 if mood == "fine" else 1
        out = await world.command("", "doctor", "--config", config, "--ask", code=code)
        world.printed.append(("doctor", out.encode()))
    await world.command(SECRETS["root"], "keys", "revoke", f" {world.keys['engage']}", code=1)
    await world.command(world.keys["stream"] + "x", "runs", code=1)
    await world.command(world.keys["admin"] + "\n", "runs", code=2)
    for mood, code in (("401", 4), ("fine", 0)):
        world.ends.mood = mood
        words = ("relay", "segment", "--once", "--config", config)
        out = await world.command(world.keys["stream"], *words, code=code)
        world.printed.append(("relay", out.encode()))


# -- what is searched --------------------------------------------------------------------------


async def _tables(world: World) -> list[tuple[str, str, bytes]]:
    """Return every value of the database: table, column, value."""
    found = []
    rows = _sqlite if "://" not in world.server.database else _postgresql
    async for table, row in rows(world.server.database):
        for column, value in row.items():
            raw = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
            found.append((table, column, raw))
            if table == "settings" and row["name"] == "link_key" and column == "value":
                world.link_key = str(value)
            # Whom to forget has to be known until everything is looked through.
            if table == "settings" and row["name"].startswith(PREFIX):
                found.pop()
    return found


async def _sqlite(database: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        for table in metadata.tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield table, dict(row)


async def _postgresql(database: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    connection = await asyncpg.connect(database)
    try:
        for table in metadata.tables:
            for row in await connection.fetch(f'SELECT * FROM "{table}"'):
                yield table, dict(row)
    finally:
        await connection.close()


def _judge(world: World, rows: list[tuple[str, str, bytes]]) -> None:
    secrets = world.secrets
    wrong = canaries.leaks(secrets, world.printed, personal=True)
    wrong += canaries.leaks(secrets, world.errors, personal=True)
    wrong += canaries.leaks(secrets, world.answers, personal=True)
    wrong += canaries.leaks(secrets, world.given, personal=False)
    for table, column, value in rows:
        where = f"{table}.{column}"
        held = {"link key"} if where == "settings.value" else set()
        if found := canaries.hits(secrets, value) - held:
            wrong.append(f"{found} in {where}: {value[-600:]!r}")
        if canaries.is_personal(value) and column not in COLUMNS[table][0].split():
            wrong.append(f"a person in {where}: {value[-600:]!r}")
    for file in world.server.folder.glob("upshot.db*"):
        found = canaries.hits(secrets, file.read_bytes()) - {"link key"}
        wrong += [f"{name} in {file.name}" for name in found]
    assert not wrong, "\n".join([f"{len(wrong)} leaks", *wrong[:400]])
    _assert_provoked(world, rows)


def _assert_provoked(world: World, rows: list[tuple[str, str, bytes]]) -> None:
    """The search proves something only where there was something to be found."""
    sent = b"\n".join(world.ends.came)
    shown = {"sendgrid", "resend", "twilio secret", "slack", "smtp", "webhook header"}
    assert shown <= canaries.hits(world.secrets, sent)
    held = {f"{table}.{column}" for table, column, value in rows if canaries.is_personal(value)}
    assert {"profiles.body", "messages.body", "messages.content", "events.payload"} <= held
    assert {"outcomes.body", "runs.body"} <= held
    words = b"\n".join(
        value for table, _, value in rows if table in ("messages", "outcomes", "runs")
    )
    for word in (b"HTTP 401", b"535", b"HTTP 400", b"TEMPLATE_ERROR", b"TimeoutError"):
        assert word in words, word
    log = b"\n".join(text for _, text in world.printed)
    broken = (b"FailpointHit", b"Traceback") if "://" not in world.server.database else ()
    for word in (b"http.request", b"rpc.ended", *broken):
        assert word in log, word
    assert world.link_key
    assert len(world.errors) > 200
