"""Who may call what: the one table. A method that does not stand in it is nobody's."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from upshotd.application.keys import Scope

_INGEST = frozenset({Scope.INGEST, Scope.ADMIN})
_STREAM = frozenset({Scope.STREAM, Scope.ADMIN})
_WORKFLOW = frozenset({Scope.WORKFLOW, Scope.ADMIN})
_ADMIN = frozenset({Scope.ADMIN})
#: Openings, clicks, what providers tell and what reviewers decide come by the signed token of their
#: message.
_ENGAGE = frozenset({Scope.ENGAGE, Scope.ADMIN, Scope.LINK, Scope.REVIEW})
#: Also by the signed link of a message to its page of preferences.
_CHOICE = frozenset({Scope.ADMIN, Scope.CHOICE})
#: Also asked of whoever sends a `delete` among events.
ERASE: Final = frozenset({Scope.ERASE, Scope.ADMIN})
_KEYS = frozenset({Scope.ADMIN, Scope.ROOT})

ALLOWED: Final[Mapping[str, frozenset[Scope]]] = MappingProxyType(
    {
        "UpshotService/Ingest": _INGEST,
        "UpshotService/DefineWorkflow": _WORKFLOW,
        "UpshotService/RecordEngagement": _ENGAGE,
        "UpshotService/StreamOutcomes": _STREAM,
        "SubscriptionService/CommitCursor": _STREAM,
        "SubscriptionService/ListSubscriptions": _STREAM,
        "SubscriptionService/DeleteSubscription": _STREAM,
        "AdminService/GetWorkflow": _WORKFLOW,
        "AdminService/ListWorkflows": _WORKFLOW,
        "AdminService/ListWorkflowVersions": _WORKFLOW,
        "AdminService/ArchiveWorkflow": _WORKFLOW,
        "AdminService/DefineTemplate": _WORKFLOW,
        "AdminService/GetTemplate": _WORKFLOW,
        "AdminService/ListTemplates": _WORKFLOW,
        "AdminService/DefineTopic": _WORKFLOW,
        "AdminService/ListTopics": _WORKFLOW,
        "AdminService/DefineAudience": _WORKFLOW,
        "AdminService/GetAudience": _WORKFLOW,
        "AdminService/ListAudiences": _WORKFLOW,
        "AdminService/ListAudienceMembers": _ADMIN,
        "AdminService/GetAudienceMember": _ADMIN,
        "AdminService/GetRun": _ADMIN,
        "AdminService/ListRuns": _ADMIN,
        "AdminService/CancelRuns": _ADMIN,
        # Also by the signed link of a message to the page where its reviewer decides.
        "AdminService/GetApproval": frozenset({Scope.ADMIN, Scope.REVIEW}),
        "AdminService/GetEvent": _ADMIN,
        "AdminService/GetMessage": _ADMIN,
        "AdminService/ListMessages": _ADMIN,
        "AdminService/GetProfile": _ADMIN,
        "AdminService/EraseProfile": ERASE,
        "AdminService/GetPreferences": _CHOICE,
        "AdminService/SetPreference": _CHOICE,
        "AdminService/SetSuppressions": _ADMIN,
        "AdminService/ListSuppressions": _ADMIN,
        "AdminService/ListRejectedEvents": _ADMIN,
        "AdminService/CountOutcomes": _ADMIN,
        "AdminService/ListProviders": _ADMIN,
        "AdminService/ListExperiments": _ADMIN,
        "KeyService/CreateKey": _KEYS,
        "KeyService/ListKeys": _KEYS,
        "KeyService/RevokeKey": _KEYS,
        "LabService/AdvanceTime": _ADMIN,
    }
)
