"""Segment's HTTP Tracking API: outcomes as track calls, and identify calls where asked for."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.envelope import CallRules
from upshotd.adapters.relay.far_end import Item, Limits, NotExported, Verdict
from upshotd.adapters.relay.posting import TIMEOUT_US, Posting
from upshotd.adapters.relay.track import encoded, track_call
from upshotd.adapters.relay.traits import LastEngagements

_HEAD, _BETWEEN, _TAIL = b'{"batch":[', b",", b"]}"
#: Segment says 500 KB and 2500 calls; this is true of either kind of KB.
LIMITS: Final = Limits(2_500, 500_000, len(_BETWEEN), len(_HEAD) + len(_TAIL))
#: A call in the request is not taken, or all of it is too large.
_UNFIT = (400, 413)


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """Where calls go and what is in them."""

    #: Where batches are posted.
    endpoint: str
    #: Of the Segment source that gets the calls.
    write_key: str = field(repr=False)
    rules: CallRules
    #: Whether identify calls tell when people last engaged.
    identify: bool = False
    #: Most of one attempt, in microseconds.
    timeout_us: int = TIMEOUT_US


def request_body(items: Sequence[Item]) -> bytes:
    """Return the body of a batch request."""
    return _HEAD + _BETWEEN.join(item.body for item in items) + _TAIL


class Segment:
    """A Segment source as the far end. `close` it after use."""

    name = "Segment"
    advice = "check write key and endpoint"
    limits = LIMITS

    def __init__(
        self,
        settings: SegmentSettings,
        now_us: Callable[[], int],
        current: Callable[[], SegmentSettings] | None = None,
    ) -> None:
        """*current* returns the settings as they are at each time: the write key may change."""
        rules = settings.rules
        self._rules = rules
        self._current = current or (lambda: settings)
        self._engagements = LastEngagements(rules) if settings.identify else None
        agent = {"user-agent": f"upshot/{rules.version}"}
        self._posting = Posting(settings.endpoint, agent, settings.timeout_us, _UNFIT, now_us)

    def items(self, outcome: pb.Outcome) -> tuple[Item, ...] | NotExported:
        """Return the track call of *outcome*, and the identify call after it."""
        call = track_call(outcome, self._rules)
        body = call if isinstance(call, NotExported) else encoded(call)
        if isinstance(body, NotExported):
            return body
        return (Item(outcome, body), *self._identify(outcome))

    async def post(self, items: Sequence[Item]) -> Verdict:
        """Post *items* in one request."""
        key = b64encode(f"{self._current().write_key}:".encode()).decode()
        return await self._posting.post(request_body(items), {"authorization": f"Basic {key}"})

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._posting.close()

    def _identify(self, outcome: pb.Outcome) -> tuple[Item, ...]:
        call = self._engagements.call(outcome) if self._engagements is not None else None
        body = encoded(call) if call is not None else NotExported.NOT_SELECTED
        return () if isinstance(body, NotExported) else (Item(outcome, body),)
