"""Workflow definitions: immutable versions, one of them current. And the settings."""

from sqlalchemy import Connection, delete, insert, select, update

from upshotd.adapters.storage.bulk import into, marks, run_ready
from upshotd.adapters.storage.rows import Row
from upshotd.adapters.storage.tables import settings, workflow_versions, workflows
from upshotd.application.ports import Defined, StoredWorkflow, Task
from upshotd.domain.errors import VersionMismatch

_VERSIONS = workflow_versions.c
_COLUMNS = (_VERSIONS.workflow_id, _VERSIONS.version, _VERSIONS.definition, _VERSIONS.create_us)


def _workflow_of(row: Row) -> StoredWorkflow:
    workflow_id, version, definition, create_us = row
    return StoredWorkflow(workflow_id, version, definition, create_us)


def define(
    connection: Connection,
    workspace_id: str,
    stored: StoredWorkflow,
    expected_version: int | None,
    task: Task,
) -> Defined:
    """Store a version, whose number is not looked at, unless it equals the current one."""
    current = workflow(connection, workspace_id, stored.workflow_id, 0)
    version = current.version if current is not None else 0
    if expected_version is not None and expected_version != version:
        text = f"the current version of {stored.workflow_id!r} is {version}"
        raise VersionMismatch(text, current_version=str(version))
    if current is not None and current.definition == stored.definition:
        return Defined(version, unchanged=True)
    key = {"workspace_id": workspace_id, "workflow_id": stored.workflow_id}
    if current is None:
        connection.execute(insert(workflows).values(**key, version=1))
    else:
        table = workflows.c
        connection.execute(
            update(workflows)
            .where(table.workspace_id == workspace_id, table.workflow_id == stored.workflow_id)
            .values(version=version + 1)
        )
    connection.execute(
        insert(workflow_versions).values(
            **key,
            version=version + 1,
            definition=stored.definition,
            create_us=stored.create_us,
        )
    )
    left = task(version + 1)
    if left is not None:
        put_setting(connection, *left)
    return Defined(version + 1, unchanged=False)


def current(connection: Connection, workspace_id: str) -> list[StoredWorkflow]:
    """Return the current version of every workflow, by id."""
    joined = workflow_versions.join(
        workflows,
        (workflows.c.workspace_id == _VERSIONS.workspace_id)
        & (workflows.c.workflow_id == _VERSIONS.workflow_id)
        & (workflows.c.version == _VERSIONS.version),
    )
    found = connection.execute(
        select(*_COLUMNS)
        .select_from(joined)
        .where(_VERSIONS.workspace_id == workspace_id)
        .order_by(_VERSIONS.workflow_id)
    )
    return [_workflow_of(row) for row in found]


def workspaces(connection: Connection) -> list[str]:
    """Return the workspaces in which something is defined."""
    found = select(workflows.c.workspace_id).distinct().order_by(workflows.c.workspace_id)
    return list(connection.execute(found).scalars())


def revision(connection: Connection, workspace_id: str) -> int:
    """Return the sum of the current versions: it grows with each one that is defined."""
    mark = marks(connection, 1, 1)
    text = f"SELECT coalesce(sum(version), 0) FROM workflows WHERE workspace_id = {mark}"  # noqa: S608
    found, _ = run_ready(connection, text, (workspace_id,))
    return int(found)


def workflow(
    connection: Connection, workspace_id: str, workflow_id: str, version: int
) -> StoredWorkflow | None:
    """Return one version; 0 is the current one, which is the newest."""
    query = select(*_COLUMNS).where(
        _VERSIONS.workspace_id == workspace_id, _VERSIONS.workflow_id == workflow_id
    )
    if version:
        query = query.where(_VERSIONS.version == version)
    row = connection.execute(query.order_by(_VERSIONS.version.desc()).limit(1)).one_or_none()
    return None if row is None else _workflow_of(row)


def versions(
    connection: Connection, workspace_id: str, workflow_id: str, before: int | None, limit: int
) -> list[StoredWorkflow]:
    """Return versions, newest first, below *before*."""
    query = select(*_COLUMNS).where(
        _VERSIONS.workspace_id == workspace_id, _VERSIONS.workflow_id == workflow_id
    )
    if before is not None:
        query = query.where(_VERSIONS.version < before)
    found = connection.execute(query.order_by(_VERSIONS.version.desc()).limit(limit))
    return [_workflow_of(row) for row in found]


def setting(connection: Connection, name: str) -> str | None:
    """Return a value this installation keeps."""
    return connection.execute(select(settings.c.value).where(settings.c.name == name)).scalar()


def all_settings(connection: Connection, prefix: str) -> dict[str, str]:
    """Return the values whose names begin with *prefix*."""
    named = settings.c.name.startswith(prefix, autoescape=True)
    found = connection.execute(select(settings.c.name, settings.c.value).where(named))
    return {row.name: row.value for row in found}


def put_setting(connection: Connection, name: str, value: str) -> None:
    """Keep a value."""
    kept = into(connection, settings).values(name=name, value=value)
    connection.execute(kept.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def drop_setting(connection: Connection, name: str) -> None:
    """Forget a value."""
    connection.execute(delete(settings).where(settings.c.name == name))


def settled(connection: Connection, name: str, value: str) -> str:
    """Return the value that is kept; *value* becomes it where there is none yet.

    Of replicas that start at once one is first, and all get its value.
    """
    first = into(connection, settings).values(name=name, value=value)
    connection.execute(first.on_conflict_do_nothing())
    kept = setting(connection, name)
    assert kept is not None, "it is there now"
    return kept
