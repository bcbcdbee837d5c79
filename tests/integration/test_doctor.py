"""`upshot doctor`: what it finds, what it says, and how it ends."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.contract.http_worlds import TWILIO_ACCOUNT
from tests.contract.push_worlds import NOTIFY_SERVICE, FcmWorld, NotifyWorld, account_json
from tests.integration.cli_world import command
from tests.unit.test_sendgrid_events import KEY, shown

CONFIG = """
public_url = "https://up.example"
[providers.mail]
kind = "sendgrid"
api_key = "{sendgrid}"
from = "a@b.example"
base_url = "{url}"
[providers.spare]
kind = "resend"
api_key = "re_good"
from = "a@b.example"
base_url = "{url}"
[providers.texts]
kind = "twilio"
account_sid = "{account}"
auth_token = "good"
from = "+15550001"
base_url = "{url}"
[providers.team]
kind = "slack"
token = "{slack}"
base_url = "{url}"
[channels]
email = ["mail", "spare"]
sms = "texts"
chat = "team"
"""


@pytest.fixture
async def url() -> Any:
    """The makers, as far as they say whether they know us."""

    async def good(request: web.Request) -> web.Response:
        known = request.headers.get("authorization", "") in (
            "Bearer SG.good",
            "Bearer re_good",
        )
        return web.json_response({}, status=200 if known else 401)

    async def account(request: web.Request) -> web.Response:
        return web.json_response({}, status=200 if "Basic" in str(request.headers) else 401)

    async def slack(request: web.Request) -> web.Response:
        good = request.headers["authorization"] == "Bearer xoxb-good"
        return web.json_response({"ok": True} if good else {"ok": False, "error": "invalid_auth"})

    routes = web.Application()
    routes.router.add_get("/v3/scopes", good)
    routes.router.add_get("/domains", good)
    routes.router.add_get(f"/2010-04-01/Accounts/{TWILIO_ACCOUNT}.json", account)
    routes.router.add_post("/auth.test", slack)
    runner = web.AppRunner(routes)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def ask(
    tmp_path: Path, text: str, *words: str, code: int = 0, environ: dict[str, str] | None = None
) -> str:
    config = tmp_path / "upshot.toml"
    config.write_text(text)
    asked = ("doctor", "--config", str(config), *words)
    return "".join(await command(environ or {}, *asked, code=code))


def config(url: str, sendgrid: str = "SG.good", slack: str = "xoxb-good") -> str:
    return CONFIG.format(url=url, sendgrid=sendgrid, slack=slack, account=TWILIO_ACCOUNT)


async def test_good_credentials_are_good(tmp_path: Path, url: str) -> None:
    said = await ask(tmp_path, config(url), "--ask")
    assert said.count(" good") == 4, said
    assert "https://up.example/callbacks/sendgrid/mail" in said
    assert "https://up.example/callbacks/twilio/texts/" in said
    assert "https://up.example/callbacks/twilio/texts/inbound/default\n" in said
    assert "https://up.example/inbound/segment/KEY" in said
    assert "webhook_key is not set" in said
    assert "auth.required is not set" in said
    assert "SG.good" not in said


async def test_what_is_refused_ends_with_1(tmp_path: Path, url: str) -> None:
    said = await ask(tmp_path, config(url, sendgrid="SG.old", slack="xoxb-old"), "--ask", code=1)
    assert "refused: HTTP 401" in said
    assert "refused: invalid_auth" in said
    said = await ask(tmp_path, config("http://127.0.0.1:9"), "--ask", code=1)
    assert said.count("refused: not reached") == 4


async def test_nobody_is_asked_unless_told_so(tmp_path: Path) -> None:
    assert (await ask(tmp_path, config("http://127.0.0.1:9"))).count("not asked") == 4


async def test_faults_are_named_and_end_with_2(tmp_path: Path) -> None:
    text = config("http://127.0.0.1:9")
    said = await ask(tmp_path, text.replace('api_key = "SG.good"', ""), code=2)
    assert "providers.mail.api_key" in said
    wrong = f'kind = "sendgrid"\nwebhook_key = "x{shown(KEY)}"'
    said = await ask(tmp_path, text.replace('kind = "sendgrid"', wrong), code=2)
    assert "providers.mail.webhook_key" in said
    outside = '[secrets]\nshop = {env = "SHOP"}\n[generate]\nendpoint = "https://a.example"\n'
    said = await ask(tmp_path, f'{outside}model = "small"\nsecret = "other"\n', code=2)
    assert "secrets.shop: the environment variable that it names is not set" in said
    assert "generate.secret: is 'other', which is no [secrets]" in said
    tls = 'listen = "127.0.0.1:0"\n[tls]\ncert = "nowhere.pem"\nkey = "nowhere.pem"\n'
    assert "tls.cert" in await ask(tmp_path, tls, code=2)


PUSH = """
public_url = "https://up.example"
[providers.push]
kind = "fcm"
service_account_env = "FCM_ACCOUNT"
base_url = "{fcm}"
token_url = "{token}"
[providers.old]
kind = "twilio_notify"
account_sid = "{account}"
auth_token = "token"
service_sid = "{service}"
base_url = "{notify}"
[channels]
push = ["push", "old"]
"""


async def test_push_is_asked_without_sending_and_explained(tmp_path: Path) -> None:
    firebase, notify = FcmWorld(), NotifyWorld()
    await firebase.start()
    await notify.start()
    text = PUSH.format(
        fcm=f"http://127.0.0.1:{firebase.port}",
        token=firebase.token_url,
        account=TWILIO_ACCOUNT,
        service=NOTIFY_SERVICE,
        notify=f"http://127.0.0.1:{notify.port}",
    )
    account = {"FCM_ACCOUNT": account_json()}
    said = await ask(tmp_path, text, "--ask", environ=account)
    assert said.count(" good") == 2, said
    assert "Twilio ends Notify on 2027-10-31" in said
    assert "https://up.example/callbacks/twilio_notify/old/" in said
    assert "upshot_message_id" in said
    assert "PRIVATE KEY" not in said
    assert firebase.ledger == notify.ledger == []
    stranger = {"FCM_ACCOUNT": account_json(client_email="eve@example.com")}
    said = await ask(tmp_path, text, "--ask", environ=stranger, code=1)
    assert "refused: configuration: no access token: HTTP 400, invalid_grant" in said
    for there in (firebase, notify):
        await there.provider.close()
        await there.stop()


async def test_without_anything_it_says_that_nothing_leaves(tmp_path: Path) -> None:
    said = await ask(tmp_path, "")
    assert "none leaves this machine" in said
    assert "public_url is not set" in said
    assert "generate steps get no answer (NOT_CONFIGURED)" in said
