"""How much each key may ask of this process: events of Ingest, other calls one by one."""

from typing import Final

from upshotd.application.credentials import Caller
from upshotd.application.ports import Clock
from upshotd.domain.errors import ResourceExhausted
from upshotd.domain.quota import Bucket, given_back, take

#: The `reason` of a refusal.
REASON: Final = "QUOTA_EXCEEDED"


class Quotas:
    """The buckets of the keys that have a rate; memory of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def charge(self, caller: Caller, amount: int) -> None:
        """Take *amount* from the caller's quota; raises ResourceExhausted when it is used up."""
        now_us = self._clock.monotonic_us()
        before = self._buckets.get(caller.key_id)
        self._buckets[caller.key_id], wait_us = take(before, now_us, amount, caller.rate)
        if wait_us:
            raise ResourceExhausted(
                f"the quota of this key is used up: {caller.rate} events or calls a second",
                reason=REASON,
                retry_after_us=wait_us,
                quota=f"{caller.rate}/s",
                key_id=caller.key_id,
            )

    def give_back(self, caller: Caller, amount: int) -> None:
        """Return what was taken for repetitions.

        A sender that repeats a large request because half of it was refused would else never come
        to its end.
        """
        if amount:
            bucket = self._buckets[caller.key_id]
            self._buckets[caller.key_id] = given_back(bucket, amount, caller.rate)
