"""An AI agent that pays a bill and asks people first: the client of examples/agent-payment.yaml.

    agent.py PAYMENT.json

It proposes the payment, answers what reviewers ask about it, and pays when the workflow lets it.
Kill it at any moment and start it again with the same file: it proposes once, gives one answer to
each question, and pays once. It ends with 0 when the bill is paid, with 3 when it is not to be.
UPSHOT_SERVER and UPSHOT_KEY are those of the command line.
"""

import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc

from upshot.v1 import engagement_pb2, event_pb2, outcome_pb2, service_pb2
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshot.v1.subscription_pb2 import CommitCursorRequest, DeleteSubscriptionRequest
from upshot.v1.subscription_pb2_grpc import SubscriptionServiceStub

AGENT = "payables-agent"
PAID, NOT_PAID = 0, 3
#: The server starts again, or is busy: then everything is done again, and what was done is not.
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
#: The run is over: it lets nobody pay any more.
ENDS = {
    outcome_pb2.OUTCOME_KIND_RUN_COMPLETED,
    outcome_pb2.OUTCOME_KIND_RUN_CANCELED,
    outcome_pb2.OUTCOME_KIND_RUN_FAILED,
}


@dataclass(frozen=True)
class Payment:
    """A bill."""

    payment_id: str
    payee: str
    amount: float
    currency: str
    purpose: str
    invoice: str
    due: str


def answer(payment: Payment, question: str) -> str:
    """Stands where a real agent asks its model. This is none: it looks for the names of what it
    knows among the words of the question."""
    known = asdict(payment)
    named = [f"{name}: {value}" for name, value in known.items() if name in question.lower()]
    return "; ".join(named) or f"I do not know. Ask me for {', '.join(known)}."


def pay(payment: Payment) -> bool:
    """Stands where the bank is told, with the payment's id as the key under which it pays once.
    Returns False where it was paid before."""
    with closing(sqlite3.connect("bank.db")) as bank, bank:
        bank.execute("CREATE TABLE IF NOT EXISTS paid (payment_id PRIMARY KEY, payee, amount)")
        row = (payment.payment_id, payment.payee, payment.amount)
        return bank.execute("INSERT OR IGNORE INTO paid VALUES (?, ?, ?)", row).rowcount == 1


class Proposal:
    """One payment on its way through the workflow."""

    def __init__(self, payment: Payment, channel: grpc.Channel) -> None:
        self._payment = payment
        self._upshot = UpshotServiceStub(channel)
        self._subscriptions = SubscriptionServiceStub(channel)
        key = os.environ.get("UPSHOT_KEY")
        self._key = (("authorization", f"Bearer {key}"),) if key else None
        #: What the server keeps: up to where in the outcomes this payment has acted.
        self._subscription = f"payment-{payment.payment_id}"

    def propose(self) -> str:
        """Return the run that decides. The event's id is the payment's: proposed once more, it is a
        duplicate, which names the run that it has started the first time."""
        event = event_pb2.Event(event_id=self._payment.payment_id, user_id=AGENT)
        event.track.event = "Payment Proposed"
        event.track.properties.update({**asdict(self._payment), "agent": AGENT})
        request = service_pb2.IngestRequest(events=[event])
        (result,) = self._upshot.Ingest(request, metadata=self._key).results
        if not result.started_runs:
            raise SystemExit(f"not proposed: {result.reason or 'no workflow takes it'}")
        state = service_pb2.IngestState.Name(result.state).removeprefix("INGEST_STATE_")
        print(f"proposed ({state.lower()}), run {result.started_runs[0].run_id}")
        return result.started_runs[0].run_id

    def follow(self, run_id: str) -> int:
        """Act on what happens in the run, until it lets the agent pay, or ends.

        A cursor is committed once everything before it was acted on: who is killed in between
        reads that again.
        """
        request = service_pb2.StreamOutcomesRequest(
            subscription=self._subscription,
            start=service_pb2.START_POSITION_EARLIEST,
            filter=service_pb2.OutcomeFilter(workflow_ids=["agent-payment"], user_ids=[AGENT]),
        )
        for response in self._upshot.StreamOutcomes(request, metadata=self._key):
            for outcome in response.outcomes:
                done = self._act(outcome) if outcome.run_id == run_id else None
                if done is not None:
                    self._forget()
                    return done
            self._commit(response.cursor)
        raise AssertionError("a stream ends with an error")

    def _act(self, outcome: outcome_pb2.Outcome) -> int | None:
        """Do what *outcome* asks for; return how the agent ends, if that decides it."""
        said = outcome.properties
        if outcome.kind == outcome_pb2.OUTCOME_KIND_APPROVAL_ASKED:
            print(f"{said['asked_by']} asks: {said['question']}")
            self._answer(outcome.message_id, str(said["question_id"]), str(said["question"]))
        elif outcome.kind == outcome_pb2.OUTCOME_KIND_APPROVAL_DECIDED:
            words = [said[name] for name in ("decision", "decided_by", "comment") if name in said]
            print("decided:", *words, *filter(None, [outcome.reason]))
        elif outcome.event == "Payment Approved":
            print("paid" if pay(self._payment) else "paid before")
            return PAID
        elif outcome.kind in ENDS:
            print("not paid")
            return NOT_PAID
        return None

    def _answer(self, message_id: str, question_id: str, question: str) -> None:
        """Answer once: the id of the engagement is that of the question."""
        fact = engagement_pb2.Engagement(
            engagement_id=f"answer:{message_id}:{question_id}",
            message_id=message_id,
            kind=engagement_pb2.ENGAGEMENT_KIND_ANSWERED,
        )
        body = answer(self._payment, question)
        fact.data.update({"question_id": question_id, "body": body})
        request = service_pb2.RecordEngagementRequest(engagements=[fact])
        (result,) = self._upshot.RecordEngagement(request, metadata=self._key).results
        # Rejected where somebody has answered it, or decided, meanwhile.
        print(f"answered: {body}" if not result.reason else f"not answered: {result.reason}")

    def _commit(self, cursor: str) -> None:
        request = CommitCursorRequest(subscription=self._subscription, cursor=cursor)
        self._subscriptions.CommitCursor(request, metadata=self._key)

    def _forget(self) -> None:
        request = DeleteSubscriptionRequest(subscription=self._subscription)
        self._subscriptions.DeleteSubscription(request, metadata=self._key)


def main(path: str) -> int:
    """Bring the payment to its end, however often the server is away."""
    payment = Payment(**json.loads(Path(path).read_text()))
    server = os.environ.get("UPSHOT_SERVER", "127.0.0.1:7070")
    while True:
        try:
            with grpc.insecure_channel(server) as channel:
                proposal = Proposal(payment, channel)
                return proposal.follow(proposal.propose())
        except grpc.RpcError as error:
            if error.code() not in PASSING:
                raise
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
