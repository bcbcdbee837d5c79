"""Time zones by their names in the IANA database, from the system or from the package `tzdata`."""

from functools import lru_cache
from zoneinfo import ZoneInfo


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo | None:
    """Return the time zone of *name*; None when there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, no name at all, or a folder of the database
        return None
