"""Who wants what, written: choices, unsubscriptions, STOP and START, the suppression list."""

from upshotd.domain import addresses, consent, identity, messages
from upshotd.domain.consent import Keyword
from upshotd.domain.draft import Draft
from upshotd.domain.message import Channel, Message
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.run import Run
from upshotd.domain.stimulus import (
    PreferenceResult,
    PreferenceSet,
    SuppressionResult,
    SuppressionSet,
)
from upshotd.domain.values import replace

#: What a person can take back.
_LIFTED = frozenset({"UNSUBSCRIBED", "COMPLAINED", "OPTED_OUT", "STOP", "OPTED_IN"})
#: What START takes back: no complaint, no bounce, nothing that was listed by hand.
_STARTED = frozenset({"UNSUBSCRIBED", "STOP"})
#: What holds for good is not replaced by what weighs less: START after STOP would lift a complaint,
#: and taking a bounce off the list a STOP. A number that texts STOP is not dead any more.
_WEIGHTS = {"BOUNCED": 0, "UNSUBSCRIBED": 1, "STOP": 1, "SUPPRESSED": 2, "COMPLAINED": 3}


def prefer(draft: Draft, choice: PreferenceSet) -> PreferenceResult:
    """Write what a person chose; one who is not known yet is created."""
    topic = draft.definitions.topics.get(choice.topic_id)
    if topic is None:
        return PreferenceResult("UNKNOWN_TOPIC")
    if topic.default is consent.TopicDefault.REQUIRED and choice.wanted is False:
        return PreferenceResult("TOPIC_REQUIRED")
    profile = identity.named(draft, choice.identity)
    draft.put_profile(profile)  # sends that were decided without it are refused
    rows = consent.chosen(topic, wanted=choice.wanted, channels_off=choice.channels_off)
    known = {held.scope for held in draft.suppressions(profile.profile_id)}
    for scope, row in rows.items():
        if row is not None or scope in known:
            draft.changes.suppressions[profile.profile_id, scope] = row
    return PreferenceResult()


def hold(draft: Draft, asked: SuppressionSet) -> SuppressionResult:
    """Put a person or an address on the suppression list, or take them off it."""
    if isinstance(asked.owner, str):
        whose, listed = _listed_as(draft, asked.owner, asked.suppression.scope), True
    elif not asked.held and draft.profile_id(asked.owner) is None:
        return SuppressionResult(changed=False)
    else:
        whose, listed = identity.named(draft, asked.owner).profile_id, False
    scope = asked.suppression.scope
    known = {held.scope: held for held in draft.suppressions(whose)}
    wanted = asked.suppression if asked.held else None
    if known.get(scope) == wanted:
        return SuppressionResult(changed=False)
    # Sends that were decided without it are refused.
    if listed:
        draft.change_list()
    else:
        draft.put_profile(draft.profile(whose))
    draft.changes.suppressions[whose, scope] = wanted
    return SuppressionResult(changed=True)


def engaged(draft: Draft, message: Message, run: Run, engagement: Engagement) -> None:
    """Hold back what the person does not want any more, or let it through again."""
    topic = draft.plan(run).workflow.topic
    by_topic = Suppression(topic=topic) if topic else Suppression(channel=message.channel)
    by_channel = Suppression(channel=message.channel)
    listed = addresses.key(message.channel, message.recipient)
    kind, wish = engagement.kind, asked_for(message.channel, engagement)
    who = messages.whose(draft, message)
    if kind is EngagementKind.UNSUBSCRIBED:
        draft.put_suppression(who, replace(by_topic, reason="UNSUBSCRIBED"))
        if topic:
            _lift(draft, who, {f"opt-in:{topic}"})
    elif kind is EngagementKind.BOUNCED and listed:
        # No wish of anybody: a send that was decided a moment before may still go.
        bounced = replace(by_channel, reason="BOUNCED")
        form = _listed_as(draft, listed, bounced.scope)
        if not _outweighed(draft, form, bounced):
            draft.begin_list()
            draft.changes.suppressions[form, bounced.scope] = bounced
    elif kind is EngagementKind.COMPLAINED:
        _hold_both(draft, who, listed, replace(by_channel, reason="COMPLAINED"))
    elif kind is EngagementKind.RESUBSCRIBED:
        _lift(draft, who, {by_topic.scope, by_channel.scope})
        _lift_address(draft, listed, by_channel.scope)
        known = draft.definitions.topics.get(topic)
        if known is not None and known.default is consent.TopicDefault.OPTED_OUT:
            draft.put_suppression(who, Suppression(topic=topic, until_us=0, reason="OPTED_IN"))
    elif wish is Keyword.STOP:
        _hold_both(draft, who, listed, replace(by_channel, reason="STOP"))
    elif wish is Keyword.START:
        _lift(draft, who, {by_channel.scope}, _STARTED)
        _lift_address(draft, listed, by_channel.scope, _STARTED)


def asked_for(channel: Channel, engagement: Engagement) -> Keyword | None:
    """Return what an answer asks of whoever sent the message; None for any other answer."""
    if engagement.kind is not EngagementKind.REPLIED or channel is not Channel.SMS:
        return None
    return consent.keyword(engagement.data)


def told(draft: Draft, engagement: Engagement) -> bool:
    """Take STOP or START of an address that nothing was sent to; False for everything else."""
    channel, _ = addresses.of_key(engagement.recipient)
    wish = asked_for(channel, engagement)
    by_channel = Suppression(channel=channel)
    if wish is Keyword.STOP:
        _hold_listed(draft, engagement.recipient, replace(by_channel, reason="STOP"))
    elif wish is Keyword.START:
        _lift_address(draft, engagement.recipient, by_channel.scope, _STARTED)
    return wish in (Keyword.STOP, Keyword.START)


def refused(draft: Draft, message: Message, reason: str) -> None:
    """Hold back where a provider refused a message because the person had told it to stop."""
    if reason == "STOP":
        who = messages.whose(draft, message)
        listed = addresses.key(message.channel, message.recipient)
        _hold_both(draft, who, listed, Suppression(channel=message.channel, reason="STOP"))


def _hold_both(draft: Draft, profile_id: str, listed: str, suppression: Suppression) -> None:
    """Hold back from a person and from the address, which others may have as well."""
    if not _outweighed(draft, profile_id, suppression):
        draft.put_suppression(profile_id, suppression)
    if listed:
        _hold_listed(draft, listed, suppression)


def _hold_listed(draft: Draft, listed: str, suppression: Suppression) -> None:
    form = _listed_as(draft, listed, suppression.scope)
    if not _outweighed(draft, form, suppression):
        draft.change_list()
        draft.changes.suppressions[form, suppression.scope] = suppression


def _outweighed(draft: Draft, owner: str, suppression: Suppression) -> bool:
    """Return whether something that weighs more holds the same back for good already."""
    weight = _WEIGHTS[suppression.reason]
    return any(
        one.scope == suppression.scope and _WEIGHTS.get(one.reason, 0) > weight
        for one in draft.suppressions(owner)
        if one.until_us is None
    )


def _listed_as(draft: Draft, listed: str, scope: str) -> str:
    """Return the key that an address is, or comes to be, listed under."""
    known = draft.state.suppressions
    found = (form for form in addresses.forms(listed) if scope in known.get(form, ()))
    return next(found, listed)


def _lift_address(draft: Draft, listed: str, scope: str, reasons: frozenset[str] = _LIFTED) -> None:
    for form in addresses.forms(listed):
        _lift(draft, form, {scope}, reasons)


def _lift(draft: Draft, whose: str, scopes: set[str], reasons: frozenset[str] = _LIFTED) -> None:
    for held in draft.suppressions(whose):
        if held.scope in scopes and held.reason in reasons:
            draft.changes.suppressions[whose, held.scope] = None
