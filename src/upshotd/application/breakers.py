"""The breakers of this process: which providers are asked at the moment.

They are memory alone: another process finds out by itself, and after a restart all are closed.
"""

from collections.abc import Callable

import structlog

from upshotd.domain.breaker import CLOSED, Breaker, Rules, asked, failed, undecided
from upshotd.domain.message import Deferred, SendResult, Unknown

log = structlog.get_logger("upshot.provider")


class Breakers:
    """Remembers providers that fail. Those that answer cost a look at an empty dictionary."""

    def __init__(self, now_us: Callable[[], int], rules: Rules) -> None:
        self._now_us = now_us
        self._rules = rules
        #: Of providers whose last answer was a failure, by their names.
        self._failing: dict[str, Breaker] = {}

    def of(self, provider: str) -> Breaker:
        """Return the breaker of a provider."""
        return self._failing.get(provider, CLOSED)

    def holds(self, provider: str) -> Deferred | None:
        """Return until when a provider is not asked; None where it is, now and by the caller."""
        before = self._failing.get(provider)
        if before is None:
            return None
        breaker, wait_us = asked(before, self._now_us(), self._rules)
        self._failing[provider] = breaker
        # The same words each time, so that they are told once.
        return Deferred(f"its breaker is open: {breaker.detail}", wait_us) if wait_us else None

    def tell(self, provider: str, result: SendResult) -> None:
        """Take what became of an attempt that was made."""
        match result:
            case Deferred(of_message=False) | Unknown():
                self._failed(provider, result)
            case _ if self._failing:  # it answers
                self._answered(provider)

    def tell_nothing(self, provider: str) -> None:
        """Take that an attempt broke off by a fault of ours."""
        before = self._failing.get(provider)
        if before is not None:
            self._failing[provider] = undecided(before, self._now_us())

    def _answered(self, provider: str) -> None:
        before = self._failing.pop(provider, CLOSED)
        if before.since_us is not None:
            open_s = (self._now_us() - before.since_us) / 1e6
            log.info("provider.closed", provider=provider, open_s=open_s)

    def _failed(self, provider: str, result: Deferred | Unknown) -> None:
        retry_after_us = result.retry_after_us if isinstance(result, Deferred) else 0
        before, now_us = self.of(provider), self._now_us()
        breaker = failed(before, now_us, retry_after_us, result.detail, self._rules)
        self._failing[provider] = breaker
        closed = before.since_us is None
        if breaker.since_us is not None and (closed or before.probing):
            # Not in the provider's words: they may name the person whom it refused.
            log.warning(
                "provider.opened",
                provider=provider,
                after=type(result).__name__.lower(),
                for_s=(breaker.until_us - now_us) / 1e6,
                failures=breaker.failures,
            )
