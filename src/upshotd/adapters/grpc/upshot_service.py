"""UpshotService: the four calls that close the loop."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from upshot.v1 import service_pb2 as pb
from upshotd.adapters.grpc import (
    admin_codec,
    engagement_codec,
    event_codec,
    outcome_codec,
    workflow_codec,
)
from upshotd.adapters.grpc.engagement_codec import RefusedEngagement
from upshotd.adapters.grpc.scopes import ERASE
from upshotd.adapters.grpc.stream_codec import stream_request
from upshotd.application.credentials import SCOPES
from upshotd.application.failpoints import failpoint
from upshotd.application.in_flight import InFlightPolicy
from upshotd.application.loop import Loop
from upshotd.application.outcomes import OutcomeStreams
from upshotd.application.ports import Clock
from upshotd.application.workflows import Workflows
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.event import Event, EventType
from upshotd.domain.profile import ContactRules
from upshotd.domain.stimulus import EngagementResult, IngestResult
from upshotd.domain.workflow import Workflow

#: Most events or engagements of one request.
ITEMS_MAX = 1_000


class UpshotService:
    """Each method is one RPC: a workspace and a request in, the response out."""

    def __init__(
        self,
        loop: Loop,
        workflows: Workflows,
        streams: OutcomeStreams,
        clock: Clock,
        rules: ContactRules,
        erased: Callable[[], None],
    ) -> None:
        """*erased* is called after somebody was erased by an event."""
        self._loop = loop
        self._workflows = workflows
        self._streams = streams
        self._clock = clock
        self._rules = rules
        self._erased = erased

    async def Ingest(self, workspace_id: str, request: pb.IngestRequest) -> pb.IngestResponse:
        _check_count("events", len(request.events))
        receive_us = self._clock.now_us()
        events = [event_codec.event(event, receive_us) for event in request.events]
        deletes = any(event.type is EventType.DELETE for event in events)
        if deletes and SCOPES.get().isdisjoint(ERASE):
            events = [_barred(event) for event in events]
        results = await self._loop.ingest(workspace_id, events)
        if deletes:
            self._erased()
        explain = request.explain
        return pb.IngestResponse(results=[_ingest_result(r, explain=explain) for r in results])

    async def DefineWorkflow(
        self, workspace_id: str, request: pb.DefineWorkflowRequest
    ) -> pb.DefineWorkflowResponse:
        if not request.HasField("workflow"):
            _refuse("workflow", "is required")
        expected = request.expected_version if request.HasField("expected_version") else None
        if expected is not None and expected < 0:
            _refuse("expected_version", f"is {expected}; must not be negative")
        in_flight = in_flight_policy(request.in_flight)
        workflow, faults = workflow_codec.workflow(request.workflow)
        if faults:
            await self._refuse_workflow(workspace_id, workflow, faults)
        defined = await self._workflows.define(
            workspace_id,
            workflow,
            validate_only=request.validate_only,
            expected_version=expected,
            in_flight=in_flight,
        )
        return pb.DefineWorkflowResponse(
            workflow_id=defined.workflow_id,
            version=defined.version,
            unchanged=defined.unchanged,
            warnings=admin_codec.violations(defined.warnings),
        )

    async def _refuse_workflow(
        self, workspace_id: str, workflow: Workflow, faults: tuple[Violation, ...]
    ) -> None:
        """Raise InvalidArgument with the faults of the form and those of the meaning together."""
        try:
            await self._workflows.define(
                workspace_id, workflow, validate_only=True, expected_version=None
            )
        except InvalidArgument as error:
            told = {fault.field for fault in faults}
            if "workflow" not in told:  # else it was too large to be read
                faults += tuple(fault for fault in error.violations if fault.field not in told)
        raise InvalidArgument.of(faults)

    async def RecordEngagement(
        self, workspace_id: str, request: pb.RecordEngagementRequest
    ) -> pb.RecordEngagementResponse:
        _check_count("engagements", len(request.engagements))
        failpoint("engagement.received")
        receive_us = self._clock.now_us()
        facts = [
            engagement_codec.engagement(fact, receive_us, self._rules.phone)
            for fact in request.engagements
        ]
        good = [fact for fact in facts if not isinstance(fact, RefusedEngagement)]
        recorded = iter(await self._loop.engage(workspace_id, good) if good else ())
        return pb.RecordEngagementResponse(
            results=[
                _refused_engagement(fact)
                if isinstance(fact, RefusedEngagement)
                else _engagement_result(next(recorded))
                for fact in facts
            ]
        )

    async def StreamOutcomes(
        self, workspace_id: str, request: pb.StreamOutcomesRequest
    ) -> AsyncGenerator[bytes, None]:
        stream = self._streams.stream(workspace_id, stream_request(request))
        async with aclosing(stream) as pages:
            async for page in pages:
                yield outcome_codec.response_bytes(*page)


def _barred(event: Event) -> Event:
    """Return *event*; a delete as one that is refused, alone."""
    return event._replace(type=EventType.BARRED) if event.type is EventType.DELETE else event


def in_flight_policy(number: int) -> InFlightPolicy:
    """Return what becomes of runs in flight, PIN where nothing is said."""
    try:
        return InFlightPolicy(number or InFlightPolicy.PIN)
    except ValueError:
        fault = Violation("in_flight", f"{number} is no value this server knows")
        raise InvalidArgument(f"{fault.field} {fault.description}", (fault,)) from None


def _ingest_result(result: IngestResult, *, explain: bool) -> pb.IngestResult:
    answer = pb.IngestResult(
        event_id=result.event_id,
        state=pb.IngestState.ValueType(result.state),
        reason=result.reason,
    )
    if result.violations:
        answer.violations.extend(admin_codec.violations(result.violations))
    for started in result.started:
        answer.started_runs.add(
            workflow_id=started.workflow_id, version=started.version, run_id=started.run_id
        )
    if result.resumed:
        answer.resumed_run_ids.extend(result.resumed)
    if explain:
        answer.explanations.extend(map(admin_codec.explanation, result.explanations))
    return answer


def _engagement_result(result: EngagementResult) -> pb.EngagementResult:
    return pb.EngagementResult(
        state=pb.EngagementState.ValueType(result.state),
        reason=result.reason,
        message_id=result.message_id,
        resumed_run_ids=result.resumed,
    )


def _refused_engagement(refused: RefusedEngagement) -> pb.EngagementResult:
    return pb.EngagementResult(
        state=pb.ENGAGEMENT_STATE_REJECTED,
        reason=refused.reason,
        violations=admin_codec.violations(refused.violations),
    )


def _check_count(field: str, count: int) -> None:
    if not 1 <= count <= ITEMS_MAX:
        _refuse(field, f"{count} given; 1 to {ITEMS_MAX} are taken")


def _refuse(field: str, description: str) -> None:
    raise InvalidArgument(f"{field}: {description}", (Violation(field, description),))
