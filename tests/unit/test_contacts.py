"""Traits to contact fields: what is usable, and in which form it is kept."""

import pytest

from upshotd.adapters.contacts import contact_rules
from upshotd.domain.profile import CONTACT_TRAITS_DEFAULT

RULES = contact_rules(CONTACT_TRAITS_DEFAULT, "DE")
ABROAD = contact_rules(CONTACT_TRAITS_DEFAULT, "")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("ana@example.com", "ana@example.com"),
        (" Ana@Example.TEST ", "Ana@example.test"),
        ("ana+news@sub.example.org", "ana+news@sub.example.org"),
        ("ü@bücher.example", "ü@bücher.example"),
        ("not an address", None),
        ("ana@", None),
        ("ana@nowhere", None),
        ("ana@example.com, ben@example.com", None),
        ("a@b.example\r\nBcc: x@y.example", None),
        ("Ana <ana@example.com>", None),
        ("a" * 400 + "@example.com", None),
        ("", None),
    ],
)
def test_addresses(given: str, kept: str | None) -> None:
    assert RULES.email(given) == kept


@pytest.mark.parametrize(
    ("given", "at_home", "abroad"),
    [
        ("+1 (555) 555-0100", "+15555550100", "+15555550100"),
        ("0151 23456789", "+4915123456789", None),
        ("112", None, None),
        ("ring me", None, None),
        ("9" * 100, None, None),
        ("", None, None),
    ],
)
def test_numbers(given: str, at_home: str | None, abroad: str | None) -> None:
    assert (RULES.phone(given), ABROAD.phone(given)) == (at_home, abroad)
