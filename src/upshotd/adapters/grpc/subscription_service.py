"""SubscriptionService: durable places in the outcome log."""

from upshot.v1 import subscription_pb2 as pb
from upshotd.adapters.grpc.times import duration, timestamp
from upshotd.application.subscriptions import SubscriptionLag, Subscriptions


class SubscriptionService:
    """Each method is one RPC: a workspace and a request in, the response out."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    async def CommitCursor(
        self, workspace_id: str, request: pb.CommitCursorRequest
    ) -> pb.CommitCursorResponse:
        cursor = await self._subscriptions.commit(
            workspace_id, request.subscription, request.cursor, request.rewind
        )
        return pb.CommitCursorResponse(cursor=cursor)

    async def ListSubscriptions(
        self, workspace_id: str, _request: pb.ListSubscriptionsRequest
    ) -> pb.ListSubscriptionsResponse:
        found = await self._subscriptions.list(workspace_id)
        return pb.ListSubscriptionsResponse(subscriptions=[_subscription(lag) for lag in found])

    async def DeleteSubscription(
        self, workspace_id: str, request: pb.DeleteSubscriptionRequest
    ) -> pb.DeleteSubscriptionResponse:
        await self._subscriptions.delete(workspace_id, request.subscription)
        return pb.DeleteSubscriptionResponse()


def _subscription(lag: SubscriptionLag) -> pb.Subscription:
    return pb.Subscription(
        subscription=lag.name,
        cursor=lag.cursor,
        lag=lag.lag,
        lag_duration=duration(lag.lag_us),
        create_time=timestamp(lag.create_us),
        commit_time=timestamp(lag.commit_us),
    )
