"""KeyService: who may call what."""

from upshot.v1 import key_pb2 as pb
from upshotd.adapters.grpc.times import timestamp
from upshotd.application.keys import Key, Keys, Scope, allowed_workspace
from upshotd.domain.errors import InvalidArgument, Violation

_SCOPES = {
    pb.SCOPE_INGEST: Scope.INGEST,
    pb.SCOPE_ENGAGE: Scope.ENGAGE,
    pb.SCOPE_STREAM: Scope.STREAM,
    pb.SCOPE_WORKFLOW: Scope.WORKFLOW,
    pb.SCOPE_ADMIN: Scope.ADMIN,
    pb.SCOPE_ERASE: Scope.ERASE,
}
_NUMBERS = {scope: number for number, scope in _SCOPES.items()}


class KeyService:
    """Each method is one RPC: a workspace and a request in, the response out."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def CreateKey(
        self, workspace_id: str, request: pb.CreateKeyRequest
    ) -> pb.CreateKeyResponse:
        where = allowed_workspace(workspace_id, request.workspace_id)
        strange = [number for number in request.scopes if number not in _SCOPES]
        if strange:
            raise InvalidArgument.of([Violation("scopes", f"{strange[0]} is no scope of keys")])
        scopes = [_SCOPES[number] for number in request.scopes]
        key, text = await self._keys.create(where, scopes, request.label, request.rate)
        return pb.CreateKeyResponse(key=_message(key), secret=text)

    async def ListKeys(self, workspace_id: str, request: pb.ListKeysRequest) -> pb.ListKeysResponse:
        where = allowed_workspace(workspace_id, request.workspace_id)
        return pb.ListKeysResponse(keys=map(_message, await self._keys.list(where)))

    async def RevokeKey(
        self, workspace_id: str, request: pb.RevokeKeyRequest
    ) -> pb.RevokeKeyResponse:
        where = allowed_workspace(workspace_id, request.workspace_id)
        return pb.RevokeKeyResponse(key=_message(await self._keys.revoke(where, request.key_id)))


def _message(key: Key) -> pb.Key:
    message = pb.Key(
        key_id=key.key_id,
        workspace_id=key.workspace_id,
        scopes=sorted(_NUMBERS[scope] for scope in key.scopes),
        label=key.label,
        create_time=timestamp(key.create_us),
        rate=key.rate,
    )
    if key.revoke_us is not None:
        message.revoke_time.CopyFrom(timestamp(key.revoke_us))
    return message
