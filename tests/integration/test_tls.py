"""Both ports with TLS: who is let in, by what, and what strangers see."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests import certificates
from tests.certificates import Files, trusting
from tests.integration.cli_world import command
from tests.integration.test_keys import CONFIG, ROOT
from upshot.v1 import key_pb2
from upshot.v1.key_pb2_grpc import KeyServiceStub
from upshotd import app
from upshotd.config import load
from upshotd.domain.errors import InvalidArgument


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return certificates.made(tmp_path_factory.mktemp("tls"))


def settings(files: Files, database: Path, **more: object) -> Any:
    given = {
        "listen": "0.0.0.0:0",
        "http": "127.0.0.1:0",
        "database": str(database),
        "auth.required": True,
        "auth.root_key": ROOT,
        "tls.cert": str(files.server),
        "tls.key": str(files.server_key),
    }
    return load(CONFIG, {}, {**given, **more})


@pytest.fixture
async def there(files: Files, database: Path) -> AsyncIterator[app.App]:
    async with app.run(settings(files, database), {}) as running:
        yield running


async def ask(port: int, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """Return how a call with the root key ends."""
    target = f"127.0.0.1:{port}"
    channel = (
        grpc.aio.insecure_channel(target)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials)
    )
    async with channel:
        stub: Any = KeyServiceStub(channel)
        request = key_pb2.ListKeysRequest(workspace_id="acme")
        try:
            metadata = [("authorization", f"Bearer {ROOT}")]
            await stub.ListKeys(request, metadata=metadata, timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


async def test_who_trusts_the_certificate_gets_in_and_nobody_else(files: Files, there: app.App):
    assert await ask(there.grpc_port, trusting(files)) is grpc.StatusCode.OK
    assert await ask(there.grpc_port, trusting(files, "other")) is grpc.StatusCode.UNAVAILABLE
    assert await ask(there.grpc_port, None) is grpc.StatusCode.UNAVAILABLE


async def test_a_server_that_asks_for_certificates_takes_its_own_only(files: Files, database: Path):
    wanted = settings(files, database, **{"tls.client_ca": str(files.ca)})
    async with app.run(wanted, {}) as there:
        port = there.grpc_port
        assert await ask(port, trusting(files, client="client")) is grpc.StatusCode.OK
        assert await ask(port, trusting(files)) is grpc.StatusCode.UNAVAILABLE
        stranger = trusting(files, client="stranger")
        assert await ask(port, stranger) is grpc.StatusCode.UNAVAILABLE


async def test_the_edge_shows_the_same_certificate_and_reaches_its_server(
    files: Files, there: app.App
):
    context = ssl.create_default_context(cafile=str(files.ca))
    url = f"https://127.0.0.1:{there.http_port}"
    async with grpc.aio.secure_channel(f"127.0.0.1:{there.grpc_port}", trusting(files)) as channel:
        stub: Any = KeyServiceStub(channel)
        request = key_pb2.CreateKeyRequest(workspace_id="acme", scopes=[key_pb2.SCOPE_INGEST])
        made = await stub.CreateKey(request, metadata=[("authorization", f"Bearer {ROOT}")])
    body = {"userId": "ana", "event": "Signed Up", "messageId": "m1"}
    headers = {"Authorization": aiohttp.encode_basic_auth(made.secret, "")}
    async with aiohttp.ClientSession() as session:
        async with session.post(
            f"{url}/v1/track", json=body, headers=headers, ssl=context
        ) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{url}/healthz")
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://127.0.0.1:{there.http_port}/healthz")
    assert there.links.open_url("acme", "m").startswith("https://")


async def test_strangers_are_not_told_what_there_is_to_call(files: Files, there: app.App):
    async with grpc.aio.secure_channel(f"127.0.0.1:{there.grpc_port}", trusting(files)) as channel:
        reflect = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )
        call = reflect(iter([b""]))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_files_that_are_none_are_named(files: Files, database: Path, tmp_path: Path):
    for path, wrong in (
        ("tls.cert", str(files.client)),
        ("tls.key", str(tmp_path / "nowhere.pem")),
        ("tls.client_ca", str(tmp_path / "nowhere.pem")),
    ):
        with pytest.raises(InvalidArgument) as raised:
            async with app.run(settings(files, database, **{path: wrong}), {}):
                raise AssertionError("it started")
        named = {fault.field for fault in raised.value.violations}
        assert named <= {path, "tls.cert"}


async def test_nobody_is_asked_for_the_pass_phrase_of_a_key(
    files: Files, database: Path, tmp_path: Path
):
    key = load_pem_private_key(files.server_key.read_bytes(), None)
    shut = tmp_path / "shut.pem"
    phrase = BestAvailableEncryption(b"canary phrase")
    shut.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, phrase))
    with pytest.raises(InvalidArgument) as raised:
        async with app.run(settings(files, database, **{"tls.key": str(shut)}), {}):
            raise AssertionError("it started")
    (fault,) = raised.value.violations
    assert (fault.field, "encrypted" in fault.description) == ("tls.key", True)


async def test_the_command_line_by_certificates(files: Files, database: Path):
    wanted = settings(files, database, **{"tls.client_ca": str(files.ca)})
    async with app.run(wanted, {}) as there:
        environ = {
            "UPSHOT_SERVER": f"localhost:{there.grpc_port}",
            "UPSHOT_KEY": ROOT,
            "UPSHOT_TLS_CA": str(files.ca),
            "UPSHOT_TLS_CLIENT_CERT": str(files.client),
            "UPSHOT_TLS_CLIENT_KEY": str(files.client_key),
        }
        words = ("keys", "list", "--workspace", "acme")
        for given, code in (
            (environ, 0),
            ({**environ, "UPSHOT_TLS_CLIENT_KEY": "nowhere.pem"}, 2),
        ):
            await command(given, *words, code=code)
