"""What is wrong with an approve step."""

from typing import Final

from upshotd.domain import fetch_validation, send_validation
from upshotd.domain.findings import Findings
from upshotd.domain.reading import texts
from upshotd.domain.steps.approve import REVIEWERS_MAX, Approve, ReviewerLevel
from upshotd.domain.steps.delay import WAIT_MAX_US
from upshotd.domain.steps.send import Send
from upshotd.domain.values import replace
from upshotd.domain.workflow import sends_of

#: Links that lead to a decision.
_WAYS: Final = ("approve", "deny", "review")
LEVELS_MAX: Final = 5
REMINDERS_MAX: Final = 5


def check(approve: Approve, path: str, findings: Findings) -> None:
    """Note what is wrong with the approve step at *path*."""
    _levels(approve, f"{path}.levels", findings)
    for name, send in sends_of(approve):
        _sent(send, f"{path}.{name}", findings)
    if not _leads_back(approve.request, findings):
        text = (
            "names no link that decides: nobody can decide from it. links.review leads to the page;"
            " without it whoever hands the decision on calls RecordEngagement"
        )
        findings.warn(f"{path}.request", text)
    if not approve.summary:
        findings.fault(f"{path}.summary", "is required: it is what the page says")
    findings.template(f"{path}.summary", approve.summary)
    if approve.context is not None:
        fetch_validation.fetch(approve.context, f"{path}.context", findings)
    _reminders(approve, f"{path}.reminders", findings)
    findings.span(f"{path}.timeout", approve.timeout_us, most_us=WAIT_MAX_US)
    if approve.default is not None and approve.on_timeout:
        text = f"is never taken: where nobody decides, it is {approve.default.name} by default"
        findings.fault(f"{path}.on_timeout", text)


def _levels(approve: Approve, path: str, findings: Findings) -> None:
    count = len(approve.levels)
    if not 1 <= count <= LEVELS_MAX:
        findings.fault(path, f"{count} given; 1 to {LEVELS_MAX} are taken")
    after_us = 0
    for index, level in enumerate(approve.levels[:LEVELS_MAX]):
        at = f"{path}[{index}]"
        _reviewers(level, at, findings)
        last = index + 1 == count
        _escalation(level, f"{at}.escalate_after", findings, last=last)
        before_us, after_us = after_us, after_us + (level.escalate_us or 0)
        if not last and before_us < approve.timeout_us <= after_us:
            text = "ends at or after the timeout: the next level is asked where this one fails only"
            findings.warn(f"{at}.escalate_after", text)


def _escalation(level: ReviewerLevel, path: str, findings: Findings, *, last: bool) -> None:
    if level.escalate_us is not None:
        findings.span(path, level.escalate_us, most_us=WAIT_MAX_US)
        if last:
            findings.warn(path, "has no effect: there is no level after it")
    elif not last:
        findings.fault(path, "is required: it says when the next level is asked")


def _reviewers(level: ReviewerLevel, path: str, findings: Findings) -> None:
    users = level.user_ids
    if bool(level.audience_id) + bool(level.group_id) + bool(users) != 1:
        text = "exactly one of audience_id, group_id, users is required, and not empty"
        findings.fault(f"{path}.reviewers", text)
    if level.audience_id:
        findings.name(f"{path}.audience_id", level.audience_id)
    findings.template(f"{path}.group_id", level.group_id)
    if len(users) > REVIEWERS_MAX:
        text = f"{len(users)} given; 1 to {REVIEWERS_MAX} are taken"
        findings.fault(f"{path}.users.user_ids", text)
    for index, user_id in enumerate(users[:REVIEWERS_MAX]):
        at = f"{path}.users.user_ids[{index}]"
        if not user_id:
            findings.fault(at, "is empty")
        findings.template(at, user_id)


def _sent(send: Send, path: str, findings: Findings) -> None:
    # Its texts have the names that are elsewhere for others.
    here = replace(findings, elsewhere=frozenset())
    send_validation.check(replace(send, max_lateness_us=None), path, here)
    if send.max_lateness_us is not None:
        text = "is not taken: what reviewers get is of use until it is decided"
        findings.fault(f"{path}.max_lateness", text)


def _leads_back(send: Send, findings: Findings) -> bool:
    """Return whether a text of *send* may have a link by which its reader can decide."""
    sources = [source for content in send.contents for source in texts(content) if source]
    named = [source for source in sources if "links" in findings.templates.names(source)]
    return bool(send.template_id) or any(way in source for source in named for way in _WAYS)


def _reminders(approve: Approve, path: str, findings: Findings) -> None:
    if len(approve.reminders_us) > REMINDERS_MAX:
        text = f"{len(approve.reminders_us)} given; at most {REMINDERS_MAX} are taken"
        findings.fault(path, text)
    before_us = 0
    for index, span_us in enumerate(approve.reminders_us[:REMINDERS_MAX]):
        at = f"{path}[{index}]"
        findings.span(at, span_us, most_us=WAIT_MAX_US)
        if 0 < span_us <= before_us:
            findings.fault(at, "must be later than the one before")
        elif 0 < approve.timeout_us <= span_us:
            findings.warn(at, "comes at or after the timeout: nobody gets it")
        before_us = span_us
