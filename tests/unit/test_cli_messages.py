"""What became of a message stands in the order in which it happened."""

from google.protobuf.timestamp_pb2 import Timestamp

from upshot.v1 import admin_pb2
from upshotd.cli import messages


def test_facts_of_one_instant_stand_in_the_order_of_a_messages_life() -> None:
    at = {
        "clicked": 5,
        "of_a_newer_server": 5,
        "bounced": 9,
        "opened": 5,
        "delivered": 5,
        "sent": 5,
    }
    facts = {what: Timestamp(seconds=seconds) for what, seconds in at.items()}
    found = messages.facts(admin_pb2.Message(facts=facts))
    assert [what for what, _ in found] == [
        *("sent", "delivered", "opened", "clicked", "of_a_newer_server", "bounced")
    ]
