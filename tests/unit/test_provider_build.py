"""Providers out of the settings: every fault of a table is named at once, by path."""

import base64
import io
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from upshotd.adapters.providers.build import CHANNELS, build
from upshotd.adapters.providers.console import ConsoleProvider
from upshotd.adapters.providers.null import NullProvider
from upshotd.adapters.providers.options import Home
from upshotd.adapters.providers.smtp import SmtpProvider, SmtpSettings
from upshotd.adapters.providers.webhook import WebhookProvider, WebhookSettings
from upshotd.adapters.providers.wording import DETAIL_LENGTH, Quoting
from upshotd.application.provider import Provider
from upshotd.domain.errors import InvalidArgument
from upshotd.domain.message import Accepted, Channel, Delivery, Email, Sms, Unknown

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
SECRET = f"whsec_{KEY}"
MAIL: dict[str, object] = {"host": "mail.example.org", "from": "hello@example.org"}
HOOK: dict[str, object] = {"url": "https://hooks.example.org/in", "secret": SECRET}


def made(kind: str, options: Mapping[str, object], **environ: str) -> Provider:
    return build(kind, "mine", options, Home(lambda: 0, environ))


def smtp_settings(options: Mapping[str, object], **environ: str) -> SmtpSettings:
    provider = made("smtp", {**MAIL, **options}, **environ)
    assert isinstance(provider, SmtpProvider)
    return provider._settings


def webhook_settings(options: Mapping[str, object], **environ: str) -> WebhookSettings:
    provider = made("webhook", {**HOOK, **options}, **environ)
    assert isinstance(provider, WebhookProvider)
    return provider._settings


def faults(kind: str, options: Mapping[str, object], **environ: str) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        made(kind, options, **environ)
    assert KEY not in repr(caught.value.violations)
    return {fault.field: fault.description for fault in caught.value.violations}


def test_every_kind_says_what_it_can_carry() -> None:
    own = {"smtp", "sendgrid", "resend", "twilio", "slack", "fcm", "twilio_notify"}
    assert set(CHANNELS) == {"console", "null", "webhook"} | own
    assert CHANNELS["slack"] == {Channel.CHAT}
    assert CHANNELS["fcm"] == CHANNELS["twilio_notify"] == {Channel.PUSH}
    assert CHANNELS["resend"] == {Channel.EMAIL}
    assert CHANNELS["sendgrid"] == {Channel.EMAIL}
    assert CHANNELS["twilio"] == {Channel.SMS}
    assert CHANNELS["smtp"] == {Channel.EMAIL}
    for kind in ("console", "null", "webhook"):
        assert CHANNELS[kind] == set(Channel) - {Channel.UNSPECIFIED}


def test_the_kinds_without_options() -> None:
    assert isinstance(made("console", {}), ConsoleProvider)
    assert isinstance(made("null", {}), NullProvider)
    assert list(faults("console", {"colour": "red"})) == ["providers.mine.colour"]
    assert list(faults("null", {"speed": 1})) == ["providers.mine.speed"]


def test_an_unknown_kind_is_named_with_the_known_ones() -> None:
    described = faults("pigeon", {})
    assert "smtp" in described["providers.mine.kind"]


def test_smtp_with_its_defaults_encrypts() -> None:
    settings = smtp_settings({})
    assert (settings.tls, settings.port) == ("starttls", 587)
    assert settings.from_address == "hello@example.org"
    assert settings.timeout_us == 15_000_000


@pytest.mark.parametrize(("tls", "port"), [("none", 25), ("starttls", 587), ("tls", 465)])
def test_the_port_follows_the_encryption(tls: str, port: int) -> None:
    assert smtp_settings({"tls": tls}).port == port
    assert smtp_settings({"tls": tls, "port": 2525}).port == 2525


@pytest.mark.parametrize(
    ("given", "name", "address"),
    [
        ("a@b.example", "", "a@b.example"),
        ("<a@b.example>", "", "a@b.example"),
        ("Ana <a@b.example>", "Ana", "a@b.example"),
        ('"Ana, us" <a@b.example>', "Ana, us", "a@b.example"),
        ("Ärger <a@bücher.example>", "Ärger", "a@xn--bcher-kva.example"),
    ],
)
def test_the_sender_may_have_a_name(given: str, name: str, address: str) -> None:
    settings = smtp_settings({"from": given})
    assert (settings.from_name, settings.from_address) == (name, address)


@pytest.mark.parametrize(
    "given",
    [
        "nobody",
        "a@b.example\r\nBcc: x@y.example",
        "A\r\nBcc: x <a@b.example>",
        "A\u2028B <a@b.example>",
        "ä@b.example",
        "a@b.example, c@d.example",
        f"{'n' * 101} <a@b.example>",
        7,
    ],
)
def test_a_sender_that_cannot_be_a_header_is_named(given: object) -> None:
    assert "providers.mine.from" in faults("smtp", {**MAIL, "from": given})


@pytest.mark.parametrize(
    ("given", "length_us"),
    [(10, 10_000_000), (0.5, 500_000), ("10s", 10_000_000), ("500ms", 500_000), ("1m", 60_000_000)],
)
def test_a_timeout_is_seconds_or_text(given: object, length_us: int) -> None:
    assert smtp_settings({"timeout": given}).timeout_us == length_us


@pytest.mark.parametrize(
    "given", [0, -1, True, "soon", "10", "3m", 1e300, float("inf"), float("nan"), [], "0s"]
)
def test_a_timeout_that_is_none_is_named(given: object) -> None:
    assert list(faults("smtp", {**MAIL, "timeout": given})) == ["providers.mine.timeout"]


@pytest.mark.parametrize("port", [0, 65_536, "25", True, 2.5])
def test_a_port_that_is_none_is_named(port: object) -> None:
    assert list(faults("smtp", {**MAIL, "port": port})) == ["providers.mine.port"]


def test_every_fault_of_a_table_is_named_at_once() -> None:
    options = {"host": "a b", "tls": "maybe", "port": "x", "timeout": "y", "pasword": "z"}
    assert set(faults("smtp", options)) == {
        f"providers.mine.{option}"
        for option in ("host", "from", "tls", "port", "timeout", "pasword")
    }
    assert set(faults("webhook", {})) == {"providers.mine.url", "providers.mine.secret"}


def test_a_missing_or_empty_option_is_required() -> None:
    described = faults("smtp", {"host": ""})
    assert described["providers.mine.host"] == "is required"
    assert described["providers.mine.from"] == "is required"


@pytest.mark.parametrize(
    "options", [{"password_env": "MAIL_PASSWORD"}, {"password": {"env": "MAIL_PASSWORD"}}]
)
def test_a_secret_may_come_from_the_environment(options: dict[str, object]) -> None:
    settings = smtp_settings({"username": "us", **options}, MAIL_PASSWORD="hush")
    assert settings.password == "hush"
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    "options",
    [
        {"password_env": "MAIL_PASSWORD"},
        {"password": {"env": "MAIL_PASSWORD"}},
        {"password": {"env": 7}},
        {"password": {"file": "/nowhere/password"}},
        {"password": {"file": ""}},
        {"password": {"vault": "x"}},
        {"password": {"env": "A", "file": "b"}},
        {"password_file": "/nowhere/password"},
        {"password": 7},
    ],
)
def test_a_secret_that_cannot_be_found_is_named(options: dict[str, object]) -> None:
    assert "providers.mine.password" in faults("smtp", {**MAIL, "username": "us", **options})


def test_a_secret_is_given_once() -> None:
    options = {"password": "a", "password_env": "B", "username": "us"}
    assert "providers.mine.password_env" in faults("smtp", {**MAIL, **options}, B="b")


def test_a_secret_comes_from_one_place(tmp_path: Path) -> None:
    options = {"password_file": str(tmp_path / "x"), "password_env": "B", "username": "us"}
    found = faults("smtp", {**MAIL, **options}, B="b")
    assert {"providers.mine.password_env", "providers.mine.password_file"} & found.keys()
    assert "password_file" not in faults("smtp", {**MAIL, "colour": 1})["providers.mine.colour"]


def test_a_password_needs_a_name_and_an_encrypted_line() -> None:
    clear: dict[str, object] = {"tls": "none", "username": "us", "password": "hush"}
    assert list(faults("smtp", {**MAIL, **clear})) == ["providers.mine.tls"]
    assert list(faults("smtp", {**MAIL, "password": "hush"})) == ["providers.mine.username"]
    for host in ("localhost", "127.0.0.1", "::1"):
        assert smtp_settings({**clear, "host": host}).password == "hush"


def test_a_webhook_signs_with_all_its_secrets() -> None:
    assert webhook_settings({}).keys == (b"012345678901234567890123",)
    assert len(webhook_settings({"secret": f"{SECRET} {SECRET}"}).keys) == 2
    from_env = webhook_settings({"secret": {"env": "HOOK"}}, HOOK=SECRET)
    assert from_env.keys == webhook_settings({}).keys


@pytest.mark.parametrize(
    "secret", ["hush", KEY, "whsec_", "whsec_aHVzaA==", "whsec_" + "*" * 40, " "]
)
def test_a_webhook_secret_that_is_none_is_named(secret: str) -> None:
    assert list(faults("webhook", {**HOOK, "secret": secret})) == ["providers.mine.secret"]


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example.org/in",
        "ftp://hooks.example.org/",
        "https://",
        "https://user:hush@hooks.example.org/",
        "https://hooks.example.org:99999/",
        "https://hooks.example.org/\r\nX: y",
        "https://[::1/",
    ],
)
def test_an_address_that_cannot_be_posted_to_is_named(url: str) -> None:
    assert list(faults("webhook", {**HOOK, "url": url})) == ["providers.mine.url"]


def test_extra_headers_may_hold_secrets() -> None:
    headers = {"X-Tenant": "seven", "Authorization": {"env": "TOKEN"}}
    settings = webhook_settings({"headers": headers}, TOKEN="Bearer hush")
    assert settings.headers == {"X-Tenant": "seven", "Authorization": "Bearer hush"}
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ("x", "headers"),
        ({"Webhook-Id": "x"}, "headers.Webhook-Id"),
        ({"Host": "x"}, "headers.Host"),
        ({"X Y": "x"}, "headers.X Y"),
        ({"": "x"}, "headers."),
        ({"X": "a\r\nY: b"}, "headers.X"),
        ({"X": "ä"}, "headers.X"),
        ({"X": 7}, "headers.X"),
    ],
)
def test_a_header_that_cannot_be_one_is_named(headers: object, field: str) -> None:
    assert f"providers.mine.{field}" in faults("webhook", {**HOOK, "headers": headers})


def a_text(body: str, **changes: object) -> Delivery:
    fields: dict[str, object] = {"channel": Channel.SMS, "recipient": "+1", "content": Sms(body)}
    ids = dict.fromkeys(("workspace_id", "user_id", "workflow_id", "run_id", "step_id"), "x")
    return Delivery(**{"message_id": "msg-1", **ids, **fields, **changes})  # type: ignore[arg-type]


async def test_the_console_shows_what_it_is_given_and_no_escape_of_it() -> None:
    screen = io.StringIO()
    console = ConsoleProvider("console", screen)
    await console.send(a_text("Hi \x1b[2J\u2028there\nagain", attempt=2, possible_duplicate=True))
    mail = Email("Hello\r\n---", html="<p>Hi</p>", unsubscribe_url="https://e.example/u")
    await console.send(a_text("", channel=Channel.EMAIL, content=mail))

    assert screen.getvalue() == (
        "--- sms to +1 (attempt 2) (possible duplicate)\n"
        "    message msg-1, workflow x, step x\n"
        "    Hi \\x1b[2J\\u2028there\n"
        "    again\n"
        "---\n"
        "--- email to +1\n"
        "    message msg-1, workflow x, step x\n"
        "    subject: Hello\\x0d\\x0a---\n"
        "    unsubscribe: https://e.example/u\n"
        "    <p>Hi</p>\n"
        "---\n"
    )


async def test_the_console_is_stdout_and_manages_with_ascii(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))

    assert await made("console", {}).send(a_text("Grüezi")) == Accepted("msg-1")
    assert rb"Gr\xfcezi" in raw.getvalue()


async def test_a_console_that_is_gone_is_no_exception() -> None:
    screen = io.StringIO()
    screen.close()

    assert isinstance(await ConsoleProvider("console", screen).send(a_text("x")), Unknown)


def test_a_providers_words_are_kept_short_and_name_nobody() -> None:
    quoting = Quoting()
    assert quoting.detail("550 <ana@example.com>\r\nno such") == "550 <<address>> no such"
    assert quoting.detail("user ana@example.com\x07 gone") == "user <address> gone"
    assert len(quoting.detail("x" * 1000)) == DETAIL_LENGTH


@pytest.mark.parametrize(
    "said",
    [
        "the key SG.a+b/c is not known",
        "the key sg.A+b/c is not known",
        "Bearer SG.a+b/c?",
        "key=SG.a%2Bb%2Fc",
        f"who is {base64.b64encode(b'SG.a+b/c').decode()}",
    ],
)
def test_a_providers_words_do_not_tell_what_it_was_shown(said: str) -> None:
    told = Quoting("SG.a+b/c", "").detail(said)
    assert "<secret>" in told
    assert "a+b" not in told.lower()


def test_a_key_that_begins_with_another_is_taken_out_whole() -> None:
    assert Quoting("secret", "secret-and-more").detail("secret-and-more") == "<secret>"
