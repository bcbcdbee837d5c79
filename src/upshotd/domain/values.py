"""Plain values: what conditions, templates and the store can hold."""

from collections.abc import Mapping


def plain(value: Mapping[str, object]) -> dict[str, object]:
    """Return a lazily decoded mapping as a dict; a dict stays itself."""
    if isinstance(value, dict):
        return value
    decoded = getattr(value, "plain", None)
    return decoded() if decoded is not None else dict(value)
