"""Brings a database to the schema of `tables`, from code: no ini file, no command."""

from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, inspect, text

from upshotd.application.failpoints import failpoint
from upshotd.domain.errors import FailedPrecondition

#: The newest revision in migrations/versions.
HEAD = "0008"
#: Alembic keeps what it is at in its modules: one migration of a process at a time.
_ALEMBIC = Lock()
_PLACE = Path(__file__).with_name("migrations")


def migrate(connection: Connection, revision: str = HEAD) -> None:
    """Upgrade to *revision* in the running transaction.

    Raises FailedPrecondition when a newer program has written the database.
    """
    if _revision(connection) == revision:
        return
    failpoint("migration.before")
    with _ALEMBIC:
        _upgrade(connection, revision)
    failpoint("migration.after")


def _upgrade(connection: Connection, revision: str) -> None:
    # Imported only where there is something to do: it takes a third of a second.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_PLACE).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        text = f"the database was written by another version of the program: {error}"
        raise FailedPrecondition(text, reason="DATABASE_NEWER") from error


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
