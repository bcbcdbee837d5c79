"""Rules about text that providers share: what may not enter a header, what a detail may say."""

import base64
import re
import unicodedata
from urllib.parse import quote

#: Longest provider's answer that is kept, in characters.
DETAIL_LENGTH = 200

#: Controls, lone surrogates, and the two separators that count as line ends in Unicode.
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
_ADDRESS = re.compile(r"[^\s<>]+@[^\s<>]+")


def has_controls(text: str) -> bool:
    """Whether `text` could end a header line, or cannot be encoded at all."""
    if text.isascii() and text.isprintable():
        return False
    return any(unicodedata.category(character) in _FORBIDDEN for character in text)


def shown(text: str, keep: str = "") -> str:
    """`text` with every control character made visible, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character, keep) for character in text)


def _visible(character: str, keep: str) -> str:
    if character in keep or unicodedata.category(character) not in _FORBIDDEN:
        return character
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"


class Quoting:
    """Makes a provider's own words fit to be stored: bounded, on one line, addresses taken out.

    What we showed it is taken out as well: there are servers that say which key they refuse.
    """

    def __init__(self, *secrets: str) -> None:
        """*secrets* are what it is shown; each may also come back in base64 or in an address."""
        forms = {form for secret in filter(None, secrets) for form in _forms(secret)}
        # The longest first: one may begin with another.
        found = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
        self._secret = re.compile(found, re.IGNORECASE) if found else None

    def detail(self, words: str) -> str:
        """Return *words* as they may be kept."""
        if self._secret is not None:
            words = self._secret.sub("<secret>", words)
        return shown(_ADDRESS.sub("<address>", " ".join(words.split())))[:DETAIL_LENGTH]


def _forms(secret: str) -> tuple[str, str, str]:
    coded = base64.b64encode(secret.encode()).decode()
    return secret, quote(secret, safe=""), coded
