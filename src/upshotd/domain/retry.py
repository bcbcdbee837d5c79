"""When a provider is asked again."""

from upshotd.domain.definitions import Policy


def next_attempt_us(
    now_us: int, attempt: int, retry_after_us: int, policy: Policy, fraction: float
) -> int:
    """Return when the attempt after *attempt* is due, in microseconds.

    Exponential with full upper-half jitter (*fraction* in [0, 1)); never before what the
    provider asked for. *attempt* is 0 where none has counted yet.
    """
    longest = min(policy.backoff_us << min(max(attempt - 1, 0), 20), policy.backoff_max_us)
    pause = longest // 2 + int(longest // 2 * fraction)
    return now_us + max(pause, retry_after_us)
