"""AdminService: looks into the service, and stops runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from upshot.v1 import admin_pb2 as pb
from upshot.v1 import provider_pb2
from upshotd.adapters.grpc import (
    admin_codec,
    admin_requests,
    approval_codec,
    audience_codec,
    experiment_codec,
    suppression_codec,
    template_codec,
    topic_codec,
)
from upshotd.adapters.grpc.times import instant_us, timestamp
from upshotd.adapters.grpc.upshot_service import in_flight_policy
from upshotd.application.admin import Admin
from upshotd.application.approvals import Approvals, Asked
from upshotd.application.audience_admin import AudienceAdmin
from upshotd.application.credentials import SCOPES
from upshotd.application.erasing import Erasing
from upshotd.application.experiments import Experiments
from upshotd.application.health import ProviderHealth
from upshotd.application.in_flight import InFlightPolicy
from upshotd.application.keys import Scope
from upshotd.application.loop import Loop
from upshotd.application.preferences import Preferences
from upshotd.application.shelf import Shelf
from upshotd.application.suppressions import Suppressions
from upshotd.application.workflows import Workflows
from upshotd.domain.errors import InvalidArgument, NotFound
from upshotd.domain.state import Identity
from upshotd.domain.stimulus import PreferenceSet
from upshotd.domain.template import Template


@dataclass(frozen=True, slots=True)
class AdminCases:
    """What AdminService is made from."""

    admin: Admin
    workflows: Workflows
    templates: Shelf[Template]
    preferences: Preferences
    suppressions: Suppressions
    erasing: Erasing
    experiments: Experiments
    loop: Loop
    health: ProviderHealth
    audiences: AudienceAdmin
    approvals: Approvals


class AdminService:
    """Each method is one RPC: a workspace and a request in, the response out."""

    def __init__(self, cases: AdminCases) -> None:
        self._cases = cases

    async def GetWorkflow(
        self, workspace_id: str, request: pb.GetWorkflowRequest
    ) -> pb.GetWorkflowResponse:
        defined = await self._cases.workflows.get(
            workspace_id, request.workflow_id, request.version
        )
        return pb.GetWorkflowResponse(workflow_version=admin_codec.workflow_version(defined))

    async def ListWorkflows(
        self, workspace_id: str, request: pb.ListWorkflowsRequest
    ) -> pb.ListWorkflowsResponse:
        page = await self._cases.workflows.list(workspace_id, request.page_size, request.page_token)
        return pb.ListWorkflowsResponse(
            workflow_versions=[admin_codec.workflow_version(item) for item in page.items],
            next_page_token=page.next_page_token,
        )

    async def ListWorkflowVersions(
        self, workspace_id: str, request: pb.ListWorkflowVersionsRequest
    ) -> pb.ListWorkflowVersionsResponse:
        page = await self._cases.workflows.versions(
            workspace_id, request.workflow_id, request.page_size, request.page_token
        )
        return pb.ListWorkflowVersionsResponse(
            workflow_versions=[admin_codec.workflow_version(item) for item in page.items],
            next_page_token=page.next_page_token,
        )

    async def ArchiveWorkflow(
        self, workspace_id: str, request: pb.ArchiveWorkflowRequest
    ) -> pb.ArchiveWorkflowResponse:
        in_flight = in_flight_policy(request.in_flight)
        if in_flight is InFlightPolicy.MIGRATE:
            raise admin_requests.refused("in_flight", "there is no version to migrate to")
        archived = await self._cases.workflows.archive(workspace_id, request.workflow_id, in_flight)
        return pb.ArchiveWorkflowResponse(version=archived.version, unchanged=archived.unchanged)

    async def DefineTemplate(
        self, workspace_id: str, request: pb.DefineTemplateRequest
    ) -> pb.DefineTemplateResponse:
        template, faults = template_codec.template(request.template)
        if faults:
            raise InvalidArgument.of(faults)
        only = request.validate_only
        defined = await self._cases.templates.define(workspace_id, template, validate_only=only)
        return pb.DefineTemplateResponse(
            template_id=template.template_id,
            version=defined.version,
            unchanged=defined.unchanged,
        )

    async def GetTemplate(
        self, workspace_id: str, request: pb.GetTemplateRequest
    ) -> pb.GetTemplateResponse:
        found = await self._cases.templates.get(workspace_id, request.template_id, request.version)
        return pb.GetTemplateResponse(template_version=admin_codec.template_version(found))

    async def ListTemplates(
        self, workspace_id: str, request: pb.ListTemplatesRequest
    ) -> pb.ListTemplatesResponse:
        page = await self._cases.templates.list(workspace_id, request.page_size, request.page_token)
        return pb.ListTemplatesResponse(
            template_versions=[admin_codec.template_version(item) for item in page.items],
            next_page_token=page.next_page_token,
        )

    async def GetRun(self, workspace_id: str, request: pb.GetRunRequest) -> pb.GetRunResponse:
        view = await self._cases.admin.run(workspace_id, request.run_id)
        return pb.GetRunResponse(run=admin_codec.run(view, full=True))

    async def ListRuns(self, workspace_id: str, request: pb.ListRunsRequest) -> pb.ListRunsResponse:
        page = await self._cases.admin.runs(
            workspace_id,
            workflow_id=request.workflow_id,
            user_id=request.user_id,
            state=admin_requests.run_state(request.state),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListRunsResponse(
            runs=[admin_codec.run(view, full=False) for view in page.items],
            next_page_token=page.next_page_token,
        )

    async def CancelRuns(
        self, workspace_id: str, request: pb.CancelRunsRequest
    ) -> pb.CancelRunsResponse:
        if bool(request.run_id) == bool(request.cancellation_key):
            raise admin_requests.refused("run_id", "give either run_id or cancellation_key")
        result = await self._cases.loop.cancel(
            workspace_id, run_id=request.run_id, cancellation_key=request.cancellation_key
        )
        if not result.known:
            raise NotFound("run", request.run_id)
        return pb.CancelRunsResponse(canceled_run_ids=result.canceled)

    async def GetApproval(
        self, workspace_id: str, request: pb.GetApprovalRequest
    ) -> pb.GetApprovalResponse:
        if admin_requests.names_a_message(request):
            view = await self._cases.approvals.of_message(workspace_id, request.message_id)
        else:
            view = await self._cases.approvals.of_step(
                workspace_id, request.run_id, request.step_id
            )
        reviewers: Sequence[Asked] = ()
        if Scope.ADMIN in SCOPES.get():  # not for whoever comes with a link: mails are forwarded
            reviewers = await self._cases.approvals.reviewers(workspace_id, view.approval)
        return pb.GetApprovalResponse(approval=approval_codec.message(view, reviewers))

    async def GetEvent(self, workspace_id: str, request: pb.GetEventRequest) -> pb.GetEventResponse:
        return admin_codec.event(await self._cases.admin.event(workspace_id, request.event_id))

    async def GetMessage(
        self, workspace_id: str, request: pb.GetMessageRequest
    ) -> pb.GetMessageResponse:
        message = await self._cases.admin.message(workspace_id, request.message_id)
        return pb.GetMessageResponse(message=admin_codec.message(message, full=True))

    async def ListMessages(
        self, workspace_id: str, request: pb.ListMessagesRequest
    ) -> pb.ListMessagesResponse:
        page = await self._cases.admin.messages(
            workspace_id,
            run_id=request.run_id,
            workflow_id=request.workflow_id,
            user_id=request.user_id,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListMessagesResponse(
            messages=[admin_codec.message(message, full=False) for message in page.items],
            next_page_token=page.next_page_token,
        )

    async def DefineTopic(
        self, workspace_id: str, request: pb.DefineTopicRequest
    ) -> pb.DefineTopicResponse:
        topic, faults = topic_codec.topic(request.topic)
        if faults:
            raise InvalidArgument.of(faults)
        defined = await self._cases.preferences.topics.define(
            workspace_id, topic, validate_only=request.validate_only
        )
        return pb.DefineTopicResponse(version=defined.version, unchanged=defined.unchanged)

    async def ListTopics(
        self, workspace_id: str, request: pb.ListTopicsRequest
    ) -> pb.ListTopicsResponse:
        page = await self._cases.preferences.topics.list(
            workspace_id, request.page_size, request.page_token
        )
        return pb.ListTopicsResponse(
            topics=[topic_codec.message(kept.thing) for kept in page.items],
            next_page_token=page.next_page_token,
        )

    async def DefineAudience(
        self, workspace_id: str, request: pb.DefineAudienceRequest
    ) -> pb.DefineAudienceResponse:
        audience, faults = audience_codec.audience(request.audience)
        if faults:
            raise InvalidArgument.of(faults)
        only = request.validate_only
        defined = await self._cases.audiences.define(workspace_id, audience, validate_only=only)
        return pb.DefineAudienceResponse(version=defined.version, unchanged=defined.unchanged)

    async def GetAudience(
        self, workspace_id: str, request: pb.GetAudienceRequest
    ) -> pb.GetAudienceResponse:
        shown = await self._cases.audiences.show(workspace_id, request.audience_id, request.version)
        return pb.GetAudienceResponse(audience_version=admin_codec.audience_shown(shown))

    async def ListAudiences(
        self, workspace_id: str, request: pb.ListAudiencesRequest
    ) -> pb.ListAudiencesResponse:
        shelf = self._cases.audiences.shelf
        page = await shelf.list(workspace_id, request.page_size, request.page_token)
        return pb.ListAudiencesResponse(
            audience_versions=[admin_codec.audience_version(item) for item in page.items],
            next_page_token=page.next_page_token,
        )

    async def ListAudienceMembers(
        self, workspace_id: str, request: pb.ListAudienceMembersRequest
    ) -> pb.ListAudienceMembersResponse:
        page = await self._cases.audiences.members(
            workspace_id, request.audience_id, request.page_size, request.page_token
        )
        return pb.ListAudienceMembersResponse(
            members=[admin_codec.audience_member(member) for member in page.items],
            next_page_token=page.next_page_token,
        )

    async def GetAudienceMember(
        self, workspace_id: str, request: pb.GetAudienceMemberRequest
    ) -> pb.GetAudienceMemberResponse:
        who = admin_requests.identity(request)
        member = await self._cases.audiences.why(workspace_id, request.audience_id, who)
        return pb.GetAudienceMemberResponse(member=admin_codec.audience_member(member))

    async def GetPreferences(
        self, workspace_id: str, request: pb.GetPreferencesRequest
    ) -> pb.GetPreferencesResponse:
        who = await self._who(workspace_id, request)
        found = await self._cases.preferences.of(workspace_id, who)
        return pb.GetPreferencesResponse(preferences=map(topic_codec.preference, found))

    async def SetPreference(
        self, workspace_id: str, request: pb.SetPreferenceRequest
    ) -> pb.SetPreferenceResponse:
        who = await self._who(workspace_id, request)
        wanted = admin_requests.wanted(request.status)
        off = None
        if request.HasField("channels"):
            off = frozenset(admin_requests.channel(number) for number in request.channels.off)
        choice = PreferenceSet(who, request.topic_id, wanted, off)
        await self._cases.preferences.choose(workspace_id, choice)
        found = await self._cases.preferences.of(workspace_id, who)
        return pb.SetPreferenceResponse(preferences=map(topic_codec.preference, found))

    async def _who(
        self, workspace_id: str, request: pb.GetPreferencesRequest | pb.SetPreferenceRequest
    ) -> Identity:
        if request.message_id:
            return await self._cases.preferences.addressee(workspace_id, request.message_id)
        return admin_requests.identity(request)

    async def SetSuppressions(
        self, workspace_id: str, request: pb.SetSuppressionsRequest
    ) -> pb.SetSuppressionsResponse:
        entries, faults = suppression_codec.entries(request)
        if faults:
            raise InvalidArgument.of(faults)
        held = not request.remove
        changed = await self._cases.suppressions.change(workspace_id, entries, held=held)
        return pb.SetSuppressionsResponse(changed=changed)

    async def ListSuppressions(
        self, workspace_id: str, request: pb.ListSuppressionsRequest
    ) -> pb.ListSuppressionsResponse:
        page = await self._cases.suppressions.list(
            workspace_id, request.page_size, request.page_token
        )
        return pb.ListSuppressionsResponse(
            entries=map(suppression_codec.entry_message, page.items),
            next_page_token=page.next_page_token,
        )

    async def GetProfile(
        self, workspace_id: str, request: pb.GetProfileRequest
    ) -> pb.GetProfileResponse:
        view = await self._cases.admin.profile(workspace_id, admin_requests.identity(request))
        return pb.GetProfileResponse(profile=admin_codec.profile(view))

    async def EraseProfile(
        self, workspace_id: str, request: pb.EraseProfileRequest
    ) -> pb.EraseProfileResponse:
        erase_us = await self._cases.erasing.erase(workspace_id, admin_requests.identity(request))
        return pb.EraseProfileResponse(erase_time=timestamp(erase_us))

    async def ListRejectedEvents(
        self, workspace_id: str, request: pb.ListRejectedEventsRequest
    ) -> pb.ListRejectedEventsResponse:
        page = await self._cases.admin.rejected_events(
            workspace_id, request.page_size, request.page_token
        )
        return pb.ListRejectedEventsResponse(
            rejected_events=[admin_codec.rejected_event(item) for item in page.items],
            next_page_token=page.next_page_token,
        )

    async def CountOutcomes(
        self, workspace_id: str, request: pb.CountOutcomesRequest
    ) -> pb.CountOutcomesResponse:
        start = instant_us(request.start_time) if request.HasField("start_time") else None
        end = instant_us(request.end_time) if request.HasField("end_time") else None
        counts = await self._cases.admin.counts(workspace_id, start, end, request.workflow_id)
        return pb.CountOutcomesResponse(counts=[admin_codec.outcome_count(c) for c in counts])

    async def ListExperiments(
        self, workspace_id: str, request: pb.ListExperimentsRequest
    ) -> pb.ListExperimentsResponse:
        found = await self._cases.experiments.reports(
            workspace_id, request.workflow_id, request.step_id
        )
        return pb.ListExperimentsResponse(experiments=map(experiment_codec.report, found))

    async def ListProviders(
        self, _workspace_id: str, _request: provider_pb2.ListProvidersRequest
    ) -> provider_pb2.ListProvidersResponse:
        providers = map(admin_codec.provider, self._cases.health.list())
        return provider_pb2.ListProvidersResponse(providers=providers)
