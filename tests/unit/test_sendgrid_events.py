"""SendGrid's events as engagements, and its signature beside the maker's own library."""

from base64 import b64decode, b64encode
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from sendgrid.helpers.eventwebhook import EventWebhook

from upshot.v1 import engagement_pb2 as pb
from upshotd.adapters.http.sendgrid import SIGNATURE, TIMESTAMP, facts, is_signed, public_keys

KEY: EllipticCurvePrivateKey = generate_private_key(SECP256R1())
OTHER: EllipticCurvePrivateKey = generate_private_key(SECP256R1())


def shown(key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> str:
    """Return the public key as SendGrid's page shows it."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(public).decode()


def signed(body: bytes, time: str = "1767225600") -> dict[str, str]:
    signature = KEY.sign(time.encode() + body, ECDSA(SHA256()))
    return {SIGNATURE: b64encode(signature).decode(), TIMESTAMP: time}


def theirs(headers: dict[str, str], body: bytes, key: str) -> bool:
    """Return what SendGrid's library says."""
    hook = EventWebhook(key)
    return bool(hook.verify_signature(body.decode(), headers[SIGNATURE], headers[TIMESTAMP]))


@given(st.text(st.characters(codec="utf-8")), st.integers(0, 2**33))
def test_what_is_signed_is_known_as_their_library_knows_it(text: str, time: int) -> None:
    body = text.encode()
    headers = signed(body, str(time))
    assert is_signed(public_keys(shown(KEY)), headers, body)
    assert theirs(headers, body, shown(KEY))
    assert not is_signed(public_keys(shown(OTHER)), headers, body)
    assert not theirs(headers, body, shown(OTHER))


def test_one_bit_of_anything_is_another_message() -> None:
    body = b'[{"event":"open"}]'
    keys, headers = public_keys(shown(KEY)), signed(body)
    for at in range(len(body) * 8):
        turned = bytearray(body)
        turned[at // 8] ^= 1 << at % 8
        assert not is_signed(keys, headers, bytes(turned))
    signature = b64decode(headers[SIGNATURE])
    for at in range(len(signature) * 8):
        turned = bytearray(signature)
        turned[at // 8] ^= 1 << at % 8
        wrong = {**headers, SIGNATURE: b64encode(turned).decode()}
        assert not is_signed(keys, wrong, body)
    for at in range(len(headers[TIMESTAMP]) * 8):
        turned = bytearray(headers[TIMESTAMP].encode())
        turned[at // 8] ^= 1 << at % 8
        wrong = {**headers, TIMESTAMP: turned.decode("latin-1")}
        assert not is_signed(keys, wrong, body)
    assert is_signed(keys, headers, body)


def test_no_byte_moves_between_time_and_body() -> None:
    body = b'[{"event":"open"}]'
    keys, headers = public_keys(shown(KEY)), signed(body)
    time = headers[TIMESTAMP]
    assert not is_signed(keys, {**headers, TIMESTAMP: time + "["}, body[1:])
    assert theirs({**headers, TIMESTAMP: time + "["}, body[1:], shown(KEY)), "theirs cannot tell"


@pytest.mark.parametrize("signature", ["", "no base64!", "ü", "AAAA", "MAYCAQECAQE="])
def test_what_is_no_signature_is_none(signature: str) -> None:
    keys = public_keys(shown(KEY))
    assert not is_signed(keys, {SIGNATURE: signature, TIMESTAMP: "1"}, b"[]")
    assert not is_signed(keys, {}, b"[]")
    assert not is_signed((), signed(b"[]"), b"[]")


def test_during_a_rotation_either_key_is_good() -> None:
    keys = public_keys(f"{shown(OTHER)} {shown(KEY)}")
    assert is_signed(keys, signed(b"[]"), b"[]")


@pytest.mark.parametrize("text", ["x", "AAAA", shown(Ed25519PrivateKey.generate()), "ü"])
def test_a_key_that_is_none_is_a_fault(text: str) -> None:
    with pytest.raises(ValueError, match="public key"):
        public_keys(text)


def event(name: str, **more: object) -> dict[str, object]:
    base = {"event": name, "sg_event_id": "e-1", "timestamp": 1767225600, "upshot": "token-1"}
    return {**base, "email": "ana@example.com", "ip": "203.0.113.9", **more}


def told(name: str, **more: object) -> pb.Engagement:
    (fact,) = facts([event(name, **more)])
    assert fact.token == "token-1"
    return fact.engagement


@pytest.mark.parametrize(
    ("name", "more", "kind"),
    [
        ("processed", {}, "ACCEPTED"),
        ("delivered", {}, "DELIVERED"),
        ("deferred", {"response": "450 later", "attempt": "3"}, "DEFERRED"),
        ("bounce", {"type": "bounce", "reason": "550 no such user"}, "BOUNCED"),
        ("bounce", {"type": "blocked", "reason": "421 your server"}, "UNDELIVERED"),
        ("bounce", {"reason": "asynchronous, without a type"}, "BOUNCED"),
        ("dropped", {"reason": "Bounced Address"}, "BOUNCED"),
        ("dropped", {"reason": "Invalid"}, "BOUNCED"),
        ("dropped", {"reason": "Unsubscribed Address"}, "UNDELIVERED"),
        ("dropped", {"reason": "Spam Reporting Address"}, "UNDELIVERED"),
        ("dropped", {"reason": "Recipient List over Package Quota"}, "UNDELIVERED"),
        ("open", {}, "OPENED"),
        ("click", {"url": "https://shop.example/a"}, "CLICKED"),
        ("spamreport", {}, "COMPLAINED"),
        ("unsubscribe", {}, "UNSUBSCRIBED"),
        ("group_unsubscribe", {"asm_group_id": 7}, "UNSUBSCRIBED"),
        ("group_resubscribe", {"asm_group_id": 7}, "RESUBSCRIBED"),
    ],
)
def test_every_event_has_its_kind(name: str, more: dict[str, object], kind: str) -> None:
    engagement = told(name, **more)
    assert pb.EngagementKind.Name(engagement.kind) == f"ENGAGEMENT_KIND_{kind}"
    assert engagement.engagement_id == "sendgrid:e-1"
    assert engagement.occur_time.seconds == 1767225600
    assert engagement.reason == (more.get("reason") or more.get("response") or "")
    assert engagement.link_url == more.get("url", "")
    assert not engagement.machine


def test_a_prefetch_is_a_machine_s() -> None:
    assert told("open", sg_machine_open=True).machine
    assert not told("open", sg_machine_open="true").machine


def test_who_and_where_somebody_is_is_not_taken_over() -> None:
    engagement = told("bounce", type="bounce", status="5.1.1", reason="<ana@example.com> is gone")
    assert engagement.reason == "<<address>> is gone"
    assert "ana@" not in str(engagement)
    assert "203.0.113.9" not in str(engagement)
    assert dict(engagement.data) == {"event": "bounce", "type": "bounce", "status": "5.1.1"}


@pytest.mark.parametrize(
    "strange",
    [
        event("account_status_change"),
        event("open", upshot=""),
        event("open", upshot=7),
        event("open", sg_event_id=None),
        event("open", sg_event_id="e" * 101),
        {},
        [],
        None,
        "open",
    ],
)
def test_what_is_not_about_a_message_of_ours_is_passed_over(strange: object) -> None:
    assert list(facts([strange, event("open")])) == list(facts([event("open")]))


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(sorted(event("open", url="", reason="", type="", attempt=1))),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]),
        )
        | st.none()
    )
)
def test_nothing_that_comes_breaks_it(events: list[object]) -> None:
    with suppress(UnicodeEncodeError):  # no JSON that we read holds a lone surrogate
        list(facts(events))
