"""A provider whose secret changes while it sends."""

import asyncio
from pathlib import Path

from upshotd.adapters.providers.build import build
from upshotd.adapters.providers.options import Home
from upshotd.adapters.providers.rotating import RotatingProvider
from upshotd.adapters.providers.webhook import WebhookProvider
from upshotd.domain.message import Accepted, Channel, Delivery, SendResult, Sms
from upshotd.secret_files import Renewed, SecretFiles

DELIVERY = Delivery("m", "default", Channel.SMS, "+1", Sms("x"), "u", "w", "r", "s")


class Numbered:
    """Answers with its number, once it is let."""

    name, idempotent = "mail", True

    def __init__(self, number: int) -> None:
        self.number = number
        self.open = asyncio.Event()
        self.closed = 0

    async def send(self, _delivery: Delivery) -> SendResult:
        await self.open.wait()
        return Accepted(str(self.number))

    async def close(self) -> None:
        self.closed += 1


class Rotation:
    """Hands out one provider after the other."""

    def __init__(self) -> None:
        self.made: list[Numbered] = []
        self.version = 0
        self.provider = RotatingProvider(
            Renewed(self.make(), self.make, lambda: self.version, "mail")
        )

    def make(self) -> Numbered:
        self.made.append(Numbered(len(self.made) + 1))
        return self.made[-1]


async def test_who_was_sending_ends_by_the_old_one_and_the_next_goes_by_the_new_one():
    rotation = Rotation()
    begun = asyncio.create_task(rotation.provider.send(DELIVERY))
    await asyncio.sleep(0)
    rotation.version += 1
    after = asyncio.create_task(rotation.provider.send(DELIVERY))
    await asyncio.sleep(0)
    first, second = rotation.made
    assert not first.closed, "somebody still sends by it"
    second.open.set()
    assert await after == Accepted("2")
    first.open.set()
    assert await begun == Accepted("1")
    await asyncio.sleep(0)
    assert (first.closed, second.closed) == (1, 0)
    await rotation.provider.close()
    assert second.closed == 1


async def test_one_by_which_nobody_sends_is_closed_at_once():
    rotation = Rotation()
    rotation.version += 1
    sending = asyncio.create_task(rotation.provider.send(DELIVERY))
    for _ in range(3):
        await asyncio.sleep(0)
    assert rotation.made[0].closed == 1
    rotation.made[1].open.set()
    await sending
    await rotation.provider.close()


async def test_only_what_is_in_files_rotates(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("whsec_" + "a" * 40)
    home = Home(lambda: 0, secrets=SecretFiles(lambda: 0))
    table = {"url": "http://127.0.0.1:9/in"}
    plain = build("webhook", "texts", {**table, "secret": secret.read_text()}, home)
    assert isinstance(plain, WebhookProvider)
    rotating = build("webhook", "texts", {**table, "secret_file": str(secret)}, home)
    assert isinstance(rotating, RotatingProvider)
    assert (rotating.name, rotating.idempotent) == ("texts", True)
    before = rotating.current
    secret.write_text("whsec_" + "b" * 40)
    home.secrets.look()
    assert rotating._current().provider is not before
