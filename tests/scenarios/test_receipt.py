"""Templates in the language of each, changed while people are on their way. On every store."""

from tests.scenarios.examples import documents_of, workflow_of
from tests.world import World
from upshotd.application.shelf import TEMPLATES, Kind, Shelf
from upshotd.domain.message import Email
from upshotd.domain.template import Template
from upshotd.domain.values import replace

PAID = {"order_id": "o-1", "total": 12.5}


async def prepared(scenario: World) -> Shelf[Template]:
    kind: Kind[Template] = Kind(
        TEMPLATES,
        lambda template: template.template_id,
        scenario.codec.encode_template,
        scenario.codec.decode_template,
        lambda _: (),
    )
    shelf = Shelf(scenario.store, scenario.clock, kind, scenario.book.refresh)
    for template in documents_of("receipt").templates:
        await shelf.define("default", template, validate_only=False)
    await scenario.define(workflow_of("receipt"))
    return shelf


async def paid(scenario: World, user_id: str) -> Email:
    await scenario.track(user_id, "Order Paid", properties=PAID)
    await scenario.settle()
    content = scenario.email.ledger[-1].content
    assert isinstance(content, Email)
    return content


async def test_each_in_their_language_inside_the_layout(scenario: World) -> None:
    await prepared(scenario)
    await scenario.identify("ana", email="ana@example.com", first_name="Ana", locale="de-CH")
    await scenario.identify("ben", email="ben@example.com", first_name="Ben", locale="fr")
    german, other = await paid(scenario, "ana"), await paid(scenario, "ben")
    assert german.subject == "Ihre Quittung für Bestellung o-1"
    assert "Sie haben 12.50 bezahlt." in german.text
    assert other.subject == "Your receipt for order o-1"
    assert '<p style="font: 16px sans-serif;">Thank you, Ben.' in other.html
    assert other.text == "Thank you, Ben. You paid 12.50.\n\nExample Ltd, 1 Main Street"
    assert other.reply_to == "help@example.com"


async def test_a_channel_that_has_no_words_in_a_language_uses_everybodys(scenario: World) -> None:
    await prepared(scenario)
    await scenario.identify("ana", phone="+15550001", locale="de")
    await scenario.track("ana", "Order Paid", properties=PAID)
    await scenario.settle()
    assert scenario.sms.ledger[-1].content[0] == "Order o-1: paid 12.50."


async def test_a_new_version_is_sent_from_then_on_and_names_itself(scenario: World) -> None:
    shelf = await prepared(scenario)
    await scenario.identify("ana", email="ana@example.com")
    await paid(scenario, "ana")
    receipt = (await shelf.get("default", "receipt", 0)).thing
    changed = replace(receipt, variants={"": (Email("Paid", text="Thanks"),)}, layout_id="")
    defined = await shelf.define("default", changed, validate_only=False)
    assert (defined.version, defined.unchanged) == (2, False)
    assert (await paid(scenario, "ana")).subject == "Paid"
    sent = [o for o in await scenario.outcomes() if o.message_id]
    assert {o.template_id for o in sent} == {"receipt"}
    assert (await shelf.get("default", "receipt", 1)).thing.layout_id == "layout"
    listed = await shelf.list("default", 0, "")
    assert [kept.thing.template_id for kept in listed.items] == ["layout", "receipt"]
