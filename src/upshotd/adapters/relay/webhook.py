"""An HTTP endpoint that gets each outcome by itself, signed as Standard Webhooks."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.far_end import Item, Limits, NotExported, Verdict
from upshotd.adapters.relay.plain import outcome_json
from upshotd.adapters.relay.posting import TIMEOUT_US, Posting
from upshotd.signing import signature

#: One outcome a request: `webhook-id` is what a receiver drops repetitions by.
LIMITS: Final = Limits(items=1, size=1)
#: This one outcome is not taken.
_UNFIT = (400, 409, 413, 422)
_ID = re.compile(r"[\x21-\x7e]{1,256}")


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where outcomes are posted and how they are signed."""

    #: http or https, without credentials in it.
    url: str
    #: Keys of the signature; more than one while they are being rotated.
    keys: tuple[bytes, ...] = field(repr=False)
    #: Version of this program.
    version: str
    include_recipient: bool = False
    #: Most of one attempt, in microseconds.
    timeout_us: int = TIMEOUT_US


class Webhook:
    """A webhook as the far end. `close` it after use."""

    name = "the webhook"
    advice = "check url and secret"
    limits = LIMITS

    def __init__(
        self,
        settings: WebhookSettings,
        now_us: Callable[[], int],
        current: Callable[[], WebhookSettings] | None = None,
    ) -> None:
        """*now_us* is the wall clock: receivers refuse a timestamp minutes away. *current* returns
        the settings as they are at each time: the keys may change."""
        self._settings = settings
        self._current = current or (lambda: settings)
        self._now_us = now_us
        agent = {"user-agent": f"upshot/{settings.version}"}
        self._posting = Posting(settings.url, agent, settings.timeout_us, _UNFIT, now_us)

    def items(self, outcome: pb.Outcome) -> tuple[Item, ...] | NotExported:
        """Return *outcome* as protobuf JSON."""
        if not _ID.fullmatch(outcome.outcome_id):
            return NotExported.NO_ID
        include = self._settings.include_recipient
        return (Item(outcome, outcome_json(outcome, include_recipient=include)),)

    async def post(self, items: Sequence[Item]) -> Verdict:
        """Post the one item; signed anew each time, for its time is signed, too."""
        (item,) = items
        outcome_id = item.outcome.outcome_id
        second = str(self._now_us() // 1_000_000)
        headers = {
            "webhook-id": outcome_id,
            "webhook-timestamp": second,
            "webhook-signature": signature(self._current().keys, outcome_id, second, item.body),
        }
        return await self._posting.post(item.body, headers)

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._posting.close()
