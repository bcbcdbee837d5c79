"""`upshot approval`: what an approve step asked, what came of it, and a say in it."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

import click

from upshot.v1 import admin_pb2, engagement_pb2, outcome_pb2, workflow_pb2
from upshotd.cli import client, messages, output
from upshotd.cli.engage import record

#: What the reasons mean why a decision, a question or an answer is rejected.
_WORDS: Final = {
    "NO_APPROVAL": "the message asks for nothing",
    "ALREADY_DECIDED": "somebody was first; see `upshot approval show --message`",
    "APPROVAL_ENDED": "nobody decided in time, or the run has ended",
    "TOO_MANY_QUESTIONS": "it has as many questions as it may have",
    "NO_QUESTION": "no question of the message is open",
    "UNKNOWN_MESSAGE": "there is no such message",
}
_ANY_PLACE: Final = "give RUN, or RUN and STEP, or --message"
#: Most messages of one run that are looked at for those of its reviewers.
_MESSAGES_MAX: Final = 1_000


@click.group(
    epilog="""\b
    Exit codes: 0 done or done before, 1 refused, 2 usage, 3 no server, 4 rejected.

    \b
    Examples:
      upshot approval show 0197a0c4-...
      upshot approval show --message 0197a0c5-...
      upshot approval approve 0197a0c5-... --comment "in the budget"
      upshot approval ask 0197a0c5-... "What is it for?"
      upshot approval answer 0197a0c5-... "The hosting of June."
    """
)
def approval() -> None:
    """Look at what approve steps ask, and decide, ask and answer in place of a link or a program.

    MESSAGE is the message by which a reviewer was asked: they are who decides.
    """


@approval.command(
    epilog="""\b
    Examples:
      upshot approval show 0197a0c4-...
      upshot approval show 0197a0c4-... payment
      upshot approval show --message 0197a0c5-... --json
    """
)
@click.argument("run_id", metavar="[RUN", default="")
@click.argument("step_id", metavar="STEP]", default="")
@click.option("--message", "message_id", default="", metavar="ID", help="In place of RUN.")
@client.json_option
@client.server_option
def show(run_id: str, step_id: str, message_id: str, as_json: bool, server: str) -> None:
    """Show what is asked, whom, what became of it, the questions, and what was decided.

    STEP may be left out where the run stands at the step, or has only one that has asked.
    """
    if bool(message_id) == bool(run_id):
        raise click.UsageError(_ANY_PLACE)

    async def work(at: client.Client) -> tuple[admin_pb2.Approval, list[admin_pb2.Message]]:
        step = step_id or (await _step(at, run_id) if run_id else "")
        request = admin_pb2.GetApprovalRequest(message_id=message_id, run_id=run_id, step_id=step)
        answer = await at.admin.GetApproval(request, timeout=client.CALL_SECONDS)
        if as_json:
            return answer.approval, []
        wanted = messages.Wanted(run_id=answer.approval.run_id, limit=_MESSAGES_MAX)
        return answer.approval, await messages.found(at, wanted)

    found, sent = client.run(server, work)
    if as_json:
        output.json_lines([found])
        return
    _print(found, {message.message_id: message for message in sent})


async def _step(at: client.Client, run_id: str) -> str:
    """Return the step of a run whose approval is meant: where it stands, or the one that asked."""
    request = admin_pb2.GetRunRequest(run_id=run_id)
    run = (await at.admin.GetRun(request, timeout=client.CALL_SECONDS)).run
    asked = [step for step, left in output.plain(run.steps).items() if _has_asked(left)]
    if run.step_id in asked or len(asked) == 1:
        return run.step_id if run.step_id in asked else asked[0]
    if not asked:
        raise click.UsageError(f"run {run_id} has asked nobody for a decision")
    raise click.UsageError(f"give STEP: run {run_id} has asked at {', '.join(sorted(asked))}")


def _has_asked(left: object) -> bool:
    return isinstance(left, dict) and "asked" in left


@approval.command(
    epilog="""\b
    Examples:
      upshot approval approve 0197a0c5-...
      upshot approval approve 0197a0c5-... --comment "in the budget"
    """
)
@click.argument("message_id", metavar="MESSAGE")
@click.option("--comment", default="", metavar="TEXT", help="What is said about it.")
@client.json_option
@client.server_option
def approve(message_id: str, comment: str, as_json: bool, server: str) -> None:
    """Approve what a message asks for, as the reviewer who got it."""
    _decide(engagement_pb2.ENGAGEMENT_KIND_APPROVED, message_id, comment, server, as_json=as_json)


@approval.command(
    epilog="""\b
    Examples:
      upshot approval deny 0197a0c5-...
      upshot approval deny 0197a0c5-... --comment "not this year"
    """
)
@click.argument("message_id", metavar="MESSAGE")
@click.option("--comment", default="", metavar="TEXT", help="What is said about it.")
@client.json_option
@client.server_option
def deny(message_id: str, comment: str, as_json: bool, server: str) -> None:
    """Deny what a message asks for, as the reviewer who got it."""
    _decide(engagement_pb2.ENGAGEMENT_KIND_DENIED, message_id, comment, server, as_json=as_json)


@approval.command(
    epilog="""\b
    Examples:
      upshot approval ask 0197a0c5-... "What is it for?"
    """
)
@click.argument("message_id", metavar="MESSAGE")
@click.argument("text", metavar="TEXT")
@client.json_option
@client.server_option
def ask(message_id: str, text: str, as_json: bool, server: str) -> None:
    """Ask something before deciding; the answer comes by message."""
    kind = engagement_pb2.ENGAGEMENT_KIND_ASKED
    record(_said(kind, message_id, body=text), server, as_json=as_json, words=_WORDS)


@approval.command(
    epilog="""\b
    Without --question it answers the oldest open question of the message.

    \b
    Examples:
      upshot approval answer 0197a0c5-... "The hosting of June."
      upshot approval answer 0197a0c5-... "By Friday." --question q2
    """
)
@click.argument("message_id", metavar="MESSAGE")
@click.argument("text", metavar="TEXT")
@click.option("--question", "question_id", default="", metavar="ID", help="Which question.")
@client.json_option
@client.server_option
def answer(message_id: str, text: str, question_id: str, as_json: bool, server: str) -> None:
    """Answer what a reviewer has asked.

    MESSAGE is the one that the question came by.
    """
    kind = engagement_pb2.ENGAGEMENT_KIND_ANSWERED
    fact = _said(kind, message_id, body=text, question_id=question_id)
    record(fact, server, as_json=as_json, words=_WORDS)


def _decide(
    kind: engagement_pb2.EngagementKind.ValueType,
    message_id: str,
    comment: str,
    server: str,
    *,
    as_json: bool,
) -> None:
    record(_said(kind, message_id, comment=comment), server, as_json=as_json, words=_WORDS)


def _said(
    kind: engagement_pb2.EngagementKind.ValueType, message_id: str, **data: str
) -> engagement_pb2.Engagement:
    """Return a fact; said again in the same words it is the same one."""
    if not message_id:
        raise click.UsageError("MESSAGE is empty")
    words = "".join(f"{len(part)}:{part}" for part in (message_id, str(kind), *data.values()))
    digest = hashlib.sha256(words.encode()).hexdigest()[:40]
    fact = engagement_pb2.Engagement(engagement_id=f"cli-{digest}", kind=kind)
    fact.message_id = message_id
    fact.data.update({name: text for name, text in data.items() if text})
    return fact


# -- what is shown -----------------------------------------------------------------------------


def _print(found: admin_pb2.Approval, sent: Mapping[str, admin_pb2.Message]) -> None:
    decision = output.word(workflow_pb2.ApprovalDecision, found.decision, "APPROVAL_DECISION_")
    pairs = (
        ("run", found.run_id),
        ("step", f"{found.workflow_id}/{found.step_id}"),
        ("state", output.word(admin_pb2.ApprovalState, found.state, "APPROVAL_STATE_")),
        ("decision", decision),
        ("decided by", found.decided_by),
        ("comment", found.comment),
        ("ended (UTC)", output.moment(found.end_time)),
        ("ends (UTC)", output.moment(found.timeout_time)),
        ("summary", found.summary),
    )
    output.fields(pairs)
    click.echo()
    rows = [row for one in found.reviewers for row in _rows(one, sent)]
    output.table(("REVIEWER", "LEVEL", "ASKED (UTC)", "MESSAGE", "STATE"), rows, "nobody was asked")
    for question in found.questions:
        click.echo()
        output.fields(_question(question))


def _rows(
    one: admin_pb2.Reviewer, sent: Mapping[str, admin_pb2.Message]
) -> Iterator[tuple[object, ...]]:
    """Yield a row for each message of a reviewer, who is named in the first."""
    who: tuple[object, ...] = (one.user_id, one.level, output.moment(one.ask_time))
    for message_id in one.message_ids or ("",):
        message = sent.get(message_id)
        yield (*who, message_id, _became(message) if message is not None else "")
        who = (" ", " ", " ")


def _became(message: admin_pb2.Message) -> str:
    """Return what a message is of the approval, where it is, and what became of it since."""
    channel = output.word(outcome_pb2.Channel, message.channel, "CHANNEL_")
    facts = (what for what, _ in messages.facts(message))
    return ", ".join((f"{message.ask.lower()} by {channel}: {messages.state(message)}", *facts))


def _question(question: admin_pb2.ApprovalQuestion) -> tuple[tuple[str, object], ...]:
    open_still = "none yet" if not question.HasField("answer_time") else ""
    return (
        ("question", question.question),
        ("asked by", question.asked_by),
        ("asked (UTC)", output.moment(question.ask_time)),
        ("id", question.question_id),
        ("message", question.message_id),
        ("answer", question.answer or open_still),
        ("answered (UTC)", output.moment(question.answer_time)),
    )
