"""`examples/agent-payment.yaml` in a server: an agent proposes, Ann and Ben are asked."""

import asyncio
from pathlib import Path

from tests.wire import PATIENCE_S, Wire, fact, identify, track
from upshot.v1 import admin_pb2, audience_pb2, workflow_pb2
from upshot.v1 import service_pb2 as pb
from upshotd.cli import yamlfile
from upshotd.cli.reading import Reader

EXAMPLES = Path(__file__).parents[2] / "examples"
AGENT, MANAGER = "payables-agent", "mia"
FINANCE = ("ann", "ben")
STEP = "finance"
RECORDED, REJECTED = pb.ENGAGEMENT_STATE_RECORDED, pb.ENGAGEMENT_STATE_REJECTED


async def define_payments(wire: Wire) -> None:
    """Define what the example has, and let everybody be known."""
    audience, workflow = audience_pb2.Audience(), workflow_pb2.Workflow()
    nodes = yamlfile.documents((EXAMPLES / "agent-payment.yaml").read_text())
    for node, written in zip(nodes, (audience, workflow), strict=True):
        Reader().message(node, written, "document")
    await wire.admin.DefineAudience(admin_pb2.DefineAudienceRequest(audience=audience))
    await wire.define(workflow)
    for name in (*FINANCE, MANAGER):
        department = "finance" if name in FINANCE else "it"
        traits = {"email": f"{name}@example.com", "department": department}
        await wire.ingest(identify(f"i-{name}", name, **traits))
    await wire.ingest(identify("i-agent", AGENT, manager_id=MANAGER))


async def propose(wire: Wire, payment_id: str = "p-1", agent: str = AGENT) -> str:
    """Propose a payment as an agent does; return its run."""
    properties = {"payment_id": payment_id, "payee": "Acme", "currency": "EUR", "agent": agent}
    event = track(payment_id, "Payment Proposed", agent, amount=900, **properties)
    (result,) = await wire.ingest(event)
    return str(result.started_runs[0].run_id)


async def approval(wire: Wire, run_id: str) -> admin_pb2.Approval:
    """Look at what has come of it so far."""
    request = admin_pb2.GetApprovalRequest(run_id=run_id, step_id=STEP)
    return (await wire.admin.GetApproval(request)).approval


async def messages(wire: Wire, run_id: str, count: int) -> dict[str, list[str]]:
    """Return what each reviewer got, once it is *count* messages that went out."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await wire.messages(run_id=run_id)
            if sum(one.state == admin_pb2.MESSAGE_STATE_ACCEPTED for one in found) == count:
                asked = (await approval(wire, run_id)).reviewers
                return {one.user_id: list(one.message_ids) for one in asked}
            await asyncio.sleep(0.02)


async def say(wire: Wire, kind: str, message_id: str, **data: object) -> pb.EngagementResult:
    """Let whoever got a message decide, or ask, by it."""
    said = fact(kind, message_id)
    said.data.update(data)
    (result,) = await wire.engage(said)
    return result
