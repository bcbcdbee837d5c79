"""The audit of the crash tests sees what it is for: each history here has one thing wrong."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.crash_audit import STORY, Ack, History, Logged, Message, Run, audit
from tests.crash_database import read_database
from tests.sms_ledger import Call
from tests.validators import Response, Seen, StreamValidator
from upshotd.adapters.storage.store import SqlStore
from upshotd.application.cursor import Cursor, encode
from upshotd.domain.run import RunState
from upshotd.domain.values import replace

PAUSE_US = 1_500_000
DONE = int(RunState.COMPLETED)


def log(runs: int) -> tuple[Logged, ...]:
    names = [(number, kind) for number in range(runs) for kind in STORY]
    return tuple(
        Logged(0, at, f"o{at}", kind, f"r{number}", f"m{number}", 2_000_000)
        for at, (number, kind) in enumerate(names, 1)
    )


def watched(outcomes: tuple[Logged, ...]) -> StreamValidator:
    """A subscriber that saw all of it in two streams."""
    validator = StreamValidator()
    middle = len(outcomes) // 2
    for part in (outcomes[:middle], outcomes[middle:]):
        begin = part[0].position - 1
        cursors = [encode(Cursor("epoch", "default", {0: at})) for at in (begin, begin + len(part))]
        stream = validator.opened(after_cursor=cursors[0] if begin else "")
        seen = tuple(Seen(o.partition, o.position, o.outcome_id) for o in part)
        stream.responses += [Response((), cursors[0], 1), Response(seen, cursors[1])]
    return validator


def good() -> History:
    numbers = range(3)
    outcomes = log(3)
    return History(
        acks=(
            *(Ack(f"e{n}", "ACCEPTED", (f"r{n}",)) for n in numbers),
            Ack("e1", "DUPLICATE", ("r1",)),
        ),
        sent={f"e{n}": PAUSE_US for n in numbers},
        calls=tuple(Call(f"m{n}", f"r{n}", "text") for n in (0, 1, 1, 2)),
        listed_runs={f"e{n}": f"r{n}" for n in numbers},
        validator=watched(outcomes),
        event_ids=("person-1", *(f"e{n}" for n in numbers)),
        runs=tuple(Run(f"r{n}", f"e{n}", 500_000, 500_000, DONE) for n in numbers),
        messages=tuple(Message(f"m{n}", f"r{n}") for n in numbers),
        outcomes=outcomes,
        heads={0: 9},
        counts=dict.fromkeys(STORY, 3),
        tally=(3, 2),
    )


def test_a_good_history_has_no_findings() -> None:
    assert audit(good()) == []


G = good()
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an event that was acknowledged is lost": (
        {"event_ids": ("e0", "e2")},
        "e1 was acknowledged (ACCEPTED) and is lost",
    ),
    "an event without its run": ({"runs": G.runs[1:]}, "e0 was acknowledged and has 0 runs"),
    "an event that acted twice": (
        {"runs": (*G.runs, replace(G.runs[0], run_id="r9"))},
        "e0 started 2 runs",
    ),
    "a repeat that was told of another run": (
        {"acks": (*G.acks, Ack("e1", "DUPLICATE", ("r2",)))},
        "e1 has run r1, the answer named ('r2',)",
    ),
    "an event that was new twice": (
        {"acks": (*G.acks, Ack("e2", "ACCEPTED", ("r2",)))},
        "e2 was accepted 2 times",
    ),
    "an event that was refused": ({"acks": (*G.acks, Ack("e2", "REJECTED"))}, "e2 was rejected"),
    "a call that never ended": ({"sent": {**G.sent, "e7": 1}}, "e7 was never answered"),
    "a run from nowhere": (
        {"runs": (*G.runs, Run("r8", "e8", 0, 0, DONE))},
        "r8 was started by e8, which nobody sent",
    ),
    "a list that is not the table": ({"listed_runs": {}}, "AdminService lists other runs"),
    "events set aside": ({"rejected": 2}, "2 events were set aside"),
    "a run that counts twice": ({"tally": (4, 2)}, "4 runs are counted in variants, there are 3"),
    "goals reached twice": ({"tally": (3, 4)}, "4 of 3 are counted to have reached their goal"),
    "a timer that never fired": (
        {"runs": (*G.runs[:2], replace(G.runs[2], state=int(RunState.ACTIVE), due_us=5))},
        "r2 of e2 is in state 1",
    ),
    "a timer of the dead": (
        {"runs": (*G.runs[:2], replace(G.runs[2], due_us=5))},
        "r2 has ended and is due",
    ),
    "a message left behind": (
        {"messages": (*G.messages[:2], replace(G.messages[2], due_us=5))},
        "m2 is still due",
    ),
    "a timer that fired twice": (
        {"messages": (*G.messages, Message("m9", "r0"))},
        "r0 has 2 messages",
    ),
    "a message of no run": ({"messages": (*G.messages, Message("m9", "r9"))}, "messages of r9"),
    "a step without its outcome": (
        {"outcomes": G.outcomes[:-1], "heads": {0: 8}},
        "r2 left ['RUN_STARTED', 'MESSAGE_SENT']",
    ),
    "a timer that fired early": ({"sent": {**G.sent, "e0": 1_500_001}}, "r0 fired 1 us early"),
    "a message that was never sent": ({"calls": G.calls[1:]}, "m0 never came to the provider"),
    "a send without its intent": (
        {"calls": (*G.calls, Call("m9", "r0", "text"))},
        "the provider got m9, which there is not",
    ),
    "a key with two contents": (
        {"calls": (*G.calls, Call("m1", "r1", "other"))},
        "m1 came with different contents",
    ),
    "a message for another run": (
        {"calls": (Call("m0", "r2", "text"), *G.calls[1:])},
        "m0 came for another run",
    ),
    "a gap in the log": (
        {"outcomes": (*G.outcomes[:4], *G.outcomes[5:])},
        "position 6 where 5 was next",
    ),
    "a head that is ahead": ({"heads": {0: 10}}, "the log ends at {0: 9}, its heads say {0: 10}"),
    "an outcome that is in the log twice": (
        {"outcomes": (*G.outcomes[:8], replace(G.outcomes[8], outcome_id="o1"))},
        "o1 is 2 times in the log",
    ),
    "counts that went their own way": (
        {"counts": {**G.counts, "MESSAGE_SENT": 4}},
        "the counts say",
    ),
    "a subscriber that saw one twice": (
        {"validator": watched((*G.outcomes[:5], *G.outcomes[4:]))},
        "the subscriber got 10 outcomes (9 different) of 9",
    ),
    "a subscriber that missed one": (
        {"validator": watched((*G.outcomes[:6], *G.outcomes[7:]))},
        "o7 at 7 of partition 0 never came",
    ),
    "a file that is torn": ({"integrity": "row 3 missing"}, "integrity_check: row 3 missing"),
    "a status nobody should see": ({"faults": ("Ingest ended with INTERNAL: x",)}, "INTERNAL"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    fields, finding = WRONG[name]
    found = audit(replace(good(), **fields))
    assert any(finding in sentence for sentence in found), found


def test_many_findings_are_counted_not_listed() -> None:
    strangers = tuple(Call(f"x{n}", "r0", "text") for n in range(30))
    found = audit(replace(good(), calls=(*G.calls, *strangers)))
    assert len(found) == 11
    assert found[-1] == "... and 20 more of the last"


async def test_an_empty_database_is_read_and_a_torn_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "upshot.db"
    store = SqlStore(path, encode_outcome=lambda *_: b"")
    await store.open()
    await store.close()
    assert audit(History(**read_database(str(path)))) == []

    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO outcome_heads VALUES ('default', 0, 3, 1)")
    database.close()
    (found,) = audit(History(**read_database(str(path))))
    assert found == "the log ends at {}, its heads say {0: 3}"
