"""Signed links: what we did not sign, or signed for something else, is never read."""

import hmac
import random
from base64 import urlsafe_b64encode
from time import perf_counter
from typing import get_args

import pytest

from upshotd.adapters.links import LinkSigner
from upshotd.domain.language import Link, LinkKind
from upshotd.domain.message import Email

SIGNER = LinkSigner(b"0123456789abcdef0123456789abcdef", "https://up.example/")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/\n %é"


def token_of(url: str) -> str:
    return url.rsplit("/", 1)[1]


def test_each_link_says_what_was_signed():
    opened = SIGNER.open_url("acme", "m1")
    clicked = SIGNER.click_url("acme", "m1", "https://shop.example/ä?a=1&b=2#c")
    left = SIGNER.unsubscribe_url("acme", "m1")
    assert opened.startswith("https://up.example/o/")
    assert opened.endswith(".gif")
    assert clicked.startswith("https://up.example/c/")
    assert left.startswith("https://up.example/u/")
    assert SIGNER.read("o", token_of(opened)) == Link("o", "acme", "m1")
    assert SIGNER.read("o", token_of(opened).removesuffix(".gif")) == Link("o", "acme", "m1")
    assert SIGNER.read("u", token_of(left)) == Link("u", "acme", "m1")
    assert SIGNER.read("c", token_of(clicked)) == Link(
        "c", "acme", "m1", "https://shop.example/ä?a=1&b=2#c"
    )


def test_a_token_of_one_kind_is_nothing_to_the_others():
    urls = {
        "o": SIGNER.open_url("acme", "m1"),
        "c": SIGNER.click_url("acme", "m1", "https://shop.example/"),
        "u": SIGNER.unsubscribe_url("acme", "m1"),
    }
    for made, url in urls.items():
        for kind in ("o", "c", "u"):
            if kind != made:
                assert SIGNER.read(kind, token_of(url).removesuffix(".gif")) is None


def test_templates_name_a_page_for_everything_that_can_be_chosen_or_decided():
    named = {word: str(url) for word, url in SIGNER.named("acme", "m1").items()}
    kinds = {"unsubscribe": "u", "preferences": "p"}
    kinds |= {"approve": "a", "deny": "d", "ask": "q", "review": "r"}
    assert named.keys() == kinds.keys()
    for word, kind in kinds.items():
        assert named[word].startswith(f"https://up.example/{kind}/")
        token = token_of(named[word])
        read = {one: SIGNER.read(one, token) for one in get_args(LinkKind)}
        assert read.pop(kind) == SIGNER.read_any(token) == Link(kind, "acme", "m1")
        assert set(read.values()) == {None}
    assert LinkSigner(b"k" * 32, "").named("acme", "m1") == {}


def test_our_own_pages_are_no_clicks():
    for url in SIGNER.named("acme", "m1").values():
        html = f'<a href="{url}">x</a>'
        assert html in decorated(html)


def test_ten_thousand_forged_and_mutated_tokens_are_refused():
    chance = random.Random(7)
    good = [
        token_of(SIGNER.click_url("acme", f"m{n}", f"https://shop.example/{n}")) for n in range(50)
    ]
    for number in range(10_000):
        token = list(chance.choice(good))
        match number % 5:
            case 0:
                place = chance.randrange(len(token))
                token[place] = chance.choice(ALPHABET.replace(token[place], ""))
            case 1:
                del token[chance.randrange(len(token))]
            case 2:
                token.insert(chance.randrange(len(token) + 1), chance.choice(ALPHABET))
            case 3:
                other = chance.choice(good)
                while other == "".join(token):
                    other = chance.choice(good)
                token = [*"".join(token).partition(".")[0], ".", *other.partition(".")[2]]
            case _:
                token = [chance.choice(ALPHABET) for _ in range(chance.randrange(120))]
        text = "".join(token)
        assert text in good or SIGNER.read("c", text) is None, text
        assert not any(SIGNER.read(kind, text) for kind in get_args(LinkKind) if kind != "c")


def test_the_spare_bits_of_the_last_character_are_no_second_token():
    token = token_of(SIGNER.unsubscribe_url("acme", "m1"))
    read = [SIGNER.read("u", token[:-1] + last) for last in ALPHABET]
    assert sum(link is not None for link in read) == 1
    assert SIGNER.read("u", token + "=") is None
    assert SIGNER.read("u", token + "\n") is None


def test_another_key_reads_nothing():
    other = LinkSigner(b"f" * 32, "https://up.example")
    assert other.read("u", token_of(SIGNER.unsubscribe_url("acme", "m1"))) is None
    with pytest.raises(ValueError, match="16 bytes"):
        LinkSigner(b"short", "https://up.example")


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"one\ntwo", b"a\nm\njavascript:alert(1)"])
def test_a_payload_we_would_not_make_is_not_read_even_when_it_is_signed(payload):
    text = urlsafe_b64encode(payload).rstrip(b"=")
    token = f"{text.decode()}.{SIGNER._mac('c', text).decode()}"
    assert SIGNER.read("c", token) is None


EVIL = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)",
    "data:text/html,x", "//evil.example/x", "\\\\evil.example", "/\\evil.example", "https:evil",
    "https:///evil.example", "https:\\\\evil.example", "http://", "https://?x", "ftp://x.example",
    "https://good.example\\@evil.example", "https://a\u0000b/", "https://a.example/\nX: y",
    "#top", "/local", "mailto:a@b.example", "tel:+1", "", "\ud800https://x.example",
    "https://x.example/\ud800", "https://x.example/" + "a" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("target", EVIL)
def test_only_absolute_web_addresses_are_clicked(target):
    with pytest.raises(ValueError, match="http"):
        SIGNER.click_url("acme", "m1", target)
    quoted = target.replace("&", "&amp;").replace('"', "&quot;").replace("\ud800", "&#xd800;")
    if target not in (" javascript:alert(1)", "https://x.example/\ud800"):
        html = f'<a href="{quoted}">x</a>'
        assert html in SIGNER.decorate(Email("s", html), "acme", "m1").html


def test_an_id_cannot_bring_a_target_along():
    with pytest.raises(ValueError, match="line break"):
        SIGNER.unsubscribe_url("acme\nm1", "x")


def decorated(html: str) -> str:
    return SIGNER.decorate(Email("s", html), "acme", "m1").html


def test_a_mail_is_decorated():
    mail = SIGNER.decorate(
        Email("Hi", '<html><body><a class="b" href="https://x.example/?a=1&amp;b=&quot;2">go</a></body></html>',
              "see https://x.example/"),
        "acme", "m1",
    )  # fmt: skip
    click = SIGNER.click_url("acme", "m1", 'https://x.example/?a=1&b="2')
    pixel = (
        f'<img src="{SIGNER.open_url("acme", "m1")}" width="1" height="1" alt="" style="border:0">'
    )
    assert mail.html == f'<html><body><a class="b" href="{click}">go</a>{pixel}</body></html>'
    assert mail.text == "see https://x.example/"
    assert mail.subject == "Hi"
    assert mail.unsubscribe_url == SIGNER.unsubscribe_url("acme", "m1")


def test_a_mail_without_html_gets_no_pixel():
    mail = SIGNER.decorate(Email("Hi", text="x"), "acme", "m1")
    assert mail.html == ""
    assert mail.unsubscribe_url


def test_without_an_address_of_our_own_mail_stays_as_it_is():
    mail = Email("Hi", '<a href="https://x.example">x</a>')
    assert LinkSigner(b"k" * 32, "").decorate(mail, "acme", "m1") is mail


@pytest.mark.parametrize(
    "tag",
    [
        '<a href="https://x.example/">',
        "<a href='https://x.example/'>",
        "<a href=https://x.example/>",
        '<A\nHREF = "https://x.example/" target="_blank">',
        '<a title="a > b" href="https://x.example/">',
        '<a href="&#104;ttps://x.example/">',
        '<a href=" https://x.example/ ">',
    ],
)
def test_every_way_to_write_a_link_is_found(tag):
    click = SIGNER.click_url("acme", "m1", "https://x.example/")
    assert f'"{click}"' in decorated(f"<p>{tag}x</a>")
    assert "//x.example" not in decorated(f"<p>{tag}x</a>")


@pytest.mark.parametrize(
    "tag",
    [
        '<a href="https://x.example/" data-upshot-notrack>',
        '<a DATA-UPSHOT-NOTRACK="1" href="https://x.example/">',
        "<a title=' href=\"https://x.example/\" '>",
        '<a data-href="https://x.example/">',
        '<abbr href="https://x.example/">',
        '<link href="https://x.example/">',
        '<a href="#top">',
        '<a href="#top" href="https://x.example/">',
        "<a href>",
        '<a href="https://x.example/',
    ],
)
def test_what_is_no_link_to_track_is_left(tag):
    assert decorated(tag).startswith(tag)


def test_hostile_html_is_read_in_linear_time():
    for html in ('<a "' * 60_000, "<a " * 80_000, "<a href=" * 30_000 + ">", "</body" * 40_000):
        begun = perf_counter()
        decorated(html)
        assert perf_counter() - begun < 1.0


def test_the_mac_is_hmac_sha256_cut_to_128_bits():
    for key in (b"k" * 16, b"k" * 64, b"k" * 100):
        text, mac = token_of(LinkSigner(key, "https://up.example").unsubscribe_url("a", "m")).split(
            "."
        )
        digest = hmac.digest(key, b"u|" + text.encode(), "sha256")[:16]
        assert mac == urlsafe_b64encode(digest).rstrip(b"=").decode()
