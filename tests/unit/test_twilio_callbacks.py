"""What Twilio tells as engagements, and its signature beside the maker's own library."""

import hashlib
from base64 import b64decode, b64encode
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from upshot.v1 import engagement_pb2 as pb
from upshot.v1.outcome_pb2 import CHANNEL_SMS
from upshotd.adapters.http.twilio import answer, facts, is_signed

TOKEN = "0123456789abcdef0123456789abcdef"
URL = "https://up.example/callbacks/twilio/sms/a-token"
FORM = [("MessageSid", "SM1"), ("MessageStatus", "delivered"), ("To", "+41790000000")]
OURS = RequestValidator(TOKEN)

names = st.text(st.characters(codec="utf-8"), max_size=8)
forms = st.lists(st.tuples(names, names), max_size=8)
urls = st.builds(
    lambda scheme, host, port, path, query: f"{scheme}://{host}{port}/{path}{query}",
    st.sampled_from(["https", "http"]),
    st.sampled_from(["up.example", "a.b.example", "127.0.0.1"]),
    st.sampled_from(["", ":443", ":80", ":8443"]),
    st.from_regex(r"[a-zA-Z0-9._~/-]{0,20}", fullmatch=True),
    st.sampled_from(["", "?a=1", "?a=1&b=%C3%A9"]),
)


def theirs(url: str, form: list[tuple[str, str]]) -> str:
    return str(OURS.compute_signature(url, MultiDict(form)))


@given(urls, forms)
def test_what_their_library_signs_is_known(url: str, form: list[tuple[str, str]]) -> None:
    signature = theirs(url, form)
    assert is_signed([TOKEN], url, form, b"", signature)
    assert OURS.validate(url, MultiDict(form), signature)
    assert not is_signed(["another token"], url, form, b"", signature)
    assert is_signed(["another token", TOKEN], url, form, b"", signature), "one of two is enough"
    assert is_signed([TOKEN], url, form[::-1], b"", signature), "the order is not signed"


@given(forms, forms)
def test_their_library_and_ours_refuse_the_same(
    form: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    signature = theirs(URL, form)
    expected = OURS.validate(URL, MultiDict(other), signature)
    assert is_signed([TOKEN], URL, other, b"", signature) is bool(expected)


@pytest.mark.parametrize("signed", ["https://up.example/x?y=1", "https://up.example:443/x?y=1"])
@pytest.mark.parametrize("called", ["https://up.example/x?y=1", "https://up.example:443/x?y=1"])
def test_with_the_port_and_without(signed: str, called: str) -> None:
    assert is_signed([TOKEN], called, FORM, b"", theirs(signed, FORM))


def test_one_bit_of_anything_is_another_call() -> None:
    signature = theirs(URL, FORM)
    body = urlencode(FORM)
    for at in range(len(URL) * 7):
        url = URL[: at // 7] + chr(ord(URL[at // 7]) ^ 1 << at % 7) + URL[at // 7 + 1 :]
        if url.startswith("https://") and "[" not in url and "]" not in url:
            assert not is_signed([TOKEN], url, FORM, b"", signature), url
    for index, (name, value) in enumerate(FORM):
        for at in range(len(value) * 7):
            turned = (
                value[: at // 7] + chr(ord(value[at // 7]) ^ 1 << at % 7) + value[at // 7 + 1 :]
            )
            form = [*FORM[:index], (name, turned), *FORM[index + 1 :]]
            assert not is_signed([TOKEN], URL, form, body.encode(), signature)
    raw = b64decode(signature)
    for at in range(len(raw) * 8):
        turned_bytes = bytearray(raw)
        turned_bytes[at // 8] ^= 1 << at % 8
        assert not is_signed([TOKEN], URL, FORM, b"", b64encode(turned_bytes).decode())


@pytest.mark.parametrize("signature", ["", "ü", "\udcff", "x" * 10_000])
def test_what_is_no_signature_is_none(signature: str) -> None:
    assert not is_signed([TOKEN], URL, FORM, b"", signature)
    assert not is_signed([], URL, FORM, b"", theirs(URL, FORM))


def test_a_body_that_is_no_form_is_known_by_its_hash() -> None:
    body = b'{"a": 1}'
    url = f"{URL}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = str(OURS.compute_signature(url, {}))
    assert is_signed([TOKEN], url, [], body, signature)
    assert OURS.validate(url, body.decode(), signature)
    assert not is_signed([TOKEN], url, [], body + b" ", signature)
    assert not OURS.validate(url, body.decode() + " ", signature)


def told(status: str, **more: str) -> list[pb.Engagement]:
    form = {"MessageSid": "SM1", "MessageStatus": status, "From": "+1555", "To": "+4179", **more}
    found = list(facts("token-1", form))
    assert {fact.token for fact in found} <= {"token-1"}
    return [fact.engagement for fact in found]


@pytest.mark.parametrize(
    ("status", "code", "kinds"),
    [
        ("accepted", "", ["ACCEPTED"]),
        ("scheduled", "", ["ACCEPTED"]),
        ("queued", "", ["ACCEPTED"]),
        ("sending", "", ["ACCEPTED"]),
        ("sent", "", ["ACCEPTED"]),
        ("delivered", "", ["DELIVERED"]),
        ("read", "", ["OPENED"]),
        ("canceled", "", ["UNDELIVERED"]),
        ("failed", "30008", ["UNDELIVERED"]),
        ("undelivered", "30003", ["UNDELIVERED"]),
        ("undelivered", "30007", ["UNDELIVERED"]),
        ("undelivered", "30005", ["BOUNCED"]),
        ("undelivered", "30006", ["BOUNCED"]),
        ("failed", "21610", ["UNDELIVERED", "UNSUBSCRIBED"]),
        ("delivered", "30005", ["DELIVERED"]),
    ],
)
def test_every_status_has_its_kind(status: str, code: str, kinds: list[str]) -> None:
    found = told(status, ErrorCode=code)
    assert [pb.EngagementKind.Name(e.kind) for e in found] == [
        f"ENGAGEMENT_KIND_{k}" for k in kinds
    ]
    assert found[0].engagement_id == f"twilio:SM1:{status}"
    assert found[0].reason == (f"Twilio error {code}" if code else "")
    assert "+4179" not in str(found)


@pytest.mark.parametrize("status", ["", "receiving", "received", "partially_delivered", "new"])
def test_a_status_that_says_nothing_of_a_message_of_ours_is_passed_over(status: str) -> None:
    assert told(status) == []
    assert told("delivered", MessageSid="") == []
    assert told("delivered", MessageSid="S" * 101) == []


NAMES = ["MessageSid", "MessageStatus", "ErrorCode", "From", "Body", "OptOutType", "MediaUrl0"]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(codec="utf-8"))))
def test_nothing_that_comes_breaks_it(form: dict[str, str]) -> None:
    list(facts("t", form))
    answer(form)
    answer({**form, "MessageSid": "SM1", "From": "+15550001"})


def test_an_answer_says_who_answers_and_what_and_no_more() -> None:
    form = {"MessageSid": "SM1", "From": "+15550001", "To": "+15550009", "Body": "", "FromZip": "1"}
    said = answer(form)
    assert said == pb.Engagement(
        engagement_id="twilio:SM1:reply",
        kind=pb.ENGAGEMENT_KIND_REPLIED,
        recipient=pb.Recipient(channel=CHANNEL_SMS, address="+15550001"),
        data=said.data if said is not None else None,
    )
    assert said is not None
    assert dict(said.data) == {"body": ""}
    many = {f"MediaUrl{n}": f"https://m.example/{n}" for n in range(20)}
    said = answer({**form, **many})
    assert said is not None
    assert len(said.data["media_urls"]) == 10
