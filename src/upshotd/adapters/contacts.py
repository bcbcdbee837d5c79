"""Contact fields out of traits: what is usable as an e-mail address and as a phone number."""

from collections.abc import Mapping
from functools import lru_cache, partial

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from upshotd.domain.profile import ContactRules

#: RFC 5321: 254 characters of a path, and a little for spaces around it.
_EMAIL_LENGTH = 320
_PHONE_LENGTH = 64
#: People repeat: each identify brings the same address again.
_REMEMBERED = 10_000


def contact_rules(traits: Mapping[str, tuple[str, ...]], default_region: str) -> ContactRules:
    """Return the rules: contact fields by *traits*, phone numbers as of *default_region*.

    Without a region a number needs its country code.
    """
    phone = lru_cache(_REMEMBERED)(partial(_phone, default_region or None))
    return ContactRules(email=lru_cache(_REMEMBERED)(_email), phone=phone, traits=traits)


def _email(value: str) -> str | None:
    """Return the address in its usable form (spaces off, domain in lower case), or None.

    Only the form is looked at, never DNS: `.test` is as good as any here, and a domain that does
    not exist will bounce.
    """
    if len(value) > _EMAIL_LENGTH:
        return None
    try:
        found = validate_email(
            value.strip(),
            check_deliverability=False,
            test_environment=True,
        )
    except EmailNotValidError:
        return None
    return found.normalized


def _phone(region: str | None, value: str) -> str | None:
    """Return the number as E.164, or None; without a country code it is read as of *region*."""
    if len(value) > _PHONE_LENGTH:
        return None
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return None
    if (
        phonenumbers.is_possible_number_with_reason(number)
        != phonenumbers.ValidationResult.IS_POSSIBLE
    ):
        return None  # also a number that only works within its own town
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
