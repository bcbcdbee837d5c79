"""update_profile: merges traits into the profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from upshotd.domain.contacts import with_traits
from upshotd.domain.errors import ConditionError
from upshotd.domain.steps.move import NEXT, Move

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey


@dataclass(frozen=True, slots=True)
class UpdateProfile:
    """Sets traits to the values of expressions."""

    #: Trait -> CEL for its value; null removes it.
    traits: Mapping[str, str]


def enter(update: UpdateProfile, journey: Journey) -> Move:
    """Set the traits that have a value, as an identify of this moment would."""
    found: dict[str, object] = {}
    for name, source in update.traits.items():
        try:
            value = journey.draft.definitions.conditions.value(source, journey.names())
        except ConditionError as error:
            journey.note("no_value", f"{name}: {error}")
            continue
        found[name] = value.isoformat() if isinstance(value, datetime) else value
    if found:
        profile = journey.profile
        rules = journey.draft.definitions.contact
        changed, faults = with_traits(profile, found, rules, at_us=journey.now_us)
        if changed is not profile:
            journey.draft.put_profile(changed)
            journey.forget_names()
        journey.note("updated", ", ".join(found))
        for fault in faults:
            journey.note("no_contact", f"{fault.field.rpartition('.')[2]} {fault.description}")
    return NEXT
