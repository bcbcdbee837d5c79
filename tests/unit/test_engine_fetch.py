"""Asking something outside: attempts, answers, failures, and what a run makes of them."""

import pytest

from tests.flows import track
from tests.sim import HOUR, MINUTE, SECOND, START, Sim
from upshotd.domain.fetching import (
    Fetch,
    Fetched,
    FetchResult,
    HttpMethod,
    HttpRequest,
    ModelRequest,
    Secret,
    Unfetched,
)
from upshotd.domain.message import Channel, Sms
from upshotd.domain.run import RunState
from upshotd.domain.steps.fetch import PUT_OFF_MAX, FetchStep, Generate, parts
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import CancelRequested, FetchSettled, RunDue
from upshotd.domain.workflow import Step

BUSY = Unfetched("HTTP_ERROR", "answered 503", again=True)
TOO_MUCH = Unfetched("BUSY", "too much to ask", again=True, put_off=True)


def text(body: str, step_id: str = "tell") -> Step:
    return Step(step_id, Send(Channel.SMS, (Sms(body),)))


def asking(kind: FetchStep | Generate, *after: Step) -> Sim:
    sim = Sim([track("Go", Step("ask", kind), *after)])
    sim.identify("ana", phone="+15550001", name="Ana")
    sim.track("ana", "Go", properties={"order": "o 1"})
    return sim


def fetches(sim: Sim) -> list[Fetch]:
    """Return what the last decision asks."""
    return sim.changes.fetches


def answer(sim: Sim, result: FetchResult, attempt: int = 1) -> None:
    sim.do(FetchSettled(sim.run().run_id, "ask", attempt, result))


PRICE = FetchStep(
    "https://shop.example/orders/{{ event.properties.order | urlencode }}",
    headers={"authorization": "Bearer ${secrets.shop_key}", "x-name": "{{ traits.name }}\r\nx: y"},
)


def test_a_request_is_filled_in_and_secrets_stay_names():
    sim = asking(PRICE)
    (fetch,) = fetches(sim)
    assert isinstance(fetch.request, HttpRequest)
    assert fetch.request.url == "https://shop.example/orders/o%201"
    assert fetch.request.headers == {
        "authorization": ("Bearer ", Secret("shop_key")),
        "x-name": ("Ana x: y",),
    }
    assert (fetch.attempt, fetch.key) == (1, f"{sim.run().run_id}/ask")
    assert sim.whats() == ["started", "asking"]
    assert "o%201" not in str(sim.run().timeline), "an address may be a secret behind its host"


@pytest.mark.parametrize("behind", ["/t?key=", "?key=", "#key=", "\\\\key=", "?a@b=", "/a@b?key="])
def test_a_timeline_names_the_host_of_an_address_and_nothing_behind_it(behind: str):
    sim = asking(
        FetchStep(f"https://me:pw@shop.example:8443{behind}{{{{ event.properties.order }}}}")
    )
    assert [entry.detail for entry in sim.run().timeline][1] == "GET shop.example:8443"


def test_an_attempt_that_is_put_off_does_not_count_until_it_was_put_off_for_long():
    sim = asking(FetchStep("https://a.example", attempts=2), text("Bye"))
    answer(sim, BUSY, attempt=1)
    made, put_off = 1, 0
    while sim.run().step_id == "ask" and put_off < 99:
        before = sim.now
        sim.advance(sim.run().due_us - sim.now)
        assert sim.now - before <= 15 * MINUTE
        answer(sim, TOO_MUCH, attempt=made + put_off + 1)
        put_off += 1
    assert put_off == PUT_OFF_MAX + 1
    assert sim.now > START + HOUR
    assert sim.run().steps["ask"]["reason"] == "BUSY"
    assert sim.sent


def test_after_it_was_put_off_all_its_attempts_are_made():
    sim = asking(FetchStep("https://a.example", attempts=2), text("Bye"))
    answer(sim, TOO_MUCH, attempt=1)
    sim.advance(5 * SECOND)
    for attempt in (2, 3):
        assert sim.run().steps["ask"]["attempt"] == attempt
        answer(sim, BUSY, attempt=attempt)
        sim.advance(15 * SECOND)
    assert sim.run().steps["ask"]["reason"] == "HTTP_ERROR"


def test_what_a_person_says_names_no_secret():
    sim = Sim(
        [
            track(
                "Go",
                Step("ask", FetchStep("https://a.example", headers={"x": "{{ traits.name }}"})),
            )
        ]
    )
    sim.identify("ana", name="${secrets.shop_key}")
    sim.track("ana", "Go")
    (fetch,) = fetches(sim)
    assert isinstance(fetch.request, HttpRequest)
    assert fetch.request.headers["x"] == ("${secrets.shop_key}",)


def test_the_answer_is_there_for_later_steps():
    sim = asking(PRICE, text("It costs {{ steps.ask.data.price }}"))
    answer(sim, Fetched({"price": 12}))
    (sms,) = sim.sent
    assert sms.content == Sms("It costs 12")
    assert sim.run().steps["ask"]["ok"] is True


def test_what_may_pass_is_asked_again_after_a_pause_and_at_last_given_up():
    inner = text("No price: {{ steps.ask.reason }}", "sorry")
    sim = asking(FetchStep("https://a.example", attempts=2, on_failure=(inner,)), text("Bye"))
    answer(sim, BUSY)
    assert sim.run().due_us is not None
    assert not sim.sent
    sim.advance(10 * SECOND)
    (fetch,) = fetches(sim)
    assert fetch.attempt == 2
    answer(sim, BUSY, attempt=1)
    assert not sim.sent, "the answer to the first attempt came too late"
    answer(sim, BUSY, attempt=2)
    assert sim.answer().content == Sms("No price: HTTP_ERROR")
    assert sim.answer().content == Sms("Bye")
    assert sim.run().steps["ask"]["ok"] is False


def test_retry_after_is_waited_for():
    sim = asking(PRICE)
    answer(sim, Unfetched("HTTP_ERROR", "", again=True, retry_after_us=10 * MINUTE))
    assert sim.run().due_us == sim.now + 10 * MINUTE


def test_what_cannot_pass_goes_on_at_once():
    sim = asking(PRICE, text("Bye"))
    answer(sim, Unfetched("NOT_PUBLIC", "10.0.0.1 is not public"))
    assert [message.content for message in sim.sent] == [Sms("Bye")]
    assert "unanswered" in sim.whats()


def test_nobody_answers_because_whoever_asked_died():
    sim = asking(FetchStep("https://a.example", attempts=2), text("Bye"))
    sim.advance(29 * SECOND)
    assert not sim.sent
    assert sim.run().steps["ask"]["attempt"] == 1
    sim.advance(2 * SECOND)
    assert sim.run().steps["ask"]["attempt"] == 2
    sim.advance(HOUR)
    assert [message.content for message in sim.sent] == [Sms("Bye")]
    assert sim.run().steps["ask"]["reason"] == "NO_ANSWER"


@pytest.mark.parametrize(
    ("url", "reason"),
    [("{{ traits.missing }}", "TEMPLATE_ERROR"), ("{{ 'ftp://a.example' }}", "INVALID_URL")],
)
def test_an_address_that_is_none_is_not_asked(url: str, reason: str) -> None:
    sim = asking(FetchStep(url), text("Bye"))
    assert not fetches(sim)
    assert sim.run().steps["ask"]["reason"] == reason
    assert sim.sent


@pytest.mark.parametrize("said", ["..", ".", "../../admin", "a/../b", "..\\admin", "%2e%2e"])
@pytest.mark.parametrize("rest", ["", "/cancel", "?a=b"])
@pytest.mark.parametrize("filled", ["traits.name | urlencode", "traits.name"])
def test_what_a_person_says_leads_to_no_other_path(said: str, rest: str, filled: str) -> None:
    sim = Sim(
        [track("Go", Step("ask", FetchStep(f"https://a.example/o/{{{{ {filled} }}}}{rest}")))]
    )
    sim.identify("ana", name=said)
    sim.track("ana", "Go")
    if said == "%2e%2e" and "urlencode" in filled:
        assert len(fetches(sim)) == 1, "that is a name of letters and digits"
        return
    assert not fetches(sim)
    assert sim.run().steps["ask"]["reason"] == "INVALID_URL"


@pytest.mark.parametrize(
    "path", ["", "/", "/a.b/..c/d..", "/...", "/a?next=../b", "?a=/../", "/~a/#/.."]
)
def test_dots_elsewhere_are_dots(path: str) -> None:
    assert len(fetches(asking(FetchStep(f"https://a.example{path}")))) == 1


def test_an_answer_to_a_run_that_has_gone_on_or_ended_changes_nothing():
    sim = asking(PRICE, text("Bye"))
    answer(sim, Fetched({}))
    before = sim.run()
    answer(sim, Fetched({"price": 1}))
    assert sim.run() == before
    sim = asking(PRICE)
    sim.do(CancelRequested(sim.run().run_id))
    answer(sim, Fetched({}))
    assert sim.run().state is RunState.CANCELED
    sim.do(FetchSettled("nobody", "ask", 1, Fetched({})))
    sim.do(RunDue("nobody"))


def test_a_model_is_asked_for_an_object_of_a_schema():
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    kind = Generate("Write to {{ traits.name }}", schema, "Be brief.", "small", 50)
    sim = asking(kind, text("{{ steps.ask.data.text }}"))
    (fetch,) = fetches(sim)
    request = fetch.request
    assert isinstance(request, ModelRequest)
    assert (request.prompt, request.system) == ("Write to Ana", "Be brief.")
    assert (request.model, request.most_tokens) == ("small", 50)
    assert '"text"' in request.schema
    assert fetch.timeout_us == 30 * SECOND
    answer(sim, Fetched({"text": "Hi, Ana"}))
    assert sim.answer().content == Sms("Hi, Ana")


def test_secrets_stand_between_templates():
    assert parts("a ${secrets.one}${secrets.two} b") == ("a ", Secret("one"), Secret("two"), " b")
    assert parts("${secrets.BAD}") == ("${secrets.BAD}",)
    assert parts("") == ()


def test_only_get_has_no_body_and_no_key():
    post = FetchStep("https://a.example", HttpMethod.POST, body='{"name": "{{ traits.name }}"}')
    (fetch,) = fetches(asking(post))
    assert isinstance(fetch.request, HttpRequest)
    assert (fetch.request.method, fetch.request.body) == (HttpMethod.POST, '{"name": "Ana"}')
