"""Who may call what: every RPC by every scope, in two workspaces, over the wire."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from tests.integration.cli_world import command
from tests.wire import refused
from upshot.v1 import (
    admin_pb2,
    event_pb2,
    key_pb2,
    lab_pb2,
    service_pb2,
    subscription_pb2,
)
from upshot.v1.key_pb2_grpc import KeyServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshotd import app
from upshotd.adapters.grpc.scopes import ALLOWED
from upshotd.application import keys as application_keys
from upshotd.application.keys import OF_KEYS, Scope
from upshotd.config import load

ROOT = "root-" + "r" * 40
CONFIG = '[providers.nowhere]\nkind = "null"\n[channels]\nemail = "nowhere"\n'
DENIED = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}


def methods() -> Iterator[MethodDescriptor]:
    """Yield every RPC of the contract."""
    for module in (service_pb2, subscription_pb2, admin_pb2, key_pb2, lab_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


METHODS = {f"{m.containing_service.name}/{m.name}": m for m in methods()}


@dataclass
class Guarded:
    """A server that wants keys."""

    app: app.App
    channel: grpc.aio.Channel
    #: By workspace and scope.
    texts: dict[tuple[str, Scope], str] = field(default_factory=dict)

    @property
    def keys(self) -> Any:
        return KeyServiceStub(self.channel)

    async def create(self, caller: str, *scopes: int, **fields: Any) -> key_pb2.CreateKeyResponse:
        request = key_pb2.CreateKeyRequest(scopes=scopes, **fields)
        return await self.keys.CreateKey(request, metadata=bearer(caller))

    async def call(
        self, method: MethodDescriptor, authorization: str | None, message_id: str = ""
    ) -> grpc.StatusCode:
        """Return how a request of *method* ends that has nothing but a *message_id*, where it can;
        OK for a stream that begins.
        """
        path = f"/{method.containing_service.full_name}/{method.name}"
        parse = message_factory.GetMessageClass(method.output_type).FromString
        request = message_factory.GetMessageClass(method.input_type)()
        if message_id and "message_id" in method.input_type.fields_by_name:
            setattr(request, "message_id", message_id)  # noqa: B010  the stubs do not know it
        metadata = [("authorization", authorization)] if authorization is not None else []
        try:
            if method.server_streaming:
                stream = self.channel.unary_stream(path, lambda m: m.SerializeToString(), parse)(
                    request, metadata=metadata
                )
                await stream.read()
                stream.cancel()
            else:
                unary = self.channel.unary_unary(path, lambda m: m.SerializeToString(), parse)
                await unary(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


def secret_of(text: str) -> str:
    """Return what is secret of a key; of the root key all of it is."""
    return text.split("_", 2)[-1]


def bearer(text: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {text}")]


@asynccontextmanager
async def guarded(database: Path) -> AsyncIterator[Guarded]:
    given = {
        "listen": "127.0.0.1:0",
        "http": "127.0.0.1:0",
        "database": str(database),
        "lab": True,
        "auth.required": True,
        "auth.root_key": ROOT,
    }
    async with app.run(load(CONFIG, {}, given), {}) as running:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
            there = Guarded(running, channel)
            for workspace in ("acme", "blue"):
                for scope in OF_KEYS:
                    number = key_pb2.Scope.Value(f"SCOPE_{scope.upper()}")
                    made = await there.create(ROOT, number, workspace_id=workspace)
                    assert made.key.workspace_id == workspace
                    there.texts[workspace, scope] = made.secret
            yield there


@pytest.fixture
async def there(database: Path) -> AsyncIterator[Guarded]:
    async with guarded(database) as started:
        yield started


def test_the_table_names_every_rpc_and_no_other():
    assert set(ALLOWED) == set(METHODS)


async def test_every_rpc_by_every_scope_in_two_workspaces(there: Guarded):
    callers: dict[tuple[str, Scope], str] = {
        who: f"Bearer {text}" for who, text in there.texts.items()
    }
    callers["", Scope.ROOT] = f"Bearer {ROOT}"
    links = there.app.links
    callers["acme", Scope.LINK] = "Link " + links.callback_token("acme", "m")
    page = links.preferences_url("acme", "m").rpartition("/")[2]
    callers["acme", Scope.CHOICE] = f"Link {page}"
    review = str(links.named("acme", "m")["review"]).rpartition("/")[2]
    callers["acme", Scope.REVIEW] = f"Link {review}"
    for name, method in METHODS.items():
        for (workspace, scope), authorization in callers.items():
            code = await there.call(method, authorization, "m")
            denied = code is grpc.StatusCode.PERMISSION_DENIED
            assert denied is (scope not in ALLOWED[name]), (name, workspace, scope, code)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer default",
        "Bearer up_0123456789abcdef_" + "x" * 43,
        f"Basic {ROOT}",
        f"Bearer {ROOT}x",
        f"Bearer {ROOT[:-1]}",
        "Link x",
    ],
)
async def test_without_a_key_that_is_known_nothing_opens(there: Guarded, authorization: str | None):
    for name, method in METHODS.items():
        code = await there.call(method, authorization)
        assert code is grpc.StatusCode.UNAUTHENTICATED, name


async def test_a_key_of_one_letter_less_or_another_secret_is_none(there: Guarded):
    ours, theirs = there.texts["acme", Scope.ADMIN], there.texts["blue", Scope.ADMIN]
    mixed = "_".join([*ours.split("_")[:2], theirs.split("_", 2)[2]])
    for text in (ours[:-1], ours + "x", mixed, ours.upper(), " " + ours[3:]):
        code = await there.call(METHODS["AdminService/ListRuns"], f"Bearer {text}")
        assert code is grpc.StatusCode.UNAUTHENTICATED
    assert await there.call(METHODS["AdminService/ListRuns"], f"bearer {ours}") is (
        grpc.StatusCode.OK
    )


async def test_the_workspace_is_the_key_s(there: Guarded):
    stub: Any = UpshotServiceStub(there.channel)
    event = event_pb2.Event(event_id="e1", user_id="ana", page=event_pb2.Page(name="Home"))
    request = service_pb2.IngestRequest(events=[event])
    states = []
    for workspace in ("acme", "blue", "acme"):
        metadata = bearer(there.texts[workspace, Scope.INGEST])
        response = await stub.Ingest(request, metadata=metadata)
        states.append(service_pb2.IngestState.Name(response.results[0].state)[13:])
    assert states == ["ACCEPTED", "ACCEPTED", "DUPLICATE"]


async def test_a_segment_write_key_is_a_key_of_scope_ingest(there: Guarded):
    url = f"http://127.0.0.1:{there.app.http_port}/v1/track"
    body = {"userId": "ana", "event": "Signed Up", "messageId": "m1"}
    async with aiohttp.ClientSession() as session:
        for text, status in (
            (there.texts["acme", Scope.INGEST], 200),
            (there.texts["acme", Scope.STREAM], 401),
            ("any", 401),
        ):
            headers = {"Authorization": aiohttp.encode_basic_auth(text, "")}
            async with session.post(url, json=body, headers=headers) as response:
                assert response.status == status


async def test_keys_are_made_listed_and_revoked_in_their_own_workspace(there: Guarded):
    admin = there.texts["acme", Scope.ADMIN]
    made = await there.create(admin, key_pb2.SCOPE_STREAM, label="warehouse")
    assert (made.key.workspace_id, made.key.label) == ("acme", "warehouse")
    listed = (await there.keys.ListKeys(key_pb2.ListKeysRequest(), metadata=bearer(admin))).keys
    assert listed[0] == made.key
    assert {key.workspace_id for key in listed} == {"acme"}
    assert secret_of(made.secret) not in str(listed)

    for call in (
        there.create(admin, key_pb2.SCOPE_STREAM, workspace_id="blue"),
        there.keys.ListKeys(key_pb2.ListKeysRequest(workspace_id="blue"), metadata=bearer(admin)),
        there.keys.RevokeKey(
            key_pb2.RevokeKeyRequest(key_id="x", workspace_id="blue"), metadata=bearer(admin)
        ),
    ):
        code, _, _ = await refused(call)
        assert code is grpc.StatusCode.PERMISSION_DENIED
    theirs = there.texts["blue", Scope.ADMIN]
    other = key_pb2.RevokeKeyRequest(key_id=made.key.key_id)
    code, _, _ = await refused(there.keys.RevokeKey(other, metadata=bearer(theirs)))
    assert code is grpc.StatusCode.NOT_FOUND
    code, _, faults = await refused(there.create(ROOT, key_pb2.SCOPE_STREAM))
    assert (code, set(faults)) == (grpc.StatusCode.INVALID_ARGUMENT, {"workspace_id"})


@pytest.mark.parametrize(
    ("scopes", "fields", "fault"),
    [
        ((), {}, "scopes"),
        ((0,), {}, "scopes"),
        ((99,), {}, "scopes"),
        ((1,), {"label": "x" * 101}, "label"),
        ((1,), {"label": "a\nb"}, "label"),
        ((1,), {"workspace_id": "No Such"}, "workspace_id"),
    ],
)
async def test_a_key_that_cannot_be_is_refused(
    there: Guarded, scopes: tuple[int, ...], fields: dict[str, str], fault: str
):
    call = there.create(ROOT, *scopes, **{"workspace_id": "acme", **fields})
    code, _, faults = await refused(call)
    assert (code, set(faults)) == (grpc.StatusCode.INVALID_ARGUMENT, {fault})


async def test_a_revoked_key_opens_nothing_and_its_stream_ends(there: Guarded):
    text = there.texts["acme", Scope.STREAM]
    stub: Any = UpshotServiceStub(there.channel)
    stream = stub.StreamOutcomes(service_pb2.StreamOutcomesRequest(), metadata=bearer(text))
    await stream.read()
    request = key_pb2.RevokeKeyRequest(key_id=text.split("_")[1], workspace_id="acme")
    revoked = await there.keys.RevokeKey(request, metadata=bearer(ROOT))
    assert revoked.key.HasField("revoke_time")
    again = await there.keys.RevokeKey(request, metadata=bearer(ROOT))
    assert again.key == revoked.key
    code, info, _ = await refused(stream.read())
    assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    code = await there.call(METHODS["UpshotService/StreamOutcomes"], f"Bearer {text}")
    assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_what_another_process_made_or_revoked_holds_here(
    there: Guarded, monkeypatch: pytest.MonkeyPatch
):
    other = application_keys.Keys(there.app.store, there.app.clock)
    key, text = await other.create("acme", [Scope.ADMIN], "")
    method = METHODS["AdminService/ListRuns"]
    await asyncio.sleep(application_keys._LOOK_US / 1e6)
    assert await there.call(method, f"Bearer {text}") is grpc.StatusCode.OK, "looked for at once"
    await other.revoke("acme", key.key_id)
    async with asyncio.timeout(5):
        while await there.call(method, f"Bearer {text}") is grpc.StatusCode.OK:
            await asyncio.sleep(0.1)


async def test_the_database_has_no_key(there: Guarded, database: Path):
    files = [database, database.with_name(f"{database.name}-wal")]
    held = b"".join(file.read_bytes() for file in files if file.exists())
    assert b"key/" in held
    for text in (*there.texts.values(), ROOT):
        assert secret_of(text).encode() not in held


async def test_the_command_line_brings_the_key_of_its_environment(there: Guarded):
    server = {"UPSHOT_SERVER": f"127.0.0.1:{there.app.grpc_port}"}

    async def ask(key: str, *words: str, code: int = 0) -> str:
        return (await command({**server, "UPSHOT_KEY": key}, *words, code=code))[0]

    words = ("--workspace", "shop", "--scope", "admin")
    admin = (await ask(ROOT, "keys", "create", *words)).strip()
    text = (await ask(admin, "keys", "create", "--scope", "stream", "--label", "relay")).strip()
    listed = await ask(admin, "keys", "list")
    assert "relay" in listed
    assert "works" in listed
    assert secret_of(text) not in listed
    await ask(text, "subscriptions")
    await ask(text, "runs", code=1)
    await ask("", "runs", code=1)
    await ask(admin, "keys", "revoke", text)
    assert "revoked" in await ask(admin, "keys", "list")
    await ask(text, "subscriptions", code=1)
