"""Who an event is about: finding, creating and linking profiles; merging traits and contacts."""

from upshotd.domain import trial
from upshotd.domain.contacts import (
    CONTEXT_CONTACTS,
    joined_contacts,
    merged_traits,
    with_device,
    with_traits,
)
from upshotd.domain.draft import Draft
from upshotd.domain.errors import Violation
from upshotd.domain.event import Event, EventType
from upshotd.domain.passes import joined
from upshotd.domain.profile import Group, Merge, Profile
from upshotd.domain.state import Identity, IdKind
from upshotd.domain.values import plain, replace, text_at


def refusal(draft: Draft, event: Event) -> tuple[str, tuple[Violation, ...]]:
    """Return why *event* cannot be about anybody; an empty word when it can."""
    if event.type is EventType.ALIAS and draft.profile_id((IdKind.USER, event.previous_id)):
        text = "is a known user's id; two known users are never merged"
        return "ALIAS_OF_KNOWN_USER", (Violation("event.alias.previous_id", text),)
    return "", ()


def resolve(draft: Draft, event: Event) -> Profile:
    """Return the profile *event* is about, created or linked where need be.

    What was linked stands in the draft's merges; the runs of it are moved by `merging.move_runs`.
    """
    anonymous_ids = [i for i in (event.previous_id, event.anonymous_id) if i]
    if not event.user_id:
        return _anonymous(draft, event.anonymous_id)
    profile = _known(draft, event.user_id, anonymous_ids)
    for anonymous_id in anonymous_ids:
        profile = _link(draft, profile, anonymous_id)
    return profile


def named(draft: Draft, identity: Identity) -> Profile:
    """Return whom *identity* names, created where nobody has it."""
    kind, value = identity
    if kind is IdKind.ANONYMOUS:
        return _anonymous(draft, value)
    return _known(draft, value, [])


def _create(draft: Draft, user_id: str, anonymous_ids: tuple[str, ...]) -> Profile:
    profile = Profile(
        draft.ids.next(), user_id=user_id, anonymous_ids=anonymous_ids, create_us=draft.now_us
    )
    draft.put_profile(profile)
    return profile


def _anonymous(draft: Draft, anonymous_id: str) -> Profile:
    profile_id = draft.profile_id((IdKind.ANONYMOUS, anonymous_id))
    if profile_id is not None:
        return draft.profile(profile_id)
    profile = _create(draft, "", (anonymous_id,))
    draft.changes.identities[IdKind.ANONYMOUS, anonymous_id] = profile.profile_id
    return profile


def _known(draft: Draft, user_id: str, anonymous_ids: list[str]) -> Profile:
    """Return the user's profile; a person who was anonymous until now becomes this user."""
    profile_id = draft.profile_id((IdKind.USER, user_id))
    if profile_id is not None:
        return draft.profile(profile_id)
    for anonymous_id in anonymous_ids:
        profile_id = draft.profile_id((IdKind.ANONYMOUS, anonymous_id))
        if profile_id is not None and not draft.profile(profile_id).user_id:
            profile = replace(draft.profile(profile_id), user_id=user_id)
            draft.put_profile(profile)
            break
    else:
        profile = _create(draft, user_id, ())
    draft.changes.identities[IdKind.USER, user_id] = profile.profile_id
    return profile


def _link(draft: Draft, profile: Profile, anonymous_id: str) -> Profile:
    """Link an anonymous id to a known user, once and to the first one only."""
    other_id = draft.profile_id((IdKind.ANONYMOUS, anonymous_id))
    if other_id == profile.profile_id:
        return profile
    if other_id is not None:
        other = draft.profile(other_id)
        if other.user_id:
            return profile
        return _merge(draft, other, profile)
    profile = replace(profile, anonymous_ids=(*profile.anonymous_ids, anonymous_id))
    draft.put_profile(profile)
    draft.changes.identities[IdKind.ANONYMOUS, anonymous_id] = profile.profile_id
    return profile


def _merge(draft: Draft, other: Profile, known: Profile) -> Profile:
    """Make the anonymous *other* part of *known*, whose traits win."""
    merged = replace(
        known,
        anonymous_ids=tuple(dict.fromkeys((*known.anonymous_ids, *other.anonymous_ids))),
        traits={**other.traits, **known.traits},
        contact=joined_contacts(known.contact, other.contact),
        group_ids=tuple(dict.fromkeys((*known.group_ids, *other.group_ids))),
        identify_us=max(known.identify_us, other.identify_us),
        # One who was erased has no time until they come back.
        create_us=min(known.create_us or draft.now_us, other.create_us or draft.now_us),
        passes=joined(known.passes, other.passes),
        trials=trial.joined(known.trials, other.trials, draft.now_us),
        former_ids=(*known.former_ids, other.profile_id, *other.former_ids),
    )
    held = {s.scope: s for s in draft.suppressions(known.profile_id)}
    for suppression in draft.suppressions(other.profile_id):
        rival = held.get(suppression.scope)
        # Whoever asked for longer peace gets it, under whichever id.
        lasting = rival if rival is not None and rival.outlasts(suppression) else suppression
        draft.put_suppression(known.profile_id, lasting)
    for anonymous_id in other.anonymous_ids:
        draft.changes.identities[IdKind.ANONYMOUS, anonymous_id] = known.profile_id
    for group_id in other.group_ids:
        draft.put_group_member(group_id, other.profile_id, member=False)
        draft.put_group_member(group_id, known.profile_id, member=True)
    # What another process learns of them in between would go with their row.
    draft.changes.consents.setdefault(other.profile_id, other.row_version)
    draft.changes.profiles.pop(other.profile_id, None)
    draft.changes.merges.append(Merge(other.profile_id, known.profile_id))
    draft.put_profile(merged)
    return merged


def apply(draft: Draft, event: Event, profile: Profile) -> tuple[Profile, tuple[Violation, ...]]:
    """Return the profile after *event*, and warnings about traits that are no contacts."""
    changed, warnings = profile, tuple[Violation, ...]()
    if event.type is EventType.IDENTIFY:
        rules = draft.definitions.contact
        changed, warnings = with_traits(profile, event.traits, rules, at_us=event.event_us)
    elif event.context and event.type is EventType.TRACK and (computed := _computed(event)):
        rules = draft.definitions.contact
        changed, _ = with_traits(profile, computed, rules, at_us=event.event_us)
    changed = _with_context(changed, event)
    if event.type is EventType.GROUP:
        changed = _joined(draft, changed, event)
    if changed is not profile:
        draft.put_profile(changed)
    return changed, warnings


def _computed(event: Event) -> dict[str, object]:
    """Return what Segment's Engage says of an audience in a track call: the trait it is."""
    key = text_at(event.context, "personas", "computation_key")
    value = plain(event.properties).get(key) if key else None
    return {key: value} if isinstance(value, bool) else {}


def _with_context(profile: Profile, event: Event) -> Profile:
    """Fill time zone and locale from the event's context, where nothing gave them; take devices."""
    found = {
        field: value
        for field in CONTEXT_CONTACTS
        if field not in profile.contact and (value := text_at(event.context, field))
    }
    contact = {**profile.contact, **found} if found else profile.contact
    token = text_at(event.context, "device", "token")
    contact = with_device(contact, token) if token else contact
    return profile if contact is profile.contact else replace(profile, contact=contact)


def _joined(draft: Draft, profile: Profile, event: Event) -> Profile:
    """Add a membership and merge the group's traits."""
    group = draft.group(event.group_id) or Group(event.group_id)
    newest = event.event_us >= group.group_us
    traits = merged_traits(group.traits, plain(event.traits), newest=newest)
    draft.changes.groups[event.group_id] = replace(
        group, traits=traits, group_us=max(group.group_us, event.event_us)
    )
    if event.group_id in profile.group_ids:
        return profile
    draft.put_group_member(event.group_id, profile.profile_id, member=True)
    return replace(profile, group_ids=(*profile.group_ids, event.group_id))
