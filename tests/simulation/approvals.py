"""I23: an approval asks everybody once, is decided once by somebody who was asked, and says so."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from tests.simulation.accounts import at_once
from upshotd.adapters.memory.tables import Tables
from upshotd.domain.approval import Approval, Asking, Question
from upshotd.domain.erasure import ERASED
from upshotd.domain.message import UNREACHABLE, Ask, Delivery, Message, MessageState
from upshotd.domain.outcome import Engagement, EngagementKind, OutcomeKind
from upshotd.domain.plan import Plan
from upshotd.domain.run import Run
from upshotd.domain.state import Changes
from upshotd.domain.steps.approve import Approve, sent_by
from upshotd.domain.stimulus import EngagementResult, EngagementState
from upshotd.domain.workflow import Step, nested

#: A run, and its approve step.
Place = tuple[str, str]
#: Returns the plan of a workflow and version.
Plans = Callable[[str, int], Plan]
_DECISIONS = (EngagementKind.APPROVED, EngagementKind.DENIED)
#: Which steps are gone by `steps.<id>.decision`.
_WAYS = {"APPROVED": "on_approved", "DENIED": "on_denied", "TIMED_OUT": "on_timeout"}


class Approvals:
    """Remembers what reviewers were told, and what was written of approvals."""

    def __init__(self, expect: Callable[[bool, str], None]) -> None:
        self._expect = expect
        #: Decisions that somebody tried to make, and those of which they were told that they count.
        self._tried: defaultdict[Place, set[tuple[str, str]]] = defaultdict(set)
        self._counted: defaultdict[Place, set[str]] = defaultdict(set)
        self._outcomes: Counter[tuple[OutcomeKind, Place]] = Counter()
        #: Messages that have failed at some time.
        self._failed: set[str] = set()

    # what reviewers do

    def tried(self, delivery: Delivery, engagement: Engagement) -> None:
        """Somebody is about to do something."""
        if engagement.kind in _DECISIONS:
            place = delivery.run_id, delivery.step_id
            self._tried[place].add((engagement.kind.name, delivery.user_id))

    def told(
        self, tables: Tables, delivery: Delivery, engagement: Engagement, result: EngagementResult
    ) -> None:
        """Somebody was told whether what they did counts."""
        place = delivery.run_id, delivery.step_id
        which = f"{engagement.engagement_id} of {place}"
        if result.state is EngagementState.REJECTED:
            message = tables.messages[delivery.message_id]
            true = self._is_so(tables, message, engagement, result.reason)
            self._expect(true, f"I23 {which} was refused: {result.reason}")
        if result.state is EngagementState.RECORDED and engagement.kind in _DECISIONS:
            self._counted[place].add(engagement.engagement_id)
            once = len(self._counted[place]) == 1
            self._expect(once, f"I23 {place} was decided by {sorted(self._counted[place])}")

    def _is_so(self, tables: Tables, message: Message, engagement: Engagement, reason: str) -> bool:
        """Return whether a refusal is true. What is over stays so: it can be looked at later."""
        run = tables.runs[message.run_id]
        approval = Approval.of(run.steps.get(message.step_id, {}))
        gone = message.reason == ERASED or not run.profile_id
        match reason:
            case "ALREADY_DECIDED":
                return gone or (approval.decision is not None and not approval.timed_out)
            case "APPROVAL_ENDED":
                return gone or not (approval.open and run.active and run.step_id == message.step_id)
            case "NO_APPROVAL":
                return gone or message.ask is Ask.NOTICE
            case "NO_QUESTION":
                named = engagement.data.get("question_id")
                asked = self.questions(tables, message)
                waiting = [q for q in asked if not q.answer_us and named in (None, q.question_id)]
                return gone or not waiting
            case _:
                return reason == ERASED and gone

    def questions(self, tables: Tables, message: Message) -> Sequence[Question]:
        """Return the questions that came by a message."""
        left = tables.runs[message.run_id].steps.get(message.step_id, {})
        return [one for one in Approval.of(left).questions if one.message_id == message.message_id]

    # what is written

    def committed(
        self,
        tables: Tables,
        changes: Changes,
        runs: Mapping[str, Run | None],
        messages: Mapping[str, Message | None],
        plans: Plans,
    ) -> None:
        """Look at what was written over the *runs* and *messages* that were there."""
        for outcome in changes.outcomes:
            self._outcomes[outcome.kind, (outcome.run_id, outcome.step_id)] += 1
        for message in changes.messages.values():
            if message.ask is not None:
                before = runs.get(message.run_id, tables.runs.get(message.run_id))
                self._begun(message, messages[message.message_id], before)
        for run in changes.runs.values():
            before = runs[run.run_id]
            for step_id, left in run.steps.items() if before is not None else ():
                if "asked" in left and before is not None:
                    was = Approval.of(before.steps.get(step_id, {}))
                    now = Approval.of(left)
                    self._changed((run.run_id, step_id), was, now)
                    # Of another version perhaps, where the step is another one, or none.
                    step = plans(run.workflow_id, run.workflow_version).steps.get(step_id)
                    kind = step.kind if step is not None else None
                    told = isinstance(kind, Approve) and kind.notice is not None
                    if was.open and not now.open and told:
                        self._notices(tables, messages, was, now)

    def _begun(self, message: Message, before: Message | None, run: Run | None) -> None:
        """Nobody is asked about what has been decided."""
        if message.state in UNREACHABLE:
            self._failed.add(message.message_id)
        begun = message.attempt > (before.attempt if before is not None else 0)
        if not begun or message.state is not MessageState.SENDING or message.ask is Ask.NOTICE:
            return
        if run is None or run.step_id != message.step_id:
            here = run is None or message.step_id not in run.steps
        else:
            here = run.active and Approval.of(run.steps.get(message.step_id, {})).open
        self._expect(here, f"I23 {message.message_id} asks about what is decided")

    def _changed(self, place: Place, was: Approval, now: Approval) -> None:
        over = (was.decision, was.decided_by, was.timed_out, was.end_us)
        same = over == (now.decision, now.decided_by, now.timed_out, now.end_us)
        self._expect(was.open or same, f"I23 {place} was decided again: {now}")
        kept = [(q.question_id, q.message_id, q.question) for q in was.questions]
        found = [(q.question_id, q.message_id, q.question) for q in now.questions]
        self._expect(found[: len(kept)] == kept, f"I23 {place} has lost a question")

    def _notices(
        self,
        tables: Tables,
        before: Mapping[str, Message | None],
        was: Approval,
        now: Approval,
    ) -> None:
        """Whoever has a request is told what was decided."""
        told = {one.profile_id for one in now.asked if one.ask is Ask.NOTICE}
        for asking in _those(was, Ask.REQUEST):
            known = [before.get(name, tables.messages[name]) for name in asking.message_ids]
            sent = any(m is not None and m.state is MessageState.ACCEPTED for m in known)
            still = any(
                tables.messages[name].state is MessageState.ACCEPTED for name in asking.message_ids
            )
            there = not tables.profiles[asking.profile_id].erased
            fine = not (sent and still and there) or asking.profile_id in told
            self._expect(fine, f"I23 {asking} is not told what was decided")

    # the end

    def final(self, workspace_id: str, tables: Tables, plans: Plans) -> None:
        """Judge every approval of a workspace."""
        for run in tables.runs.values():
            moved = any(entry.what == "migrated" for entry in run.timeline)
            for step_id, left in run.steps.items():
                if "asked" not in left:
                    continue
                place = run.run_id, step_id
                approval = Approval.of(left)
                texts = [
                    *self._decided(place, approval),
                    *self._said(place, approval),
                    *self._asked(tables, approval),
                ]
                if not moved:
                    step = plans(run.workflow_id, run.workflow_version).steps[step_id]
                    texts += self._by_its_definition(tables, step, run, approval)
                for text in texts:
                    self._expect(False, f"I23 {workspace_id}: {place} {text}")

    def _decided(self, place: Place, approval: Approval) -> Iterable[str]:
        """By whom it was decided."""
        decided = approval.decision is not None and not approval.timed_out
        if decided and approval.decision is not None:
            tried = (approval.decision.name, approval.decided_by) in self._tried[place]
            if not tried:
                yield f"was {approval.decision.name} by {approval.decided_by}, who never did that"
        elif self._counted[place]:
            yield f"was not decided, and {self._counted[place]} counts"

    def _said(self, place: Place, approval: Approval) -> Iterable[str]:
        """Whoever reads the log hears of all of it, once."""
        answered = sum(1 for one in approval.questions if one.answer_us)
        levels = {one.level for one in _those(approval, Ask.REQUEST)}
        for kind, count in (
            (OutcomeKind.APPROVAL_REQUESTED, len(levels)),
            (OutcomeKind.APPROVAL_DECIDED, 0 if approval.open else 1),
            (OutcomeKind.APPROVAL_ASKED, len(approval.questions)),
            (OutcomeKind.APPROVAL_ANSWERED, answered),
        ):
            if self._outcomes[kind, place] != count:
                yield f"should have said {kind.name} {count} times: {self._outcomes[kind, place]}"

    def _asked(self, tables: Tables, approval: Approval) -> Iterable[str]:
        """Everybody gets each thing once."""
        for ask in (Ask.REQUEST, Ask.NOTICE):
            times = Counter(one.profile_id for one in _those(approval, ask))
            twice = [who for who, count in times.items() if count > 1]
            if twice:
                yield f"has a {ask} for {twice} more than once"
        told = Counter(one.question_id for one in _those(approval, Ask.ANSWER))
        answered = Counter(one.question_id for one in approval.questions if one.answer_us)
        if told != answered:
            yield f"has answered {answered} and told {told}"
        requested = {one.profile_id for one in _those(approval, Ask.REQUEST)}
        for one in approval.asked:
            if one.profile_id not in requested:
                yield f"has something for {one.profile_id}, who was never asked"
            for name in one.message_ids:
                message = tables.messages[name]
                if message.profile_id not in ("", one.profile_id) or message.ask is not one.ask:
                    yield f"has {message} for {one}"

    def _by_its_definition(
        self, tables: Tables, step: Step, run: Run, approval: Approval
    ) -> Iterable[str]:
        kind = step.kind
        assert isinstance(kind, Approve)
        yield from self._reminded(kind, approval)
        yield from self._escalated(tables, kind, step.step_id, run, approval)
        yield from _went(step, run, approval)
        for one in approval.asked:
            send = sent_by(kind, one.ask)
            most = at_once(send.routing) if send is not None else 0
            sent = [
                name
                for name in one.message_ids
                if tables.messages[name].state is MessageState.ACCEPTED
            ]
            if len(sent) > most:
                yield f"reached {one} on {len(sent)} channels"

    def _reminded(self, kind: Approve, approval: Approval) -> Iterable[str]:
        """Nobody is reminded sooner, or more often, than was asked for; a request that bounces and
        goes another way counts anew."""
        for request in _those(approval, Ask.REQUEST):
            got = [
                one.time_us
                for one in _those(approval, Ask.REMINDER)
                if one.profile_id == request.profile_id
            ]
            spans = kind.reminders_us
            if len(got) > len(spans) or (got and got[0] < request.time_us + spans[0]):
                yield f"reminds {request.profile_id} at {got}: {request.time_us}, {spans}"

    def _escalated(
        self, tables: Tables, kind: Approve, step_id: str, run: Run, approval: Approval
    ) -> Iterable[str]:
        """The next level is asked in time, or where nobody of the one before can be reached."""
        times = {
            int(entry.detail.split(":")[0].removeprefix("level ")): entry.time_us
            for entry in run.timeline
            if (entry.step_id, entry.what) == (step_id, "requested")
        }
        for level, time_us in times.items():
            escalate_us = kind.levels[level - 1].escalate_us
            if level + 1 not in times or escalate_us is None:
                continue
            early = times[level + 1] < time_us + escalate_us
            theirs = (one for one in _those(approval, Ask.REQUEST) if one.level == level)
            if early and not all(self._lost(tables, one) for one in theirs):
                yield f"asked level {level + 1} at {times[level + 1]}, before its time"

    def _lost(self, tables: Tables, asking: Asking) -> bool:
        erased = tables.profiles[asking.profile_id].erase_us  # they may have come back since
        return bool(erased) or self._failed.issuperset(asking.message_ids)


def _those(approval: Approval, ask: Ask) -> list[Asking]:
    return [one for one in approval.asked if one.ask is ask]


def _went(step: Step, run: Run, approval: Approval) -> Iterable[str]:
    """The run has gone the way that was decided, and no other."""
    way = "open" if approval.open else _WAYS[str(approval.left()["decision"])]
    seen = {entry.step_id for entry in run.timeline}
    for name, inner in nested(step):
        gone = seen & _ids(inner)
        if gone and way not in name:
            yield f"went {sorted(gone)} of {name}, and it was {way}"


def _ids(steps: Iterable[Step]) -> set[str]:
    found = {step.step_id for step in steps}
    return found.union(*(_ids(inner) for step in steps for _, inner in nested(step)))
