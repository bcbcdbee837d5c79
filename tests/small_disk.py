"""A server with database and log on a disk of 12 MiB: `unshare -Urm python -m tests.small_disk`.

The disk is full in the middle of a load, and has room again later. What was acknowledged is there
in the end, each once, also after a kill -9; what was not was refused with a reason, and nothing of
it is there by halves. Prints what happened; exits with 1 when that does not hold.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc

from tests.servers import Server
from upshot.v1 import admin_pb2, event_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub

SIZE, BALLAST = "12m", 3 * 1024 * 1024
#: Events of one call.
BATCH = 20
#: Calls that are refused before there is room again.
REFUSALS = 5
#: Calls afterwards.
AFTER = 20


def batch(number: int) -> pb.IngestRequest:
    """Return events with something in them."""
    events = []
    for at in range(BATCH):
        event = event_pb2.Event(event_id=f"{number}-{at}", user_id=f"user-{at}")
        event.track.event = "Filling"
        event.track.properties.update({"text": "x" * 2_000})
        events.append(event)
    return pb.IngestRequest(events=events)


async def story(folder: Path, disk: Path) -> list[str]:
    """Fill *disk*, make room, kill it; returns everything that is wrong."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * BALLAST)
    acknowledged: list[int] = []
    refused: set[str] = set()
    server = Server(disk)
    with server:
        await server.started()
        async with grpc.aio.insecure_channel(server.address) as channel:
            upshot, number, refusals, left = UpshotServiceStub(channel), 0, 0, AFTER
            while left:
                number += 1
                try:
                    await upshot.Ingest(batch(number), timeout=10)
                except grpc.aio.AioRpcError as error:
                    refused.add(error.code().name)
                    refusals += 1
                    if refusals == REFUSALS:
                        await AdminServiceStub(channel).ListRuns(
                            admin_pb2.ListRunsRequest(), timeout=10
                        )
                        ballast.unlink()
                else:
                    acknowledged.append(number)
                    left -= not ballast.exists()
        server.kill()
        await server.started()
        async with grpc.aio.insecure_channel(server.address) as channel:
            one = min(set(range(1, number)) - set(acknowledged))
            findings = await _audit(UpshotServiceStub(channel), acknowledged, one)
        await server.stopped()
    print(f"acknowledged {len(acknowledged) * BATCH} events, refused {refusals} calls: {refused}")
    if refused != {"RESOURCE_EXHAUSTED"}:
        findings.append(f"refused with {refused}")
    return findings


async def _audit(upshot: UpshotServiceStub, acknowledged: list[int], refused: int) -> list[str]:
    """Repeat what was acknowledged, and one call that was refused."""
    findings = []
    for number in (*acknowledged, refused):
        answer = await upshot.Ingest(batch(number), timeout=10)
        states = {pb.IngestState.Name(result.state) for result in answer.results}
        expected = "ACCEPTED" if number == refused else "DUPLICATE"
        if states != {f"INGEST_STATE_{expected}"}:
            findings.append(f"call {number}: {states} where {expected} was expected")
    return findings


def main() -> int:
    """Mount the disk and tell the story; needs a namespace of its own."""
    with tempfile.TemporaryDirectory(prefix="upshot-small-disk-") as name:
        disk = Path(name) / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)]
        subprocess.run(mount, check=True)
        try:
            findings = asyncio.run(story(Path(name), disk))
        finally:
            subprocess.run(["umount", str(disk)], check=False)
    print("\n".join(findings) or "Nothing lost, nothing there by halves.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
