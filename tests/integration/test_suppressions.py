"""The suppression list over the wire and from the command line: put on, taken off, in and out."""

import csv
import re
from io import StringIO
from pathlib import Path

import grpc
import pytest

from tests.integration.cli_world import Ask
from tests.wire import Watch, Wire, identify, kinds, mail, track, workflow
from upshot.v1 import admin_pb2, outcome_pb2

ALWAYS = {"mode": "REENTRY_MODE_ALWAYS"}


async def test_an_address_on_the_list_gets_nothing_from_then_on(
    wire: Wire, watched_stream: Watch
) -> None:
    await wire.define(workflow("welcome", "Signed Up", mail(), reentry=ALWAYS))
    await wire.ingest(identify("i1"))
    entry = admin_pb2.SuppressionEntry(email="ANA@Home.example")
    request = admin_pb2.SetSuppressionsRequest(entries=[entry])
    assert (await wire.admin.SetSuppressions(request)).changed == 1
    assert (await wire.admin.SetSuppressions(request)).changed == 0
    await wire.ingest(track("e1"))
    listed = await wire.admin.ListSuppressions(admin_pb2.ListSuppressionsRequest())
    (shown,) = listed.entries
    assert (shown.email, shown.suppression.reason) == ("ana@home.example", "SUPPRESSED")
    assert shown.suppression.channel == outcome_pb2.CHANNEL_EMAIL
    answer = await wire.admin.GetProfile(admin_pb2.GetProfileRequest(user_id="ana"))
    assert [held.reason for held in answer.profile.suppressions] == ["SUPPRESSED"]
    request.remove = True
    assert (await wire.admin.SetSuppressions(request)).changed == 1
    await wire.ingest(track("e2"))
    await wire.advance()
    came = await watched_stream.all(wire)
    assert kinds(came)[1] == "MESSAGE_SUPPRESSED"
    assert kinds(came).count("MESSAGE_SENT") == 1


async def test_faulty_entries_are_named_all_at_once_and_none_is_taken(wire: Wire) -> None:
    request = admin_pb2.SetSuppressionsRequest()
    for email in ("fine@example.com", "no address", ""):
        request.entries.add(email=email)
    request.entries.add(user_id="ana")
    request.entries.add(phone_number="+4915112345678").suppression.channel = 1
    request.entries.add(email="b@example.com").suppression.reason = "NO_REASON"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await wire.admin.SetSuppressions(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "entries[2].email" in (refused.value.details() or "")
    del request.entries[2]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await wire.admin.SetSuppressions(request)
    said = refused.value.details() or ""
    for path in ("[1].email", "[2].suppression.scope", "[3].suppression.channel", "[4]"):
        assert f"entries{path}" in said
    with pytest.raises(grpc.aio.AioRpcError):
        await wire.admin.SetSuppressions(admin_pb2.SetSuppressionsRequest())
    listed = await wire.admin.ListSuppressions(admin_pb2.ListSuppressionsRequest())
    assert not listed.entries


def test_the_list_goes_out_as_csv_and_comes_back_in(ask: Ask, tmp_path: Path) -> None:
    old = tmp_path / "bounces.csv"
    old.write_text("created,email,reason\n1,Sam@Example.com,550 no\n2,sue@example.com,550 no\n")
    said = ask("suppress", "--file", str(old), code=1).stderr
    assert "entries[0].suppression.reason" in said
    said = ask("suppress", "--file", str(old), "--reason", "bounced", "+4915112345678").stdout
    assert said == "3 put on the list, 0 as they were\n"
    people = "user_id,channel,topic,until\nsid,sms,,\nsid,email,news,2030-01-01T00:00:00Z\n"
    ask("suppress", "--file", "-", given=people)
    ask("define", "-", given="topic_id: tea\ndefault: TOPIC_DEFAULT_OPTED_OUT\n")
    ask("preferences", "sid", "--topic", "tea", "--in", "--off", "push")
    told = ask("suppressions").stdout
    assert re.search("sid +tea on push +for good +CHANNEL_OFF", told)
    assert "OPTED_IN" not in told, "what somebody asked for holds nothing back"
    assert "sam@example.com  email          for good" in told
    assert "sid              news on email  2030-01-01 00:00:00  SUPPRESSED" in told
    written = ask("suppressions", "--csv").stdout
    rows = list(csv.DictReader(StringIO(written)))
    assert {row["reason"] for row in rows} >= {"BOUNCED", "SUPPRESSED"}
    kept = tmp_path / "kept.csv"
    kept.write_text(written)
    n = len(rows)
    assert ask("suppress", "--file", str(kept)).stdout == f"0 put on the list, {n} as they were\n"
    said = ask("suppress", "--file", str(kept), "--remove").stdout
    assert said == f"{n} taken off the list, 0 as they were\n"
    assert "nothing is held back" in ask("suppressions").stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("address\na@b.c\n", "the first line names none of"),
        ("email,user_id\na@b.c,ana\n", "line 2: 2 of"),
        ("email,channel\na@b.c,smoke\n", "'smoke' is no channel"),
        ("email,until\na@b.c,2030-01-01\n", "does not say its offset"),
        ("email,until\na@b.c,soon\n", "line 2"),
    ],
)
def test_files_that_are_none_are_told_by_line(ask: Ask, text: str, complaint: str) -> None:
    assert complaint in ask("suppress", "--file", "-", given=text, code=2).stderr
    ask("suppress", code=2)
