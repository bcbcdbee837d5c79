"""Traits and the contact fields made from them. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from upshotd.domain.errors import Violation
from upshotd.domain.profile import ContactRules, Profile
from upshotd.domain.values import plain, replace

#: Contact fields that the context of any event can give, where traits do not.
CONTEXT_CONTACTS: Final = ("timezone", "locale")
#: The contact field with the devices of a person: tokens with a space between, newest first.
PUSH_TOKENS: Final = "push_tokens"
#: Most devices of a person.
DEVICES_MAX: Final = 10
_TOKEN_MAX = 512


def merged_traits(
    old: Mapping[str, object], new: Mapping[str, object], *, newest: bool
) -> dict[str, object]:
    """Return *old* with *new* merged in: null removes a key; what is not newest only fills gaps."""
    if newest:
        both = {**old, **new}
        return {key: value for key, value in both.items() if value is not None}
    return {**{k: v for k, v in new.items() if v is not None}, **old}


def with_traits(
    profile: Profile, new: Mapping[str, object], rules: ContactRules, *, at_us: int
) -> tuple[Profile, tuple[Violation, ...]]:
    """Return *profile* after an identify at *at_us*, and warnings about what is no contact.

    One that is older than what the profile has seen only fills gaps.
    """
    newest = at_us >= profile.identify_us
    traits = merged_traits(profile.traits, plain(new), newest=newest)
    contact, faults = contacts(traits, rules)
    # What earlier events brought was told about then.
    named = {f"event.identify.traits.{name}" for name in new}
    warnings = tuple(fault for fault in faults if fault.field in named)
    for field in (*CONTEXT_CONTACTS, PUSH_TOKENS):
        if field in profile.contact and field not in contact:
            contact[field] = profile.contact[field]
    if traits == profile.traits and contact == profile.contact and not newest:
        return profile, warnings
    identify_us = max(profile.identify_us, at_us)
    return replace(profile, traits=traits, contact=contact, identify_us=identify_us), warnings


def contacts(
    traits: Mapping[str, object], rules: ContactRules
) -> tuple[dict[str, str], tuple[Violation, ...]]:
    """Return the contact fields that *traits* give, and warnings about those that give none."""
    contact: dict[str, str] = {}
    warnings: list[Violation] = []
    for field, names in rules.traits.items():
        for name in names:
            value = traits.get(name)
            if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
                continue
            usable = _usable(field, str(value), rules)
            if usable is not None:
                contact[field] = usable
                break
            text = f"is no usable {field}; it stays a trait"
            warnings.append(Violation(f"event.identify.traits.{name}", text))
    return contact, tuple(warnings)


def _usable(field: str, value: str, rules: ContactRules) -> str | None:
    if field == "email":
        return rules.email(value)
    if field == "phone_number":
        return rules.phone(value)
    return value


def with_device(contact: Mapping[str, str], token: str) -> Mapping[str, str]:
    """Return *contact* with a device as the newest; what is no token changes nothing."""
    known = contact.get(PUSH_TOKENS, "").split()
    usable = 0 < len(token) <= _TOKEN_MAX and token.isprintable() and " " not in token
    if not usable or known[:1] == [token]:
        return contact
    return {**contact, PUSH_TOKENS: _devices([token, *known])}


def without_devices(contact: Mapping[str, str], gone: Collection[str]) -> Mapping[str, str]:
    """Return *contact* without the devices that are *gone*; itself where it has none of them."""
    known = contact.get(PUSH_TOKENS, "").split()
    left = [token for token in known if token not in gone]
    if left == known:
        return contact
    others = {field: value for field, value in contact.items() if field != PUSH_TOKENS}
    return {**others, PUSH_TOKENS: " ".join(left)} if left else others


def joined_contacts(known: Mapping[str, str], other: Mapping[str, str]) -> Mapping[str, str]:
    """Return the contact fields of two people who are one: those *known* win, devices add up."""
    tokens = [*known.get(PUSH_TOKENS, "").split(), *other.get(PUSH_TOKENS, "").split()]
    devices = {PUSH_TOKENS: _devices(tokens)} if tokens else {}
    return {**other, **known, **devices}


def _devices(tokens: Iterable[str]) -> str:
    return " ".join(tuple(dict.fromkeys(tokens))[:DEVICES_MAX])
