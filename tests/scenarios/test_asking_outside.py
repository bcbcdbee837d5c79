"""Runs that ask a shop for its price, and a model for a summary. Told on every store."""

from tests.scenarios.examples import workflow_of
from tests.world import DAY, HOUR, MINUTE, World
from upshotd.domain.fetching import Fetched, HttpRequest, ModelRequest, Secret, Unfetched
from upshotd.domain.message import Email

VIEWED = {"product_id": "p 1", "price": 20.0}


async def viewed(scenario: World) -> None:
    await scenario.define(workflow_of("price-drop"))
    await scenario.identify("ana", email="ana@example.com")
    await scenario.track("ana", "Product Viewed", properties=VIEWED)
    await scenario.advance(DAY)


async def test_who_saw_a_higher_price_hears_of_the_lower_one(scenario: World) -> None:
    scenario.fetcher.answers = [Fetched({"name": "Lamp", "price": 12})]
    await viewed(scenario)
    (asked,) = scenario.fetcher.asked
    assert isinstance(asked.request, HttpRequest)
    assert asked.request.url == "https://shop.example.com/api/products/p%201"
    assert asked.request.headers["Authorization"] == ("Bearer ", Secret("shop_key"))
    (mail,) = scenario.email.ledger
    assert isinstance(mail.content, Email)
    assert mail.content.subject == "Lamp costs 12.00 now"


async def test_a_shop_that_is_away_for_a_while_is_asked_again(scenario: World) -> None:
    away = Unfetched("HTTP_ERROR", "answered 503", again=True)
    scenario.fetcher.answers = [away, away, Fetched({"name": "Lamp", "price": 12})]
    await viewed(scenario)
    await scenario.advance(HOUR)
    assert [fetch.attempt for fetch in scenario.fetcher.asked] == [1, 2, 3]
    assert len(scenario.email.ledger) == 1


async def test_without_an_answer_nobody_is_told_a_price(scenario: World) -> None:
    scenario.fetcher.answers = [Unfetched("HTTP_ERROR", "answered 404")]
    await viewed(scenario)
    await scenario.advance(HOUR)
    assert not scenario.email.ledger
    assert len(scenario.fetcher.asked) == 1


async def changed(scenario: World) -> None:
    await scenario.define(workflow_of("daily-summary"))
    await scenario.identify("ana", email="ana@example.com")
    for n in range(3):
        change = {"task": f"task {n}", "change": "done"}
        await scenario.track("ana", "Task Changed", properties=change)
        await scenario.advance(MINUTE)
    await scenario.advance(DAY)


async def test_a_model_says_what_matters(scenario: World) -> None:
    answer = {"headline": "Three tasks are done", "lines": ["task 2 is done", "so are 0 and 1"]}
    scenario.fetcher.answers = [Fetched(answer)]
    await changed(scenario)
    (asked,) = scenario.fetcher.asked
    assert isinstance(asked.request, ModelRequest)
    assert "- task 1: done" in asked.request.prompt
    (mail,) = scenario.email.ledger
    assert isinstance(mail.content, Email)
    assert mail.content.subject == "Three tasks are done"
    assert mail.content.text.splitlines() == ["task 2 is done", "so are 0 and 1"]


async def test_where_it_does_not_answer_the_plain_list_goes_out(scenario: World) -> None:
    wrong = Unfetched("INVALID_ANSWER", "lines does not meet minItems", again=True)
    scenario.fetcher.answers = [wrong, wrong]
    await changed(scenario)
    await scenario.advance(HOUR)
    assert len(scenario.fetcher.asked) == 2
    (mail,) = scenario.email.ledger
    assert isinstance(mail.content, Email)
    assert mail.content.subject == "3 changes today"
    assert mail.content.text.splitlines() == ["task 0: done", "task 1: done", "task 2: done"]
