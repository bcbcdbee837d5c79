"""What must be true after any number of kills, judged from what each side remembers.

The clients know what was acknowledged, the provider what came, the subscriber what it was told,
and the database what is. Each rule returns its findings as sentences, none when all is well.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.sms_ledger import Call
from tests.validators import Seen, StreamValidator
from upshotd.domain.run import RunState

#: What a run of the story leaves in the log, once each.
STORY = ("RUN_STARTED", "MESSAGE_SENT", "RUN_COMPLETED")
#: Findings of one rule that are shown.
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer about one event of one call."""

    event_id: str
    #: ACCEPTED, DUPLICATE or REJECTED.
    state: str
    #: Runs that it says the event started.
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A row of the table of runs."""

    run_id: str
    event_id: str
    start_us: int
    #: When the event came, by the server's clock; its pause is counted from here.
    event_us: int
    state: int
    due_us: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A row of the table of messages."""

    message_id: str
    run_id: str
    due_us: int | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """A row of the outcome log."""

    partition: int
    position: int
    outcome_id: str
    kind: str
    run_id: str
    message_id: str
    #: When it happened, in microseconds.
    occur_us: int


@dataclass(frozen=True, slots=True)
class History:
    """Everything that is known at the end."""

    acks: tuple[Ack, ...] = ()
    #: event id -> pause in microseconds.
    sent: Mapping[str, int] = field(default_factory=dict)
    #: The provider's ledger.
    calls: tuple[Call, ...] = ()
    #: event id -> run id, as AdminService lists them.
    listed_runs: Mapping[str, str] = field(default_factory=dict)
    #: What went wrong on the way.
    faults: tuple[str, ...] = ()
    validator: StreamValidator = field(default_factory=StreamValidator)
    event_ids: tuple[str, ...] = ()
    runs: tuple[Run, ...] = ()
    messages: tuple[Message, ...] = ()
    outcomes: tuple[Logged, ...] = ()
    #: partition -> position of the last outcome, as the counter row has it.
    heads: Mapping[int, int] = field(default_factory=dict)
    #: kind -> number of outcomes, as the counts kept in the commits have it.
    counts: Mapping[str, int] = field(default_factory=dict)
    #: Runs that took a variant, and those whose goal was reached.
    tally: tuple[int, int] = (0, 0)
    rejected: int = 0
    #: What `PRAGMA integrity_check` says.
    integrity: str = "ok"


def audit(history: History) -> list[str]:
    """Return everything that is wrong, at most ten sentences of a kind."""
    found = list(history.faults[:SHOWN])
    for rule in RULES:
        findings = list(rule(history))
        found += findings[:SHOWN]
        if len(findings) > SHOWN:
            found.append(f"... and {len(findings) - SHOWN} more of the last")
    return found


def acknowledged(history: History) -> Iterable[str]:
    """Every acknowledged event is there, with exactly one run, the one that every answer names."""
    events, runs = set(history.event_ids), _by(history.runs, lambda run: run.event_id)
    for ack in history.acks:
        has = [run.run_id for run in runs.get(ack.event_id, ())]
        if ack.state == "REJECTED":
            yield f"{ack.event_id} was rejected"
        elif ack.event_id not in events:
            yield f"{ack.event_id} was acknowledged ({ack.state}) and is lost"
        elif len(has) != 1:
            yield f"{ack.event_id} was acknowledged and has {len(has)} runs"
        elif ack.run_ids != tuple(has):
            yield f"{ack.event_id} has run {has[0]}, the answer named {ack.run_ids}"


def accepted_once(history: History) -> Iterable[str]:
    """No event is called new twice, and everything that was sent was answered in the end."""
    accepted = Counter(ack.event_id for ack in history.acks if ack.state == "ACCEPTED")
    yield from (f"{event} was accepted {n} times" for event, n in accepted.items() if n > 1)
    answered = {ack.event_id for ack in history.acks}
    yield from (f"{event} was never answered" for event in history.sent.keys() - answered)


def started_once(history: History) -> Iterable[str]:
    """No event has two runs, no run comes from nowhere, and AdminService lists just these."""
    for event_id, runs in _by(history.runs, lambda run: run.event_id).items():
        if len(runs) > 1:
            yield f"{event_id} started {len(runs)} runs"
        if event_id not in history.sent:
            yield f"{runs[0].run_id} was started by {event_id}, which nobody sent"
    if dict(history.listed_runs) != {run.event_id: run.run_id for run in history.runs}:
        yield "AdminService lists other runs than there are"
    if history.rejected:
        yield f"{history.rejected} events were set aside"


def ended(history: History) -> Iterable[str]:
    """Every run came to its end, and nothing is due any more."""
    for run in history.runs:
        if run.state != RunState.COMPLETED:
            yield f"{run.run_id} of {run.event_id} is in state {run.state}"
        elif run.due_us is not None:
            yield f"{run.run_id} has ended and is due"
    yield from (f"{m.message_id} is still due" for m in history.messages if m.due_us is not None)


def fired_once(history: History) -> Iterable[str]:
    """Each timer fired once and not early: a run has one message, and its three outcomes."""
    messages = Counter(message.run_id for message in history.messages)
    log = _by(history.outcomes, lambda outcome: outcome.run_id)
    for run in history.runs:
        if messages[run.run_id] != 1:
            yield f"{run.run_id} has {messages[run.run_id]} messages"
        told = log.get(run.run_id, [])
        if sorted(outcome.kind for outcome in told) != sorted(STORY):
            yield f"{run.run_id} left {[outcome.kind for outcome in told]}"
        due_us = run.event_us + history.sent.get(run.event_id, 0)
        early = [o for o in told if o.kind == "MESSAGE_SENT" and o.occur_us < due_us]
        if early:
            yield f"{run.run_id} fired {due_us - early[0].occur_us} us early"
    strangers = messages.keys() - {run.run_id for run in history.runs}
    yield from (f"there are messages of {run}, which there is not" for run in strangers)


def delivered(history: History) -> Iterable[str]:
    """Each message came to the provider, again only as what it was; and nothing else came."""
    calls = _by(history.calls, lambda call: call.webhook_id)
    run_of = {message.message_id: message.run_id for message in history.messages}
    yield from (f"{message} never came to the provider" for message in run_of.keys() - calls.keys())
    for webhook_id, came in calls.items():
        if webhook_id not in run_of:
            yield f"the provider got {webhook_id}, which there is not"
        elif len({call.content for call in came}) > 1:
            yield f"{webhook_id} came with different contents"
        elif came[0].run_id != run_of[webhook_id]:
            yield f"{webhook_id} came for another run"


def logged(history: History) -> Iterable[str]:
    """Positions are contiguous up to the head, ids unique, and the kept counts are those."""
    last: dict[int, int] = {}
    for outcome in history.outcomes:
        expected = last.get(outcome.partition, 0) + 1
        if outcome.position != expected:
            yield f"position {outcome.position} where {expected} was next"
        last[outcome.partition] = outcome.position
    if last != {partition: head for partition, head in history.heads.items() if head}:
        yield f"the log ends at {last}, its heads say {dict(history.heads)}"
    ids = Counter(outcome.outcome_id for outcome in history.outcomes)
    yield from (f"{outcome} is {n} times in the log" for outcome, n in ids.items() if n > 1)
    counted = Counter(outcome.kind for outcome in history.outcomes)
    if counted != Counter(history.counts):
        yield f"the log has {dict(counted)}, the counts say {dict(history.counts)}"


def counted(history: History) -> Iterable[str]:
    """Each run was counted in one variant, and reached its goal at most once."""
    exposures, successes = history.tally
    if exposures != len(history.runs):
        yield f"{exposures} runs are counted in variants, there are {len(history.runs)}"
    if not 0 <= successes <= exposures:
        yield f"{successes} of {exposures} are counted to have reached their goal"


def streamed(history: History) -> Iterable[str]:
    """The subscriber saw every outcome once and in order across all its streams."""
    log = [Seen(o.partition, o.position, o.outcome_id) for o in history.outcomes]
    yield from history.validator.findings(log)
    came = [outcome for stream in history.validator.streams for outcome in stream.ids]
    if sorted(came) != sorted(seen.outcome_id for seen in log):
        yield f"the subscriber got {len(came)} outcomes ({len(set(came))} different) of {len(log)}"


def intact(history: History) -> Iterable[str]:
    """SQLite finds its file in order."""
    if history.integrity != "ok":
        yield f"integrity_check: {history.integrity}"


RULES: tuple[Callable[[History], Iterable[str]], ...] = (
    *(acknowledged, accepted_once, started_once, ended, fired_once),
    *(delivered, logged, counted, streamed, intact),
)


def _by(rows: Iterable[Any], key: Callable[[Any], str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
