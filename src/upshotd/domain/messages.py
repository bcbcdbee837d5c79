"""What happens to a message inside a decision: every change of state leaves its outcome."""

from collections.abc import Mapping

from upshotd.domain import addresses, consent
from upshotd.domain.draft import Draft
from upshotd.domain.message import Ask, Content, Message, MessageState
from upshotd.domain.outcome import Outcome, OutcomeKind, event_name
from upshotd.domain.profile import Profile, Suppression
from upshotd.domain.values import replace

_STATE_KINDS = {
    MessageState.UNDELIVERABLE: OutcomeKind.MESSAGE_UNDELIVERABLE,
    MessageState.UNROUTABLE: OutcomeKind.MESSAGE_UNROUTABLE,
    MessageState.SUPPRESSED: OutcomeKind.MESSAGE_SUPPRESSED,
}


def whose(draft: Draft, message: Message) -> str:
    """Return who gets *message*, by profile_id."""
    run = draft.run(message.run_id) if message.ask is None else None
    return message.whose(run.profile_id) if run is not None else message.profile_id


def named(draft: Draft, message: Message, detail: str) -> str:
    """Return *detail* about a message for the timeline of its run, with who got it, where that is
    not the person of the run."""
    if message.ask is None:
        return detail
    return addressed(detail, draft.profile(message.profile_id), message.ask)


def addressed(detail: str, reviewer: Profile, ask: Ask) -> str:
    """Return *detail* with to whom it is, and as what, unless it is the request itself."""
    kind = "" if ask is Ask.REQUEST else f", {ask.lower()}"
    return f"{detail} ({reviewer.user_id}{kind})"


def append(
    draft: Draft,
    message: Message,
    kind: OutcomeKind,
    *,
    occur_us: int | None = None,
    reason: str = "",
    link_url: str = "",
    machine: bool = False,
    properties: Mapping[str, object] | None = None,
) -> None:
    """Append an outcome about *message*."""
    run = draft.run(message.run_id)
    profile = draft.profile(whose(draft, message))
    draft.append(
        Outcome(
            outcome_id=draft.ids.next(),
            kind=kind,
            event=event_name(kind),
            occur_us=draft.now_us if occur_us is None else occur_us,
            record_us=draft.now_us,
            profile_id=profile.profile_id,
            user_id=profile.user_id,
            anonymous_id=profile.anonymous_id,
            workflow_id=message.workflow_id,
            workflow_version=message.workflow_version,
            run_id=message.run_id,
            step_id=message.step_id,
            message_id=message.message_id,
            channel=message.channel,
            provider=message.provider,
            reason=reason,
            link_url=link_url,
            machine=machine,
            possible_duplicate=message.possible_duplicate,
            properties=properties or {},
            recipient=message.recipient,
            event_id=run.event_id if run is not None else "",
            provider_message_id=message.provider_message_id,
            template_id=message.template_id,
            variant=_variant(draft, message),
        )
    )


def _variant(draft: Draft, message: Message) -> str:
    """Return the variant in whose steps *message* was sent; empty for none."""
    plan = draft.definitions.plans.get((message.workflow_id, message.workflow_version))
    return plan.variants.get(message.step_id, "") if plan is not None else ""


def finish(
    draft: Draft, message: Message, state: MessageState, reason: str, detail: str = ""
) -> Message:
    """Give up on *message* in one of the three states that nobody can engage with."""
    message = replace(
        message, state=state, reason=reason, detail=detail[:500], due_us=None, owner=""
    )
    draft.put_message(message)
    properties = {"detail": message.detail} if message.detail else None
    append(draft, message, _STATE_KINDS[state], reason=reason, properties=properties)
    return message


def suppress(draft: Draft, message: Message, reason: str) -> Message:
    """Hold *message* back."""
    return finish(draft, message, MessageState.SUPPRESSED, reason)


def accept(draft: Draft, message: Message, provider_message_id: str = "") -> Message:
    """Record that the provider took *message*."""
    message = replace(
        message,
        state=MessageState.ACCEPTED,
        reason="",
        detail="",
        due_us=None,
        owner="",
        provider_message_id=provider_message_id or message.provider_message_id,
        facts={**message.facts, "sent": draft.now_us},
    )
    draft.put_message(message)
    append(draft, message, OutcomeKind.MESSAGE_SENT)
    return message


def attempt(
    draft: Draft,
    message: Message,
    *,
    content: Content | None = None,
    possible_duplicate: bool = False,
) -> Message:
    """Begin an attempt: the intent, already leased to this process.

    *content* is given at the first attempt, and frozen from then on.
    """
    definitions = draft.definitions
    profile = draft.profile(whose(draft, message))
    draft.changes.consents[profile.profile_id] = profile.row_version
    if message.channel in addresses.FIELDS:
        draft.changes.consents[addresses.LIST] = draft.list_version
    message = replace(
        message,
        state=MessageState.SENDING,
        content=message.content or content,
        attempt=message.attempt + 1,
        due_us=draft.now_us + definitions.policy.lease_us,
        owner=definitions.owner,
        possible_duplicate=message.possible_duplicate or possible_duplicate,
    )
    draft.put_message(message)
    return message


def holding(draft: Draft, profile_id: str, message: Message, topic: str) -> Suppression | None:
    """Return what holds *message* about *topic* back from a person or an address, or None."""
    if not topic and draft.holds_nothing:
        return None
    held, topics = draft.suppressions(profile_id), draft.definitions.topics
    for listed in addresses.forms(addresses.key(message.channel, message.recipient)):
        held += draft.suppressions(listed)
    if not (held or topic):
        return None
    return consent.holding(held, topics, message.channel, topic, draft.now_us)
