"""`upshot why`: what happened to an event, a run or a message, in plain words."""

from collections.abc import Iterable, Iterator
from typing import Final

import click
import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from upshot.v1 import admin_pb2, audience_pb2, event_pb2, outcome_pb2, service_pb2
from upshotd.cli import client, messages, output

#: What a word of a timeline means; `{}` is its detail.
WORDS: Final = {
    "started": "it was started {}",
    "ended": "it ended: {}",
    "skipped": "was skipped, because this does not hold: {}",
    "condition_failed": "could not evaluate a condition, which counts as false: {}",
    "sending": "gave a message to its provider: {}",
    "sent": "was taken by the provider {}",
    "retrying": "was not taken now, and is tried again: {}",
    "failed_over": "was not taken by {}; the next provider was asked",
    "unknown": "got no answer whether it was taken: {}",
    "passed_over": "passed a channel over: {}",
    "quiet": "waited for the end of quiet hours, {}",
    "device_gone": "found that devices are gone, and took them off the profile: {}",
    "unroutable": "had no way to reach the person: {}",
    "suppressed": "was held back: {}",
    "undeliverable": "will never reach the person: {}",
    "waiting": "began to wait",
    "matched": "got what it waited for: {}",
    "timed_out": "waited until its timeout, and it did not come",
    "delayed": "began to wait, {}",
    "went_on": "went on: {}",
    "asking": "asked {}",
    "asking_again": "got no answer, and asks again: {}",
    "answered": "got an answer",
    "unanswered": "got no answer: {}",
    "requested": "asked for a decision, {}",
    "asked": "was asked by {}",
    "question_answered": "got the answer to {}",
    "decided": "was decided: {}",
    "summary_failed": "left its summary as it was: {}",
    "branched": "took the way of {}",
    "passed": "let it through: {}",
    "throttled": "did not let it through: {}",
    "collected": "collected it: {}",
    "digested": "closed with {}",
    "assigned": "took the variant {}",
    "goal_reached": "reached its goal in the variant {}",
    "updated": "set the traits {}",
    "no_value": "left a trait as it is: {}",
    "no_contact": "set a trait that is no contact: {}",
    "emitted": "wrote the outcome {}",
    "emit_failed": "wrote no outcome: {}",
    "enrolled": "started another workflow: {}",
    "not_enrolled": "started no other workflow: {}",
    "exited": "ended the run: {}",
    "migrated": "went on with another version: {}",
}
#: Why a workflow that listens to an event did not start; `{}` is the detail.
REASONS: Final = {
    "CONDITION_FALSE": "its condition does not hold: {}",
    "CONDITION_FAILED": "its condition could not be evaluated: {}",
    "NO_KEY": "its key has no value: {}",
    "RAN_BEFORE": "it runs once ever for a person, and ran {}",
    "COOLDOWN": "it is in its cooldown {}",
    "ACTIVE": "this person is in it already: {}",
    "TOO_OLD": "the event is older than it takes: {}",
    "OWN_OUTCOME": "the event is one of our own outcomes, and it does not listen to those",
}
#: Most refused events that are looked through.
_REJECTED_MAX = 500


@click.command(
    epilog="""\b
    Examples:
      upshot why e-17          an event: what it started, and what it did not
      upshot why 0197a0c4-...  a run or a message: each step, and its reasons
    """
)
@click.argument("which", metavar="EVENT_ID | RUN_ID | MESSAGE_ID")
@client.server_option
def why(which: str, server: str) -> None:
    """Tell in words why something happened, or did not."""

    async def work(at: client.Client) -> list[str]:
        for look in (_of_run, _of_message, _of_event, _of_rejected):
            lines = await look(at, which)
            if lines:
                return lines
        return []

    lines = client.run(server, work)
    for line in lines:
        click.echo(output.clean(line))
    if not lines:
        output.complain(f"nothing is known of {which!r}: no event, run or message that is kept")
        raise click.exceptions.Exit(output.EXIT_REFUSED)


# -- events ------------------------------------------------------------------------------------


async def _of_event(at: client.Client, event_id: str) -> list[str]:
    request = admin_pb2.GetEventRequest(event_id=event_id)
    try:
        answer = await at.admin.GetEvent(request, timeout=client.CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        return _unless_unknown(error)
    return event_lines(answer)


def event_lines(answer: admin_pb2.GetEventResponse) -> list[str]:
    """Return what became of an accepted event."""
    event = answer.event
    head = f"event {event.event_id}: {_called(event)}, "
    lines = [f"{head}received {output.moment(answer.receive_time)} UTC"]
    if event.audience_changed.reason:
        lines.append(f"  because: {event.audience_changed.reason}")
    lines += [f"  {line}" for line in explained(answer.explanations)]
    return lines


def explained(explanations: Iterable[service_pb2.Explanation]) -> list[str]:
    """Return what each workflow made of an event."""
    lines = []
    for one in explanations:
        name = f"{one.workflow_id} v{one.version}"
        if one.started:
            lines.append(f"it started {name}: run {one.run_id}")
        else:
            detail = output.readable(one.detail)
            reason = REASONS.get(one.reason, f"{one.reason}: {{}}").format(detail)
            lines.append(f"it did not start {name}: {reason}")
    return lines or [
        "no workflow listened to it when it came; an audience that it moved has an event of its own"
    ]


def _called(event: event_pb2.Event) -> str:
    kind, who = event.WhichOneof("call") or "event", event.user_id or event.anonymous_id
    called = {"track": event.track.event, "page": event.page.name, "screen": event.screen.name}
    name = called.get(kind, "")
    if kind == "audience_changed":
        changed = event.audience_changed
        entered = changed.transition == audience_pb2.AUDIENCE_TRANSITION_ENTER
        what = "came into" if entered else "left"
        return f"{who} {what} the audience {changed.audience_id}"
    return f'{kind} "{name}" of {who}' if name else f"{kind} of {who}"


async def _of_rejected(at: client.Client, event_id: str) -> list[str]:
    async def fetch(size: int, token: str) -> admin_pb2.ListRejectedEventsResponse:
        request = admin_pb2.ListRejectedEventsRequest(page_size=size, page_token=token)
        return await at.admin.ListRejectedEvents(request, timeout=client.CALL_SECONDS)

    refused = await client.rows(_REJECTED_MAX, fetch, lambda page: page.rejected_events)
    for one in refused:
        if one.event_id == event_id:
            time = output.moment(one.receive_time)
            faults = [f"  {fault.field}: {fault.description}" for fault in one.violations]
            return [f"event {event_id} was refused {time} UTC: {one.reason}", *faults]
    return []


# -- runs and messages -------------------------------------------------------------------------


async def _of_run(at: client.Client, run_id: str) -> list[str]:
    request = admin_pb2.GetRunRequest(run_id=run_id)
    try:
        answer = await at.admin.GetRun(request, timeout=client.CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        return _unless_unknown(error)
    return run_lines(answer.run)


def run_lines(run: admin_pb2.Run) -> list[str]:
    """Return what a run did, step by step, and where it is."""
    who = run.user_id or run.anonymous_id
    head = f"run {run.run_id} of {run.workflow_id} v{run.workflow_version} for {who}"
    lines = [f"{head}, started by the event {run.event_id}", *_told(run.timeline)]
    if run.state == admin_pb2.RUN_STATE_ACTIVE:
        due = output.moment(run.due_time)
        until = f" until {due} UTC" if due != output.NOTHING else ", until something comes"
        lines.append(f"  it stands at {run.step_id}{until}")
    return lines


async def _of_message(at: client.Client, message_id: str) -> list[str]:
    request = admin_pb2.GetMessageRequest(message_id=message_id)
    try:
        answer = await at.admin.GetMessage(request, timeout=client.CALL_SECONDS)
        asked = admin_pb2.GetRunRequest(run_id=answer.message.run_id)
        found = await at.admin.GetRun(asked, timeout=client.CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        return _unless_unknown(error)
    return message_lines(answer.message, found.run)


def message_lines(message: admin_pb2.Message, run: admin_pb2.Run) -> list[str]:
    """Return what became of a message, and what its step says of it."""
    channel = output.word(outcome_pb2.Channel, message.channel, "CHANNEL_")
    to = f" to {message.recipient}" if message.recipient else ""
    through = f" through {message.provider}" if message.provider else ""
    lines = [
        f"message {message.message_id}: {channel}{to}{through}, {messages.state(message)}",
        f"  of the step {message.step_id} in run {run.run_id} of {run.workflow_id} "
        f"v{run.workflow_version}, started by the event {run.event_id}",
    ]
    if message.attempt > 1:
        lines.append(f"  it took {message.attempt} attempts")
    if message.possible_duplicate:
        lines.append("  an earlier attempt may have arrived too")
    lines += _told(entry for entry in run.timeline if entry.step_id == message.step_id)
    lines += [f"  {_at(time)}  {word}" for word, time in messages.facts(message)]
    return lines


def _told(timeline: Iterable[admin_pb2.TimelineEntry]) -> Iterator[str]:
    for entry in timeline:
        detail = output.readable(entry.detail)
        said = WORDS.get(entry.what, f"{entry.what} {{}}").format(detail).rstrip(" :,")
        step = f"{entry.step_id} " if entry.step_id else ""
        yield f"  {_at(entry.time)}  {step}{said}"


def _at(time: Timestamp) -> str:
    return output.moment(time)


def _unless_unknown(error: grpc.aio.AioRpcError) -> list[str]:
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return []
    raise error
