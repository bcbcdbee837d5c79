"""The loop closes: five people, two messages, two crashes, two days, in less than a minute.

    demo.py          by SMTP and a webhook
    demo.py real     by SendGrid and Twilio: the real adapters, before local servers that check what
                     comes and tell of it as those do, signed, twice and in the wrong order

Real processes on loopback: `upshot serve --lab`, `upshot relay segment`, a mail server, an SMS
gateway and a collector that speaks Segment's /v1/batch. Segment's own Python SDK sends the events.
Exits with 1 when Segment did not receive exactly what it must.
"""

import re
import sys
import tempfile
import time
from html import unescape
from pathlib import Path
from urllib.request import urlopen

from segment.analytics.client import Client

from processes import DemoFailed, Stage, until

PEOPLE = {
    "ana": {"email": "ana@example.com", "phone": "+15005550001"},
    "ben": {"email": "ben@example.com", "phone": "+15005550002"},
    "cleo": {"email": "cleo@example.com", "phone": "+15005550003"},
    "dan": {"phone": "+15005550004"},
    "eve": {"email": "eve@example.com", "phone": "+15005550005"},
}
#: What Segment must have received, in order, by person.
EXPECTED = {
    "ana": ["Message Sent (email)", "Message Opened (opened true, email)"],
    "ben": [
        "Message Sent (email)",
        "Message Opened (opened false, email)",
        "Message Sent (sms)",
        "Message Clicked (sms)",
    ],
    "cleo": [
        "Message Sent (email)",
        "Message Opened (opened false, email)",
        "Message Sent (sms)",
        "Message Opened (opened false, sms)",
        "Message Sent (sms)",
    ],
    "dan": [
        "Message Unroutable (email)",
        "Message Sent (sms)",
        "Message Opened (opened false, sms)",
        "Message Sent (sms)",
    ],
    "eve": ["Message Sent (email)"],
}
USER_OF = {contact["phone"]: user_id for user_id, contact in PEOPLE.items()}
PLAIN = """\
[providers.mail]
kind = "smtp"
host = "127.0.0.1"
port = {smtp}
tls = "none"
from = "Upshot <hello@example.com>"

[providers.texts]
kind = "webhook"
url = "http://127.0.0.1:{sms}/sms"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""
REAL = """\
public_url = "http://127.0.0.1:{http}"

[providers.mail]
kind = "sendgrid"
base_url = "http://127.0.0.1:{sendgrid}"
from = "Upshot <hello@example.com>"
api_key = "SG.demo"
webhook_key = "{webhook_key}"

[providers.texts]
kind = "twilio"
base_url = "http://127.0.0.1:{twilio}"
account_sid = "AC00000000000000000000000000000000"
auth_token = "{auth_token}"
from = "+15550009999"
"""
COMMON = """
[channels]
email = "mail"
sms = "texts"

[relay.segment]
endpoint = "http://127.0.0.1:{segment}/v1/batch"
write_key = "demo-outcomes"
"""
SENT, DELIVERED = "Message Sent", "Message Delivered"
EXAMPLES = Path(__file__).parent.parent
BEGIN = time.monotonic()


def say(text: str) -> None:
    """Tell the next thing that happened."""
    print(f"{time.monotonic() - BEGIN:5.1f}s  {text}", flush=True)


def main() -> int:
    """Play the story and compare its end."""
    real = sys.argv[1:] == ["real"]
    with tempfile.TemporaryDirectory(prefix="upshot-demo-") as folder:
        with Stage(Path(folder), real=real) as stage:
            try:
                play(stage)
                return compare(stage)
            except DemoFailed as error:
                print(f"\nthe demo failed: {error}", file=sys.stderr)
                for name in ("serve", "relay"):
                    log = stage.folder / f"{name}.log"
                    tail = log.read_text()[-3000:] if log.exists() else "(none)"
                    print(f"\n--- end of {name}.log\n{tail}", file=sys.stderr)
                return 1


def play(stage: Stage) -> None:
    """Tell the story."""
    open_stage(stage)
    send_events(stage)
    mails = first_day(stage)
    crash(stage)
    second_day(stage)
    assert len(mails) == 4


def open_stage(stage: Stage) -> None:
    """Start everything and define the workflows."""
    stage.sink("segment")
    if stage.real:
        key, edge = stage.sendgrid_key(), f"http://127.0.0.1:{stage.ports['http']}"
        text = (REAL + COMMON).format(**stage.ports, webhook_key=key, auth_token="token")
        stage.sink("sendgrid", edge, str(stage.key_file), program="makers.py")
        stage.sink("twilio", edge, "token", program="makers.py")
        who = "SendGrid, Twilio"
    else:
        text = (PLAIN + COMMON).format(**stage.ports)
        stage.sink("smtp")
        stage.sink("sms")
        who = "a mail server, an SMS gateway"
    stage.config.write_text(text)
    stage.serve()
    stage.relay()
    say(f"{who}, Segment, upshot serve --lab and upshot relay segment run")
    files = [str(EXAMPLES / name) for name in ("feature-not-used.yaml", "win-back.yaml")]
    for line in stage.upshot("define", *files).splitlines():
        say(f"upshot define: {line}")


def segment_sdk(stage: Stage) -> Client:
    """Return Segment's SDK with nothing changed but its host."""
    return Client(
        "demo", host=f"http://127.0.0.1:{stage.ports['http']}", sync_mode=True, on_error=_raise
    )


def _raise(error: Exception, _items: object) -> None:
    raise DemoFailed(f"Segment's SDK could not deliver: {error}")


def send_events(stage: Stage) -> None:
    """Identify five people, and say that none of them uses the feature."""
    sdk = segment_sdk(stage)
    properties = {"feature": "Live Boards"}
    for user_id, contact in PEOPLE.items():
        sdk.identify(user_id, {"first_name": user_id.title(), "plan": "Pro", **contact})
        event_id = f"not-used-{user_id}"
        sdk.track(user_id, "Feature Not Used", properties, message_id=event_id)
    sdk.track("ben", "Feature Not Used", properties, message_id="not-used-ben")
    say("Segment's SDK sent identify and track for five people, Ben's track twice")


def first_day(stage: Stage) -> list[dict[str, str]]:
    """E-mails arrive; an hour later Ana opens hers and Eve uses the feature."""
    mails = until("four e-mails", lambda: at_least(stage.mails(), 4))
    for mail in mails:
        say(f"e-mail to {mail['to']}: {mail['subject']}")
    (text,) = until("Dan's SMS", lambda: at_least(stage.texts(), 1))
    say(f"Dan has no e-mail address; SMS at once to {text['recipient']}")
    say(f"upshot advance 1h: {stage.upshot('advance', '1h').strip()}")
    (ana,) = (mail for mail in mails if mail["to"] == "ana@example.com")
    pixel = re.search(r'src="([^"]+/o/[^"]+)"', ana["html"])
    if pixel is None:
        raise DemoFailed("Ana's e-mail has no open pixel")
    with urlopen(unescape(pixel.group(1)), timeout=10) as answer:
        answer.read()
    say("Ana opens her e-mail: her mail program fetches the pixel")
    segment_sdk(stage).track("eve", "Feature Used")
    say("Eve uses the feature: her run exits")
    return mails


def crash(stage: Stage) -> None:
    """Kill both, between the e-mail and the SMS."""
    stage.kill("serve")
    stage.kill("relay")
    say("kill -9 upshot serve, kill -9 upshot relay")
    stage.serve()
    stage.relay()
    say("both are started again")


def second_day(stage: Stage) -> None:
    """The rest of the two days."""
    say(f"upshot advance 24h: {stage.upshot('advance', '24h').strip()}")
    texts = until("three SMS", lambda: at_least(stage.texts(), 3))
    for text in texts[1:3]:
        say(f"SMS to {USER_OF[text['recipient']]}, who did not open the e-mail")
    (ben,) = (text for text in texts if USER_OF[text["recipient"]] == "ben")
    stage.upshot("engage", ben["message_id"], "clicked", "--link", "https://example.com/try")
    say("Ben clicks the link in his SMS")
    say(f"upshot advance 24h: {stage.upshot('advance', '24h').strip()}")
    texts = until("win-back SMS", lambda: at_least(stage.texts(), 5))
    for text in texts[-2:]:
        say(f"SMS of the win-back workflow to {USER_OF[text['recipient']]}, who ignored all")
    if "email" not in stage.upshot("profile", "cleo").lower().partition("held back")[2]:
        raise DemoFailed("e-mail is not suppressed for Cleo")
    say("e-mail is suppressed for Cleo for 30 days")


def at_least(entries: list[dict[str, str]], count: int) -> list[dict[str, str]] | None:
    """Return *entries* once there are enough of them."""
    return entries if len(entries) >= count else None


def compare(stage: Stage) -> int:
    """Print what Segment received beside what it must; return the exit code."""
    wanted = sum(map(len, EXPECTED.values()))
    if stage.real:  # what only real providers tell comes beside it
        wanted += sum(label.startswith(SENT) for labels in EXPECTED.values() for label in labels)
    until(f"{wanted} calls at Segment", lambda: len(received_calls(stage)) >= wanted)
    time.sleep(1)  # whatever should not come would come now
    received: dict[str, list[str]] = {user_id: [] for user_id in PEOPLE}
    for call in received_calls(stage):
        if call["event"] != DELIVERED:
            received.setdefault(call["userId"], []).append(label(call))
    repeated = sum(1 for call in stage.ledger("segment") if call["repeated"])
    say(f"Segment received {wanted} calls, {repeated} of them again after the crash and dropped")
    print("\nperson  received by Segment, in order")
    for user_id, labels in received.items():
        mark = "ok" if labels == EXPECTED.get(user_id) else "WRONG"
        print(f"{user_id:<7} {', '.join(labels)}  [{mark}]")
    sent, delivered = (message_ids(stage, event) for event in (SENT, DELIVERED))
    if stage.real:
        mark = "ok" if delivered == sent else "WRONG"
        print(f"\nof {len(sent)} messages {len(delivered)} were told to be delivered  [{mark}]")
    if received == EXPECTED and (delivered == sent if stage.real else not delivered):
        print("\nThe loop is closed: nothing lost, nothing doubled.")
        return 0
    print(f"\nSegment must have received: {EXPECTED}", file=sys.stderr)
    return 1


def received_calls(stage: Stage) -> list[dict[str, str]]:
    """Return the calls Segment kept: the first of each messageId."""
    return [call for call in stage.ledger("segment") if not call["repeated"]]


def message_ids(stage: Stage, event: str) -> list[str]:
    """Return the messages that Segment received *event* about, each as often as it did."""
    calls = (call for call in received_calls(stage) if call["event"] == event)
    return sorted(call["properties"]["message_id"] for call in calls)  # type: ignore[index]


def label(call: dict[str, str]) -> str:
    """Return a call as the table says it."""
    properties: dict[str, object] = call["properties"]  # type: ignore[assignment]
    channel = properties["channel"]
    if call["event"] != "Message Opened":
        return f"{call['event']} ({channel})"
    return f"{call['event']} (opened {str(properties['opened']).lower()}, {channel})"


if __name__ == "__main__":
    sys.exit(main())
