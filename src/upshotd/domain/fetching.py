"""What a run asks of what no decision may read, and what came of it: an address, a language model,
the store."""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from upshotd.domain.values import NOTHING


class HttpMethod(IntEnum):
    """How an address is asked; the contract's numbers."""

    GET = 1
    POST = 2
    PUT = 3
    PATCH = 4


class Secret(NamedTuple):
    """Stands for a secret of the settings, whose value only the one who asks ever sees."""

    name: str


#: A text with secrets in it.
Parts: TypeAlias = tuple[str | Secret, ...]


class HttpRequest(NamedTuple):
    """A request whose answer is a JSON object."""

    method: HttpMethod
    url: str
    headers: Mapping[str, Parts] = NOTHING
    #: Empty for GET.
    body: str = ""


class ModelRequest(NamedTuple):
    """A question to a language model, whose answer is a JSON object of a schema."""

    prompt: str
    #: What holds for every question; empty for nothing.
    system: str
    #: JSON Schema of the answer, as JSON.
    schema: str
    #: Empty for the one in the settings.
    model: str = ""
    #: Longest answer, in tokens.
    most_tokens: int = 1_000


class ReviewersRequest(NamedTuple):
    """Who is to be asked for a decision: members of an audience or a group, or users by id."""

    workspace_id: str
    audience_id: str = ""
    group_id: str = ""
    user_ids: tuple[str, ...] = ()
    #: Most people that are wanted.
    most: int = 1


Request: TypeAlias = HttpRequest | ModelRequest | ReviewersRequest


class Fetch(NamedTuple):
    """One attempt, as it is committed: it is made then, by the process that has committed it."""

    run_id: str
    step_id: str
    #: 1 for the first; the answer to an older one is stale.
    attempt: int
    request: Request
    #: What the attempt may take, in microseconds.
    timeout_us: int
    #: What is asked anew in it, where a step asks more than once; empty for the first.
    about: str = ""

    @property
    def key(self) -> str:
        """What is the same for every attempt: whoever is asked can know a repetition by it."""
        return f"{self.run_id}/{self.step_id}{self.about}"


class Fetched(NamedTuple):
    """It answered."""

    data: Mapping[str, object]


class Found(NamedTuple):
    """Who is to be asked, by profile_id; each of them is known by a user_id."""

    profile_ids: tuple[str, ...]
    #: Whether there are more than were wanted.
    more: bool = False
    #: User ids that were asked for and nobody has, or nobody who can decide.
    unknown: tuple[str, ...] = ()


class Unfetched(NamedTuple):
    """There is no answer, or none that can be used."""

    #: Documented upper-case word: HTTP_ERROR, TIMEOUT, NOT_PUBLIC, NO_OBJECT ...
    reason: str
    #: For people, without secrets and without what stands in addresses behind the host.
    detail: str = ""
    #: Whether another attempt may help.
    again: bool = False
    #: What was asked of us, in microseconds; 0 leaves it to our backoff.
    retry_after_us: int = 0
    #: True where nobody was asked, and shall be: there was too much to ask.
    put_off: bool = False


FetchResult: TypeAlias = Fetched | Found | Unfetched
