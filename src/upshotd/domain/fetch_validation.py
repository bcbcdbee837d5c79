"""What is wrong with a step that asks something outside. Pure."""

import re
from collections.abc import Iterator, Set
from typing import Final

from upshotd.domain.errors import Violation
from upshotd.domain.fetching import HttpMethod, Secret
from upshotd.domain.findings import Findings
from upshotd.domain.steps.approve import Approve
from upshotd.domain.steps.fetch import FetchStep, Generate, parts
from upshotd.domain.workflow import Workflow, everything

HEADERS_MAX: Final = 20
ATTEMPTS_MAX: Final = 10
TOKENS_MAX: Final = 8_000
#: What an attempt may take at most, in microseconds.
FETCH_MAX_US: Final = 30_000_000
GENERATE_MAX_US: Final = 120_000_000
#: Characters of a model's name.
MODEL_MAX: Final = 100
#: How an address may begin; what a template makes is seen when it is asked.
_BEGINNINGS: Final = ("http://", "https://", "{")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
#: An address whose host is written out.
_NAMED_HOST = re.compile(r"https?://[^/?#{]+(?:[/?#]|$)")
#: What says where a request goes and how long it is.
_OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "te"}
)


def fetch(step: FetchStep, path: str, findings: Findings) -> None:
    """Note what is wrong with a fetch."""
    _required(step.url, f"{path}.url", findings)
    if step.url and not step.url.lstrip().startswith(_BEGINNINGS):
        findings.fault(f"{path}.url", "must begin with http:// or https://")
    for name, source in (("url", step.url), ("body", step.body)):
        if "${secrets." in source:
            findings.fault(f"{path}.{name}", "has a secret: those stand in headers only")
    if step.body and step.method is HttpMethod.GET:
        findings.fault(f"{path}.body", "a GET has none")
    findings.template(f"{path}.body", step.body)
    _headers(step, f"{path}.headers", findings)
    if _NAMED_HOST.match(step.url) is None and any(
        "${secrets." in h for h in step.headers.values()
    ):
        text = "leaves its host to be filled in: whoever says what it is gets the secrets"
        findings.warn(f"{path}.url", text)
    _time(step.timeout_us, FETCH_MAX_US, f"{path}.timeout", findings)
    findings.count(f"{path}.max_attempts", step.attempts, ATTEMPTS_MAX)


def generate(step: Generate, path: str, findings: Findings) -> None:
    """Note what is wrong with a question to a model."""
    _required(step.prompt, f"{path}.prompt", findings)
    findings.template(f"{path}.system", step.system)
    if step.schema.get("type") != "object":
        findings.fault(f"{path}.schema", "must be a JSON Schema of the type object")
    if len(step.model) > MODEL_MAX or not step.model.isprintable():
        findings.fault(f"{path}.model", f"must be printable, at most {MODEL_MAX} characters")
    findings.count(f"{path}.max_tokens", step.most_tokens, TOKENS_MAX)
    _time(step.timeout_us, GENERATE_MAX_US, f"{path}.timeout", findings)
    findings.count(f"{path}.max_attempts", step.attempts, ATTEMPTS_MAX)


def unanswered(workflow: Workflow, secrets: Set[str], *, model: bool) -> Iterator[Violation]:
    """Yield what keeps steps of *workflow* from any answer where there are these *secrets*, and a
    *model* or none."""
    for at, step in everything(workflow.steps, "workflow.steps"):
        match step.kind:
            case FetchStep():
                yield from _unknown(step.kind, f"{at}.fetch", secrets)
            case Approve(context=FetchStep() as context):
                yield from _unknown(context, f"{at}.approve.context", secrets)
            case Generate() if not model:
                text = "gets no answer (NOT_CONFIGURED): the settings have no [generate]"
                yield Violation(f"{at}.generate", text)
            case _:
                pass


def _unknown(step: FetchStep, path: str, secrets: Set[str]) -> Iterator[Violation]:
    for name, source in step.headers.items():
        for part in parts(source):
            if isinstance(part, Secret) and part.name not in secrets:
                text = f"gets no answer (NO_SECRET): the settings have no secret {part.name}"
                yield Violation(f"{path}.headers.{name}", text)


def _headers(step: FetchStep, path: str, findings: Findings) -> None:
    if len(step.headers) > HEADERS_MAX:
        findings.fault(path, f"{len(step.headers)} given; at most {HEADERS_MAX} are taken")
    for name, source in step.headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _OURS:
            findings.fault(f"{path}.{name}", "is no header that a workflow may set")
        for part in parts(source):
            if not isinstance(part, Secret):
                findings.template(f"{path}.{name}", part)


def _required(source: str, path: str, findings: Findings) -> None:
    if not source:
        findings.fault(path, "is required")
    findings.template(path, source)


def _time(span_us: int, most_us: int, path: str, findings: Findings) -> None:
    if not 0 < span_us <= most_us:
        findings.fault(path, f"must be above 0 and at most {most_us // 1_000_000} s")
