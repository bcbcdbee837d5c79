"""Rules about text that providers share: what may not enter a header, what a detail may say."""

import re
import unicodedata

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


def detail_of(words: str) -> str:
    """A provider's own words, fit to be stored: bounded, on one line, addresses taken out."""
    return shown(_ADDRESS.sub("<address>", " ".join(words.split())))[:DETAIL_LENGTH]
