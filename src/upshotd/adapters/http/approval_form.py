"""What the page of an approval shows, and what its forms say: pure functions."""

import hashlib
import re
from collections.abc import Mapping
from html import escape
from typing import Final, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from upshot.v1 import admin_pb2 as pb
from upshot.v1 import engagement_pb2, workflow_pb2

#: Longest comment, longest question, in characters.
TEXT_MAX: Final = 2_000
#: What a form can say, by the value of its button.
APPROVE: Final = "approve"
DENY: Final = "deny"
ASK: Final = "ask"
#: What each kind of link is for.
WAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "a": (APPROVE,),
    "d": (DENY,),
    "q": (ASK,),
    "r": (APPROVE, DENY, ASK),
}
_KINDS: Final = {
    APPROVE: engagement_pb2.ENGAGEMENT_KIND_APPROVED,
    DENY: engagement_pb2.ENGAGEMENT_KIND_DENIED,
    ASK: engagement_pb2.ENGAGEMENT_KIND_ASKED,
}
#: What no text of a person has but line breaks and tabs.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BUTTONS: Final = {APPROVE: "Approve", DENY: "Deny"}
_DECIDED: Final = {
    workflow_pb2.APPROVAL_DECISION_APPROVED: "Approved",
    workflow_pb2.APPROVAL_DECISION_DENIED: "Denied",
}
#: What is said of each state in the title; of a decision, the decision.
_TITLES: Final = {
    pb.APPROVAL_STATE_OPEN: "Please decide",
    pb.APPROVAL_STATE_TIMED_OUT: "Not decided in time",
    pb.APPROVAL_STATE_CANCELED: "Not needed any more",
}
_ASK_FORM: Final = (
    f'<form method="post"><p><label>Your question<br><textarea name="question" rows="4" '
    f'maxlength="{TEXT_MAX}" required></textarea></label></p>'
    f'<button name="do" value="{ASK}">Ask</button></form>'
)


class Said(NamedTuple):
    """What somebody has sent a form for."""

    #: APPROVE, DENY or ASK.
    way: str
    #: The comment or the question.
    text: str

    def engagement(self, message_id: str) -> engagement_pb2.Engagement:
        """Return it as a fact about the message; sent twice, it is one."""
        engagement_id = f"{self.way}:{message_id}"
        if self.way == ASK:
            engagement_id += ":" + hashlib.sha256(self.text.encode()).hexdigest()[:16]
        fact = engagement_pb2.Engagement(engagement_id=engagement_id, kind=_KINDS[self.way])
        fact.message_id = message_id
        if self.text:
            fact.data["body" if self.way == ASK else "comment"] = self.text
        return fact


def said(kind: str, given: Mapping[str, str]) -> Said | str:
    """Return what the form of a page of *kind* says, or in words why it says nothing."""
    way = given.get("do", "")
    if way not in WAYS[kind]:
        return "This is not the form of this page."
    text = given.get("question" if way == ASK else "comment", "")
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if len(text) > TEXT_MAX:
        return f"This has {len(text)} characters; at most {TEXT_MAX} are taken. Please shorten it."
    if way == ASK and not text:
        return "There is no question in it."
    return Said(way, text)


# -- the page ----------------------------------------------------------------------------------


def title(approval: pb.Approval) -> str:
    """Return how it stands, in a few words."""
    return _TITLES.get(approval.state) or _DECIDED.get(approval.decision, "Decided")


def content(approval: pb.Approval, kind: str) -> str:
    """Return what it is about, and the forms of a page of *kind* while somebody can decide."""
    shown = f"<p>{_standing(approval)}</p><blockquote>{_lines(approval.summary)}</blockquote>"
    shown += "".join(map(_question, approval.questions))
    return shown + _forms(kind) if approval.state == pb.APPROVAL_STATE_OPEN else shown


def _standing(approval: pb.Approval) -> str:
    at = f" on {_moment(approval.end_time)}" if approval.HasField("end_time") else ""
    decided = _DECIDED.get(approval.decision, "Decided")
    match approval.state:
        case pb.APPROVAL_STATE_OPEN if approval.HasField("timeout_time"):
            return f"It can be decided until {_moment(approval.timeout_time)}."
        case pb.APPROVAL_STATE_OPEN:
            return "It waits for a decision."
        case pb.APPROVAL_STATE_DECIDED:
            said_so = f"<br>They said: {_lines(approval.comment)}" if approval.comment else ""
            return f"{decided} by {escape(approval.decided_by) or 'somebody'}{at}.{said_so}"
        case pb.APPROVAL_STATE_TIMED_OUT:
            instead = f" It counts as {decided.lower()}." if approval.decision else ""
            return f"Nobody decided in time; it ended{at}.{instead}"
        case _:
            return f"It is not needed any more; it ended{at}."


def _question(question: pb.ApprovalQuestion) -> str:
    who, at = escape(question.asked_by) or "Somebody", _moment(question.ask_time)
    answer = "There is no answer yet."
    if question.HasField("answer_time"):
        answer = f"Answered on {_moment(question.answer_time)}:<br>{_lines(question.answer)}"
    asked = f"<p>{who} asked on {at}:<br>{_lines(question.question)}</p>"
    return f"{asked}<blockquote>{answer}</blockquote>"


def _forms(kind: str) -> str:
    buttons = "".join(
        f'<button name="do" value="{way}">{_BUTTONS[way]}</button> '
        for way in WAYS[kind]
        if way in _BUTTONS
    )
    forms = ""
    if buttons:
        forms = (
            '<form method="post"><p><label>A comment, if you like<br><textarea name="comment" '
            f'rows="3" maxlength="{TEXT_MAX}"></textarea></label></p>{buttons}</form>'
        )
    return forms + _ASK_FORM if ASK in WAYS[kind] else forms


def _lines(text: str) -> str:
    return "<br>".join(map(escape, text.splitlines()))


def _moment(time: Timestamp) -> str:
    return f"{time.ToDatetime():%Y-%m-%d at %H:%M} UTC"
