"""What is sent: people, their events, and the workflow that makes a message of an event."""

from upshot.v1 import event_pb2, outcome_pb2, service_pb2, workflow_pb2

WORKFLOW_ID = "bench"
#: Events of one call of the batched figures.
PER_CALL = 100
_CONTENT_LENGTH = 300


def workflow() -> workflow_pb2.Workflow:
    """A condition over the event, and an e-mail of a subject and 300 characters twice."""
    bench = workflow_pb2.Workflow(workflow_id=WORKFLOW_ID)
    bench.trigger.track.event = "Order Completed"
    bench.trigger.condition = "event.properties.total > 100 && event.properties.plan == 'pro'"
    mail = bench.steps.add(step_id="mail").send
    mail.channel = outcome_pb2.CHANNEL_EMAIL
    mail.email.subject = "Order {{ event.properties.order_id }} is on its way"
    mail.email.text = _content(
        "Hello {{ traits.first_name }},\n\n", "\n\n{{ event.properties.plan }}"
    )
    mail.email.html = _content("<p>Hello {{ traits.first_name }},</p><p>", "</p>")
    return bench


def _content(begin: str, end: str) -> str:
    words = "your order has left our house and will be with you in a few days. "
    room = _CONTENT_LENGTH - len(begin) - len(end)
    return begin + (words * 5)[:room] + end


def person(number: int) -> event_pb2.Event:
    """Identify one person, who has an address."""
    event = event_pb2.Event(event_id=f"identify-{number}", user_id=f"user-{number}")
    event.identify.traits.update(
        {"email": f"user-{number}@example.com", "first_name": "Ana", "plan": "pro"}
    )
    return event


def order(name: str, user: int) -> event_pb2.Event:
    """An event that starts a journey."""
    event = event_pb2.Event(event_id=name, user_id=f"user-{user}")
    event.track.event = "Order Completed"
    event.track.properties.update(
        {"order_id": f"o-{user}", "total": 120.5, "plan": "pro", "items": 3, "currency": "EUR"}
    )
    event.context.update({"library": {"name": "analytics-python", "version": "2.4.0"}})
    return event


def unheard(name: str, user: int) -> event_pb2.Event:
    """The same event under a name that no workflow listens to."""
    event = order(name, user)
    event.track.event = "Product Viewed"
    return event


def calls(events: list[event_pb2.Event], per_call: int = PER_CALL) -> list[bytes]:
    """Return encoded requests of Ingest with *per_call* events each."""
    return [
        service_pb2.IngestRequest(events=events[at : at + per_call]).SerializeToString()
        for at in range(0, len(events), per_call)
    ]
