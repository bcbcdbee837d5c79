"""Rows to values and back. Documents are lists in a fixed order, as short as they can be.

Values come from rows as `bulk` reads them: documents are parsed, payloads are bytes.
A new field goes to the end of its document, and the migration that brings it rewrites the rows.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from upshotd.domain import addresses
from upshotd.domain.errors import Violation
from upshotd.domain.event import RejectedEvent
from upshotd.domain.explanation import Explanation
from upshotd.domain.message import (
    CHANNELS,
    Ask,
    Attachment,
    Channel,
    Content,
    Email,
    Message,
    MessageState,
)
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.profile import Group, Profile, Suppression
from upshotd.domain.run import Run, RunState, TimelineEntry
from upshotd.domain.state import AcceptedEvent, Identity, IdKind, KeptEvent, StartedRun, StoredEvent
from upshotd.domain.trial import Tally, TallyKey, Trial

#: A row in the order of its columns.
Row: TypeAlias = Sequence[Any]

# Enumerations are slow to call.
_RUN_STATES = {int(state): state for state in RunState}
_MESSAGE_STATES = {int(state): state for state in MessageState}
_CHANNELS = {int(channel): channel for channel in Channel}

RUN_COLUMNS = (
    *("run_id", "workflow_id", "start_key", "event_id", "profile_id", "reentry_key"),
    *("cancellation_key", "start_us", "state", "holds_active", "holds_ever", "due_us"),
    *("row_version", "body"),
)
MESSAGE_COLUMNS = (
    *("message_id", "run_id", "profile_id", "workflow_id", "provider", "provider_message_id"),
    *("due_us", "row_version", "body", "content"),
)
#: What decisions read of a message: all but its content, which only another attempt needs.
MESSAGE_STATE_COLUMNS = MESSAGE_COLUMNS[:-1]
ASK_COLUMNS = ("profile_id", "message_id", "run_id")
EVENT_COLUMNS = ("event_id", "receive_us", "event_us", "started", "payload")
PROFILE_COLUMNS = ("profile_id", "row_version", "body")
GROUP_COLUMNS = ("group_id", "row_version", "body")
SUPPRESSION_COLUMNS = ("profile_id", "scope", "channel", "topic", "until_us", "reason")
REJECTED_COLUMNS = ("rejection_id", "receive_us", "body")
TALLY_COLUMNS = ("experiment", "variant", "exposures", "successes")
PENDING_COLUMNS = ("engagement_id", "provider", "provider_message_id", "record_us", "body")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):  # orjson takes no named ones
        return tuple(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def dump(document: object) -> bytes:
    """Return *document* as JSON."""
    try:
        return orjson.dumps(document, _plain)
    except TypeError:
        # Integers beyond 64 bits, which doubles from outside can become.
        return json.dumps(document, default=_plain, separators=(",", ":")).encode()


def load(body: bytes | str) -> Any:
    """Return a document that `dump` wrote."""
    return orjson.loads(body)


# -- people --------------------------------------------------------------------------------------


def identity_key(identity: Identity) -> str:
    """Return how *identity* is stored: one letter for the kind, and the id."""
    return ("u" if identity[0] is IdKind.USER else "a") + identity[1]


def identity_of(key: str) -> Identity:
    """Return the identity of a stored key."""
    return (IdKind.USER if key[0] == "u" else IdKind.ANONYMOUS, key[1:])


def profile_row(profile: Profile) -> Row:
    """Return *profile* in the order of `PROFILE_COLUMNS`, with the next row version."""
    body = dump(
        [profile.user_id, profile.anonymous_ids, profile.traits, profile.contact]
        + [profile.group_ids, profile.identify_us, profile.create_us, profile.passes]
        + _later(profile)
    )
    return (profile.profile_id, profile.row_version + 1, body)


def _later(profile: Profile) -> list[object]:
    """Return what stands at the end of the document of some people only."""
    if profile.trials:
        return [profile.former_ids, profile.erase_us, profile.trials]
    return [profile.former_ids, profile.erase_us] if profile.former_ids or profile.erase_us else []


def profile_of(row: Row) -> Profile:
    """Return the profile of a row."""
    profile_id, row_version, body = row
    user_id, anonymous_ids, traits, contact, group_ids, identify_us, create_us, *later = body
    # Written before there were throttles; the next write brings it.
    passes = {name: tuple(ends) for name, ends in later[0].items()} if later and later[0] else {}
    former_ids, erase_us, *more = later[1:] if len(later) > 1 else ((), 0)
    return Profile(
        profile_id,
        user_id,
        tuple(anonymous_ids),
        traits,
        contact,
        tuple(group_ids),
        identify_us,
        create_us,
        passes,
        tuple(former_ids),
        erase_us,
        tuple([Trial(*trial) for trial in more[0]]) if more else (),
        row_version,
    )


def tally_of(row: Row) -> tuple[TallyKey, Tally]:
    """Return what came of a variant."""
    experiment, variant_id, exposures, successes = row
    return (experiment, variant_id), Tally(exposures, successes)


def group_row(group: Group) -> Row:
    """Return *group* in the order of `GROUP_COLUMNS`, with the next row version."""
    body = dump([group.traits, group.group_us])
    return (group.group_id, group.row_version + 1, body)


def group_of(row: Row) -> Group:
    """Return the group of a row."""
    group_id, row_version, body = row
    traits, group_us = body
    return Group(group_id, traits, group_us, row_version)


def suppression_row(profile_id: str, held: Suppression) -> Row:
    """Return a suppression in the order of `SUPPRESSION_COLUMNS`."""
    return (profile_id, held.scope, int(held.channel), held.topic, held.until_us, held.reason)


def suppression_of(row: Row) -> Suppression:
    """Return the suppression of a row."""
    _, _, channel, topic, until_us, reason = row
    return Suppression(Channel(channel), topic, until_us, reason)


# -- events --------------------------------------------------------------------------------------


def started_document(accepted: AcceptedEvent) -> bytes | None:
    """Return the runs an event started, and why others did not: with a word and its detail more.

    None where nothing listened, as to most events.
    """
    if not (accepted.started or accepted.refused):
        return None
    started = [(run.workflow_id, run.version, run.run_id) for run in accepted.started]
    refused = [(e.workflow_id, e.version, "", e.reason, e.detail) for e in accepted.refused]
    return dump(started + refused)


def started_of(document: list[list[Any]] | None) -> tuple[StartedRun, ...]:
    """Return the runs an event started."""
    return tuple(StartedRun(*entry[:3]) for entry in document if entry[2]) if document else ()


def kept_event_of(row: Row) -> KeptEvent:
    """Return the event of a row."""
    event_id, receive_us, event_us, document, payload = row
    stored = StoredEvent(event_id, payload, receive_us, event_us)
    refused = tuple(
        Explanation(workflow_id, version, reason, detail)
        for workflow_id, version, run_id, *why in document or ()
        if not run_id
        for reason, detail in (why,)
    )
    return KeptEvent(stored, started_of(document), refused)


def rejected_row(rejected: RejectedEvent) -> Row:
    """Return a refused event in the order of `REJECTED_COLUMNS`."""
    violations = [(v.field, v.description) for v in rejected.violations]
    body = dump([rejected.event_id, rejected.reason, violations, rejected.payload])
    return (rejected.rejection_id, rejected.receive_us, body)


def rejected_of(row: Row) -> RejectedEvent:
    """Return the refused event of a row."""
    rejection_id, receive_us, body = row
    event_id, reason, violations, payload = body
    found = tuple(Violation(*violation) for violation in violations)
    return RejectedEvent(rejection_id, event_id, receive_us, reason, found, payload)


# -- runs ----------------------------------------------------------------------------------------


def run_row(run: Run) -> Row:
    """Return *run* in the order of `RUN_COLUMNS`, with the next row version."""
    timeline = [(e.time_us, e.step_id, e.what, e.detail) for e in run.timeline]
    body = dump(
        [run.workflow_version, run.enter_us, run.reason, run.step_id, run.end_us, run.depth]
        + [run.steps, timeline]
    )
    return (
        *(run.run_id, run.workflow_id, run.start_key, run.event_id, run.profile_id),
        *(run.reentry_key, run.cancellation_key, run.start_us, int(run.state)),
        *(int(run.holds_active), int(run.holds_ever), run.due_us, run.row_version + 1, body),
    )


def run_of(row: Row) -> Run:
    """Return the run of a row."""
    run_id, workflow_id, start_key, event_id, profile_id, reentry_key, cancellation_key = row[:7]
    start_us, state, holds_active, holds_ever, due_us, row_version, body = row[7:]
    version, enter_us, reason, step_id, end_us, depth, steps, timeline = body
    return Run(
        run_id,
        workflow_id,
        version,
        profile_id,
        event_id,
        start_key,
        start_us,
        state=_RUN_STATES[state],
        reason=reason,
        step_id=step_id,
        enter_us=enter_us,
        due_us=due_us,
        end_us=end_us,
        reentry_key=reentry_key,
        holds_active=bool(holds_active),
        holds_ever=bool(holds_ever),
        cancellation_key=cancellation_key,
        depth=depth,
        steps=steps,
        timeline=tuple([TimelineEntry(*entry) for entry in timeline]),
        row_version=row_version,
    )


# -- messages ------------------------------------------------------------------------------------


def content_document(content: Content | None) -> bytes | None:
    """Return rendered content; None stays None."""
    match content:
        case None:
            return None
        case Email():
            # What it was made from is left out; fields at the end only where there are some.
            more = ["", {}, content.attachments] if content.attachments else []
            return dump(
                ["email", content.subject, content.html, content.text, content.unsubscribe_url]
                + [content.reply_to, content.headers, *more]
            )
        case _:
            return dump([CHANNELS[type(content)].name.lower(), *content])


_CONTENTS: Mapping[str, type[Content]] = {c.name.lower(): kind for kind, c in CHANNELS.items()}


def content_of(document: list[Any] | None) -> Content | None:
    """Return rendered content."""
    if document is None:
        return None
    kind, *fields = document
    content = _CONTENTS[kind](*fields)
    if isinstance(content, Email) and content.attachments:
        found = tuple(Attachment(*attachment) for attachment in content.attachments)
        return content._replace(attachments=found)
    return content


#: What a message has whose row was written before there was a place for it.
_LATER: list[Any] = [False, None, "", 0, None]


def message_row(message: Message) -> Row:
    """Return *message* as `MESSAGE_COLUMNS`, with the next row version; then its owner, and where
    answers to it come from."""
    m = message
    # Written once: content is frozen from the first attempt on, and not loaded with the rest.
    content = None if m.row_version else content_document(m.content)
    body = dump(
        [m.step_id, m.workflow_version, int(m.channel), int(m.state), m.recipient, m.reason]
        + [m.detail, m.attempt, m.owner, m.possible_duplicate, m.create_us, m.facts]
        + [m.unsure, m.expire_us, m.template_id, m.spared]
        + ([m.ask] if m.ask else [])
    )
    return (
        *(m.message_id, m.run_id, m.profile_id, m.workflow_id, m.provider),
        *(m.provider_message_id, m.due_us, m.row_version + 1, body, content, m.owner),
        addresses.answering(m),
    )


def ask_row(message: Message) -> Row:
    """Return whom *message* asks for a decision, in the order of `ASK_COLUMNS`."""
    return (message.profile_id, message.message_id, message.run_id)


def message_of(row: Row) -> Message:
    """Return the message of a row, with its content where the row has it."""
    message_id, run_id, profile_id, workflow_id, provider, provider_message_id = row[:6]
    due_us, row_version, body, *content = row[6:]
    step_id, version, channel, state, recipient, reason = body[:6]
    detail, attempt, owner, possible_duplicate, create_us, facts, *later = body[6:]
    # Those written before channels had several providers, or breakers, do not have them all.
    unsure, expire_us, template_id, spared, ask = later + _LATER[len(later) :]
    return Message(
        message_id,
        run_id,
        step_id,
        profile_id,
        workflow_id,
        version,
        _CHANNELS[channel],
        _MESSAGE_STATES[state],
        provider=provider,
        recipient=recipient,
        content=content_of(content[0]) if content else None,
        reason=reason,
        detail=detail,
        attempt=attempt,
        due_us=due_us,
        owner=owner,
        provider_message_id=provider_message_id,
        possible_duplicate=possible_duplicate,
        unsure=unsure,
        expire_us=expire_us,
        template_id=template_id,
        spared=spared,
        ask=Ask(ask) if ask else None,
        create_us=create_us,
        facts=facts,
        row_version=row_version,
    )


# -- engagements ---------------------------------------------------------------------------------


def pending_row(pending: Engagement, record_us: int) -> Row:
    """Return an engagement that waits for its message, in the order of `PENDING_COLUMNS`."""
    body = dump(
        [int(pending.kind), pending.occur_us, pending.message_id, pending.link_url]
        + [pending.reason, pending.machine, pending.data]
    )
    key = (pending.engagement_id, pending.provider, pending.provider_message_id)
    return (*key, record_us, body)


def pending_of(row: Row) -> Engagement:
    """Return the engagement of a row."""
    engagement_id, provider, provider_message_id, _, body = row
    kind, occur_us, message_id, link_url, reason, machine, data = body
    return Engagement(
        engagement_id,
        EngagementKind(kind),
        occur_us,
        message_id=message_id,
        provider=provider,
        provider_message_id=provider_message_id,
        link_url=link_url,
        reason=reason,
        machine=machine,
        data=data,
    )
