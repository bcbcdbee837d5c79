"""Secrets and people that are known again wherever they turn up: canaries.

A text is searched for as it is, in its halves, and as base64 at every offset, so that neither a
cut nor a `Basic` header hides it.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from urllib.parse import quote

#: What is in all of the person below, in lower case, and in nothing else.
PERSON_MARKS = (b"quokka", b"5005558731")
EMAIL, PHONE = "quokka.zeb@canary.example", "+15005558731"
DEVICE, CHAT = "quokka-device-token-51", "UQUOKKA01"
TRAITS: Mapping[str, object] = {
    "email": EMAIL,
    "phone": PHONE,
    "name": "Zeb Quokka",
    "first_name": "Quokkamir",
    "slack_id": CHAT,
    "favourite": "the quokka of Rottnest",
}


@cache
def needles(secret: str) -> frozenset[bytes]:
    """Return what a secret is searched for as."""
    return frozenset(_needles(secret))


def _needles(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield quote(secret, safe="").encode()
    half = len(secret) // 2
    if half >= 10:
        yield raw[:half]
        yield raw[-half:]
    for offset, changed in ((0, 0), (1, 2), (2, 3)):
        coded = base64.b64encode(b"\0" * offset + raw).rstrip(b"=")
        # The last character may hold bits of what comes behind.
        yield coded[changed : len(coded) - 2]


def hits(secrets: Mapping[str, str], text: bytes) -> set[str]:
    """Return the names of the secrets that are in *text*."""
    return {
        name for name, secret in secrets.items() if any(part in text for part in needles(secret))
    }


def is_personal(text: bytes) -> bool:
    """Return whether something of the person is in *text*."""
    small = text.lower()
    return any(mark in small for mark in PERSON_MARKS)


def personal_lines(text: bytes) -> list[bytes]:
    """Return the lines that have something of the person."""
    return [line for line in text.splitlines() if is_personal(line)]


def leaks(
    secrets: Mapping[str, str], texts: Iterable[tuple[str, bytes]], *, personal: bool
) -> list[str]:
    """Return what is wrong with *texts*, each with where it was found."""
    found = []
    for where, text in texts:
        found += [f"{name} in {where}: {text[-600:]!r}" for name in sorted(hits(secrets, text))]
        if personal:
            found += [f"a person in {where}: {line[-600:]!r}" for line in personal_lines(text)]
    return found
