"""LabService: time travel, only under `serve --lab`."""

from upshot.v1 import lab_pb2 as pb
from upshotd.adapters.grpc.times import span_us, timestamp
from upshotd.application.lab import Lab


class LabService:
    """Each method is one RPC: a workspace and a request in, the response out."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    async def AdvanceTime(
        self, _workspace_id: str, request: pb.AdvanceTimeRequest
    ) -> pb.AdvanceTimeResponse:
        advanced = await self._lab.advance(span_us(request.duration))
        now = timestamp(advanced.now_us)
        return pb.AdvanceTimeResponse(now=now, fired_timers=advanced.fired_timers)
