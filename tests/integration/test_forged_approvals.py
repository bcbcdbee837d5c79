"""Forged, altered and misused links to decide: none is believed, and nothing is decided by any."""

import asyncio
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote, urlencode

import grpc

from tests.integration.approval_world import PUBLIC, World, approval_world
from tests.wire import fact
from upshot.v1 import admin_pb2, outcome_pb2, service_pb2
from upshotd.adapters.links import LinkSigner

#: Attacks of one run; each of them comes from the seed.
ATTACKS, CALLS, SEED, AT_ONCE = 10_000, 2_000, 20_261_128, 32
DECIDED = outcome_pb2.OUTCOME_KIND_APPROVAL_DECIDED
FORM = "application/x-www-form-urlencoded"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SAYS = {"a": ("approve",), "d": ("deny",), "q": ("ask",), "r": ("approve", "deny", "ask")}
KINDS = tuple(SAYS)
EVERY_KIND = (*KINDS, *"ocupk")
WORDS = ("APPROVED", "DENIED", "ASKED", "ANSWERED")
WORDS_OF = {"a": WORDS[:1], "d": WORDS[1:2], "q": WORDS[2:3], "r": WORDS[:3]}


class Attack(NamedTuple):
    name: str
    method: str
    path: str
    body: bytes = b""
    content_type: str = FORM
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def shows(self) -> bool:
        """Whether it is a look at a page by a genuine link, which is answered."""
        return self.name == "look" and self.method in ("GET", "HEAD")


Make: TypeAlias = Callable[[], Attack]


class Forger:
    """Has seen every link that Ann and Pia got, those of another workspace, and no key."""

    def __init__(self, seed: int, world: World) -> None:
        self._random = random.Random(seed)
        self._world = world
        ann, ben = (world.sent[name].encode() for name in ("ann", "ben"))
        #: What Ann's token would say to be of another message, or of the same in other words.
        self._targets = (
            b"default\n" + ben + b"\n",
            b"default\n" + ann + b"\n\n",
            b"acme\n" + ann + b"\n",
            b"default\n" + ann,
            b"",
        )
        self._other = LinkSigner(b"another key of sixteen bytes", PUBLIC)
        self._ways: Sequence[Make] = (
            self._altered_token,
            self._token_of_another_kind,
            self._token_of_another_message,
            self._way_of_another_kind,
            self._look,
            self._no_form,
        )

    def attack(self) -> Attack:
        return self._random.choice(self._ways)()

    def token(self) -> str:
        """Return a token that nobody signed."""
        kind = self._random.choice(EVERY_KIND)
        real = self._world.token(kind, self._random.choice(("ann", "ben", "pia")))
        while (forged := self._altered(real)) == real:
            pass
        return forged

    # -- kinds of attacks

    def _altered_token(self) -> Attack:
        kind = self._random.choice(KINDS)
        return self._any("altered", kind, quote(self._altered(self._world.token(kind)), safe="%"))

    def _token_of_another_kind(self) -> Attack:
        kind = self._random.choice(KINDS)
        other = self._random.choice([one for one in EVERY_KIND if one != kind])
        return self._any("kind", kind, self._world.token(other))

    def _token_of_another_message(self) -> Attack:
        """One that was signed: of a message that asks nothing, of none, of another workspace."""
        kind = self._random.choice(KINDS)
        message_id, workspace_id = self._random.choice(
            (("pia", "default"), ("m-none", "default"), ("ann", "acme"), ("ann", ""))
        )
        return self._any("message", kind, self._world.token(kind, message_id, workspace_id))

    def _way_of_another_kind(self) -> Attack:
        """A genuine link, and a form that is not the one of its page."""
        kind = self._random.choice("adq")
        says = self._random.choice([one for one in SAYS["r"] if one not in SAYS[kind]])
        given = self._random.choice((says, says.upper(), SAYS[kind][0].upper(), "", "answer"))
        body = self._form(given) + self._random.choice((b"", b"&kind=11", b"&decision=approve"))
        return Attack("way", "POST", self._world.path(kind), body)

    def _look(self) -> Attack:
        """A genuine link, and everything but a POST."""
        kind = self._random.choice(KINDS)
        path = self._world.path(kind) + self._query(kind)
        method = self._random.choice(("GET", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"))
        override = (("X-HTTP-Method-Override", "POST"), ("X-Method-Override", "POST"))
        headers = self._random.choice(((), override))
        body = b"" if method == "HEAD" else self._random.choice((b"", self._form(SAYS[kind][0])))
        return Attack("look", method, path, body, headers=headers)

    def _no_form(self) -> Attack:
        """A genuine link, what it would say in the address, and no form in the body."""
        kind = self._random.choice(KINDS)
        says = SAYS[kind][0]
        body, content_type = self._random.choice(
            (
                (b"", FORM),
                (b'{"do": "%s"}' % says.encode(), "application/json"),
                (self._form(says), "text/plain"),
                (self._form(says), "application/octet-stream"),
                (b"List-Unsubscribe=One-Click", FORM),
                (f"--x\r\nContent-Disposition: form-data; name=do\r\n\r\n{says}".encode(),
                 "multipart/form-data; boundary=x"),
                (b"do=" + says.encode() + b"%00&comment=x", FORM),
                (b"do%5B%5D=" + says.encode(), FORM),
                (b"do=" + says.encode() + b"&question=" + b"x" * 2_001 + b"&comment="
                 + b"x" * 2_001, FORM),
            )
        )  # fmt: skip
        return Attack(
            "form", "POST", self._world.path(kind) + self._query(kind), body, content_type
        )

    # -- parts of them

    def _any(self, name: str, kind: str, token: str) -> Attack:
        method = self._random.choice(("POST", "POST", "POST", "GET", "HEAD"))
        body = self._form(self._random.choice(SAYS[kind])) if method == "POST" else b""
        path = f"/{kind}/{token}{self._random.choice(('', self._query(kind)))}"
        return Attack(name, method, path, body)

    def _form(self, says: str) -> bytes:
        return urlencode({"do": says, "comment": "so be it", "question": "Why?"}).encode()

    def _query(self, kind: str) -> str:
        says = SAYS[kind][0]
        queries = ("", f"?do={says}&question=x", "?decision=approve", f"?method=POST&do={says}")
        return self._random.choice(queries)

    def _altered(self, real: str) -> str:
        """Return *real* with something else in it than what was signed."""
        text, _, mac = real.partition(".")
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        kind = self._random.choice(KINDS)
        made: Sequence[Callable[[], str]] = (
            lambda: self._flipped_character(real),
            lambda: f"{_text(self._flipped_bit(raw))}.{mac}",
            lambda: f"{text}.{_text(self._flipped_bit(urlsafe_b64decode(mac + '==')))}",
            lambda: real[: self._random.randrange(1, len(real))],
            lambda: real + self._random.choice(("A", "=", ".", "%0A", "%00", ".gif", "%20", "/")),
            lambda: f"{_text(self._random.choice(self._targets))}.{mac}",
            lambda: f"{text}.{self._mac_of(self._world.token(kind, 'm-none'))}",
            lambda: f"{text}.{self._mac_of(self._world.token(kind, 'ann', 'acme'))}",
            lambda: self._by_another_key(),
            lambda: f"{text}.{mac}.{mac}",
            lambda: f"{text}.",
            lambda: f".{mac}",
            lambda: text,
            lambda: f"{text}=.{mac}=",
            lambda: f"{raw.hex()}.{mac}",
            lambda: f"{text.swapcase()}.{mac}",
            lambda: quote(raw) + f".{mac}",
            lambda: "".join(self._random.choices(LETTERS, k=self._random.randrange(1, 90))),
            lambda: self._random.choice(
                ("é", "..%2f", "%ff", "None", "null", "*", "a.b", "A" * 300)
            ),
        )
        return self._random.choice(made)()

    def _by_another_key(self) -> str:
        word = self._random.choice(("approve", "deny", "ask", "review"))
        return str(self._other.named("default", self._world.sent["ann"])[word]).rpartition("/")[2]

    def _flipped_character(self, token: str) -> str:
        at = self._random.randrange(len(token))
        return token[:at] + self._random.choice(LETTERS.replace(token[at], "")) + token[at + 1 :]

    def _flipped_bit(self, raw: bytes) -> bytes:
        bit = self._random.randrange(8 * len(raw))
        return bytes(byte ^ (1 << bit % 8) * (at == bit // 8) for at, byte in enumerate(raw))

    def _mac_of(self, token: str) -> str:
        return token.partition(".")[2]


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


async def test_ten_thousand_forged_links_decide_nothing():
    async with approval_world() as world:
        before = await world.run()
        forger = Forger(SEED, world)
        attacks = [forger.attack() for _ in range(ATTACKS)]
        # Nothing is refused for another reason than what is wrong with it: looking works.
        assert (await world.get(world.path("r")))[0] == 200
        statuses = await _all(world, attacks)
        told = list(zip(attacks, statuses, strict=True))
        wrong = [
            (attack, status)
            for attack, status in told
            if status not in ({200} if attack.shows else {400, 404, 405})
        ]
        assert not wrong, (len(wrong), Counter(status for _, status in wrong), wrong[:5])
        # Of each kind there were many, and of each refusal: they came as far as they can.
        assert min(Counter(attack.name for attack in attacks).values()) > ATTACKS // 10
        assert all(Counter(statuses)[status] > 200 for status in (200, 400, 404, 405))
        # Of the run not a word is other than it was, and the log has no decision and no question.
        assert await world.run() == before
        assert await world.told() == []
        # And the one that really stands in what Ann got still does what it says.
        status, shown = await world.post(world.received("ann"), do="approve")
        assert (status, "Approved by ann" in shown) == (200, True)
        assert [one.kind for one in await world.told()] == [DECIDED]
        assert (await world.run()).step_id == "later"


async def test_a_token_that_was_not_signed_is_no_credential_of_any_call():
    """Whoever goes round the edge meets the same keys."""
    async with approval_world() as world:
        before, forger = await world.run(), Forger(SEED, world)
        codes = Counter([await _code(world, number, forger.token()) for number in range(CALLS)])
        assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}, codes
        assert await world.run() == before
        assert await world.told() == []


async def test_a_genuine_link_says_nothing_in_another_way_or_of_another_message():
    """Also to whoever has several of them, and goes round the edge."""
    async with approval_world() as world:
        before, tried = await world.run(), 0
        for kind, whose, word in product(EVERY_KIND, ("ann", "ben", "pia"), WORDS):
            if whose == "ann" and word in WORDS_OF.get(kind, ()):
                continue
            said = fact(word, world.sent[whose])
            request = service_pb2.RecordEngagementRequest(engagements=[said])
            code = await _ends(world.upshot.RecordEngagement, request, world.token(kind))
            assert code is grpc.StatusCode.PERMISSION_DENIED, (kind, whose, word)
            tried += 1
        assert tried == len(EVERY_KIND) * 3 * len(WORDS) - 6
        assert await world.run() == before
        assert await world.told() == []


async def test_nobody_makes_the_click_of_somebody_else_a_repetition():
    """By a link that is good for something else, before the click: it would decide nothing."""
    async with approval_world() as world:
        ann, ben = world.sent["ann"], world.sent["ben"]
        taken = [
            f"{word}:{one}" for one in (ann, ben) for word in ("approve", "deny", "unsubscribe")
        ]
        for kind, name in product("ocuqk", (*taken, f"machine:approve:{ben}", f"answer:{ann}:q1")):
            word = {"c": "CLICKED", "u": "UNSUBSCRIBED", "q": "ASKED"}.get(kind, "OPENED")
            if (kind, name) in {("u", f"unsubscribe:{ann}"), ("k", f"answer:{ann}:q1")}:
                continue
            said = fact(word, ann, name, link_url="https://shop.example/" if kind == "c" else "")
            said.data["body"] = "?"
            request = service_pb2.RecordEngagementRequest(engagements=[said])
            code = await _ends(world.upshot.RecordEngagement, request, world.token(kind))
            assert code is grpc.StatusCode.PERMISSION_DENIED, (kind, name)
        status, shown = await world.post(world.path("a", "ben"), do="approve")
        assert (status, "Approved by ben" in shown) == (200, True)


async def _all(world: World, attacks: Sequence[Attack]) -> list[int]:
    """Return how each was answered, some of them being under way at once."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def status(attack: Attack) -> int:
        async with turn:
            headers = {"Content-Type": attack.content_type, **dict(attack.headers)}
            found, _, _ = await world.send(attack.method, attack.path, attack.body, headers)
            return found

    return await asyncio.gather(*map(status, attacks))


async def _code(world: World, number: int, token: str) -> grpc.StatusCode:
    """Return how a call about Ann's message ends that shows this token."""
    ann = world.sent["ann"]
    told = fact(("APPROVED", "DENIED", "ASKED")[number % 3], ann, f"forged-{number}")
    call: Any = world.upshot.RecordEngagement
    request: Any = service_pb2.RecordEngagementRequest(engagements=[told])
    if number % 4 == 0:
        call, request = world.admin.GetApproval, admin_pb2.GetApprovalRequest(message_id=ann)
    return await _ends(call, request, token)


async def _ends(call: Any, request: Any, token: str) -> grpc.StatusCode:
    """Return how a call ends that shows this token."""
    credential = f"Link {token}".encode("ascii", "replace").decode()
    try:
        await call(request, metadata=[("authorization", credential)])
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
