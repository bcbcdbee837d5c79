"""Signatures as Standard Webhooks (standardwebhooks.com) has them."""

import base64
import binascii
import hashlib
import hmac


def keys_of(secrets: str) -> tuple[bytes, ...]:
    """The keys of one or more `whsec_...` secrets separated by spaces; ValueError names the fault.

    The text of the error never contains the secret.
    """
    if not secrets.split():
        raise ValueError("no secret given")
    return tuple(_key(secret) for secret in secrets.split())


def _key(secret: str) -> bytes:
    head, _, encoded = secret.partition("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if head or not 24 <= len(key) <= 64:
        raise ValueError("a secret is whsec_ followed by 24 to 64 bytes in base64")
    return key


def signature(keys: tuple[bytes, ...], message_id: str, second: str, body: bytes) -> str:
    """The value of `webhook-signature`: one `v1,...` per key.

    *second* is `webhook-timestamp`: the wall clock, in seconds since 1970.
    """
    signed = f"{message_id}.{second}.".encode() + body
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
