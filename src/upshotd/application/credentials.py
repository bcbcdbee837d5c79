"""Who calls: the workspace comes from the credential of a call, never from its request."""

from collections.abc import Callable
from typing import Protocol

from upshotd.domain.errors import Unauthenticated

#: Where everything lives until workspaces have keys of their own.
DEFAULT_WORKSPACE = "default"


class Credentials(Protocol):
    """Knows credentials."""

    def workspace_of(self, authorization: str | None) -> str:
        """Return the workspace that an `authorization` header opens.

        Raises Unauthenticated when the header is no credential of ours.
        """


class LoopbackCredentials:
    """For a server that only this machine can reach: whoever calls works in `default`.

    A signed link says its own workspace (`Link TOKEN`): the HTTP edge passes on what the
    recipient of a message holds, so that an open or a click lands where the message came from.
    """

    def __init__(self, workspace_of_link: Callable[[str], str | None]) -> None:
        self._workspace_of_link = workspace_of_link

    def workspace_of(self, authorization: str | None) -> str:
        """Return the workspace of a link, `default` for everything else."""
        if authorization is None:
            return DEFAULT_WORKSPACE
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "link":
            return DEFAULT_WORKSPACE
        workspace_id = self._workspace_of_link(token.strip())
        if workspace_id is None:
            raise Unauthenticated("the link was not signed by this server")
        return workspace_id
