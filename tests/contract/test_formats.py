"""What every format promises, and what each one does: one suite for all, then Slack's own rules."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hookside import SECRET, event
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block, ContextBlock, HeaderBlock, SectionBlock
from standardwebhooks.webhooks import Webhook

from poller.deliver.formats import FORMATS, RATES, UNSIGNED
from poller.deliver.formats.slack import escape, fitted, message, money
from poller.deliver.signing import encode_secret
from poller.model import Event, dumps

NOW = 1_900_000_000.0
WORDS = st.text(max_size=400)
SCALARS = st.none() | st.booleans() | st.integers() | WORDS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)
)
TYPES = st.sampled_from(
    [
        "drum.opportunity.won",
        "drum.opportunity.status_changed",
        "close.opportunity.lost",
        "pipedrive.deal.stage_changed",
        "drum.task.added",
        "poller.source.suspended",
        "poller.webhook.test",
    ]
)


def with_data(data: Any, type_: str = "drum.opportunity.won", subject: str = "opportunity/1") -> Event:
    body = dumps({"specversion": "1.0", "id": "evt_1", "type": type_, "subject": subject, "data": data})
    return Event(id="evt_1", type=type_, subject=subject, time="2026-11-22T10:00:00.000Z", body=body)


def won(**changes: Any) -> Event:
    deal = {
        "name": "Website",
        "client": "Acme Ltd",
        "amount": "250000.00",
        "currency": "GBP",
        "status": "won",
        "stage": "Proposal",
        "owner": "Ann",
        "url": "https://app.getdrum.com/opportunities/1",
    }
    return with_data({"object": {"id": 1}, "previous": {"project_status": {"id": 3, "name": "Proposal"}},
                      "changed": [], "deal": {**deal, **changes}})  # fmt: skip


def text_of(blocks: list[dict[str, Any]]) -> str:
    return "\n".join(block["text"]["text"] for block in blocks if "text" in block)


@pytest.mark.parametrize("name", FORMATS)
@given(event_type=TYPES, data=JSON)
def test_every_format_writes_json_for_every_event(name: str, event_type: str, data: Any) -> None:
    """Whatever stands in an event, a format writes JSON with its content type, and does not stumble."""
    made = FORMATS[name](
        with_data(data, event_type), secrets=[SECRET], at=NOW, content_type="application/json"
    )
    msgspec.json.decode(made.body)
    assert made.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_json_for_a_body_that_is_none(name: str) -> None:
    """Even bytes that are no JSON give a request, for they must not hold up what stands behind them."""
    broken = Event(id="evt_1", type="drum.task.added", subject="task/1", time="", body=b"\xff{")
    assert FORMATS[name](broken, secrets=[SECRET], at=NOW, content_type="application/json").headers


@pytest.mark.parametrize("name", sorted(set(FORMATS) - UNSIGNED))
def test_every_signed_format_sends_what_it_signed(name: str) -> None:
    """The id is the event's, and the signature covers the very bytes of the body."""
    made = FORMATS[name](event(1), secrets=[SECRET], at=NOW, content_type="application/cloudevents+json")
    assert made.headers["webhook-id"] == "evt_1"
    assert made.headers["content-type"] == "application/cloudevents+json"
    signed = Webhook(encode_secret(SECRET)).sign(
        "evt_1", datetime.fromtimestamp(NOW, UTC), made.body.decode()
    )
    assert signed == made.headers["webhook-signature"]


def test_cloudevents_sends_the_bytes_of_the_stream() -> None:
    """Nothing is decoded and encoded again: spaces and the order of keys arrive as they were."""
    odd = Event(id="evt_1", type="drum.task.added", subject="task/1", time="", body=b'{ "b":1.50,\n"a":2 }')
    made = FORMATS["cloudevents"](odd, secrets=[SECRET], at=NOW, content_type="application/json")
    assert made.body is odd.body


def test_the_cloudevents_library_reads_what_we_send() -> None:
    """Other people's CloudEvents code takes the request for an event in structured mode."""
    sent = FORMATS["cloudevents"](
        event(1), secrets=[SECRET], at=NOW, content_type="application/cloudevents+json"
    )
    read = from_http_event(HTTPMessage(dict(sent.headers), sent.body))
    assert read.get_id() == "evt_1"
    assert read.get_type() == "drum.opportunity.updated"


# --- Slack ------------------------------------------------------------------------------------


@given(event_type=TYPES, data=JSON, name=WORDS, client=WORDS, url=WORDS)
def test_slacks_own_models_accept_every_message(
    event_type: str, data: Any, name: str, client: str, url: str
) -> None:
    """Limits on headers, sections and blocks hold for any event (slack-sdk validates them)."""
    deal = {
        "name": name,
        "client": client,
        "url": "https://x.test/" + url,
        "amount": "1.50",
        "currency": "GBP",
    }
    whole = {"object": data, "previous": data, "changed": data, "deal": deal}
    for content in (data, whole):
        made = message(with_data(content, event_type))
        assert made["text"]
        assert len(made["text"]) <= 4000
        blocks = Block.parse_all(made["blocks"])
        assert {type(block) for block in blocks} <= {HeaderBlock, SectionBlock, ContextBlock}
        assert len(blocks) <= 50
        for block in blocks:
            block.validate_json()
        for block in made["blocks"]:
            if "text" in block:
                assert 0 < len(block["text"]["text"]) <= (150 if block["type"] == "header" else 3000)


def test_a_won_deal_tells_all_that_matters() -> None:
    """Name, client, amount with currency, old → new, owner and a link."""
    made = message(won())
    text = text_of(made["blocks"])
    for part in ("won: Website", "Acme Ltd", "GBP 250,000.00", "Proposal → won", "Ann"):
        assert part in text
    assert "<https://app.getdrum.com/opportunities/1|Open>" in text
    assert "Website" in made["text"]
    assert "GBP 250,000.00" in made["text"]


def test_a_change_of_status_tells_old_and_new() -> None:
    """The names of the two statuses stand beside each other."""
    moved = with_data(
        {
            "object": {"id": 1, "project_status": {"id": 4, "name": "Negotiation"}},
            "previous": {"project_status": {"id": 3, "name": "Proposal"}},
            "changed": ["project_status"],
            "deal": {"name": "Website", "stage": "Negotiation", "status": "open"},
        },
        "drum.opportunity.status_changed",
    )
    assert "Proposal → Negotiation" in text_of(message(moved)["blocks"])


def test_control_characters_of_slack_are_escaped_everywhere() -> None:
    """A deal named `<!channel> & <@U1>` notifies nobody."""
    made = message(won(name="<!channel> & <@U1>", client="<!here>", owner="a&b"))
    for text in (made["text"], text_of(made["blocks"])):
        assert "<!" not in text
        assert "<@" not in text
        assert "&lt;!channel&gt; &amp; &lt;@U1&gt;" in text


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://x.test/|x>", "https://x.test/ a", None, 5])
def test_a_url_that_is_none_makes_no_link(url: Any) -> None:
    """Only a plain http(s) URL becomes a link."""
    assert "|Open>" not in text_of(message(won(url=url))["blocks"])


def test_an_event_without_a_deal_is_readable() -> None:
    """Operational events say who, what and why."""
    made = message(
        with_data(
            {"object": {"reason": "401", "since": "2026-11-22"}},
            "poller.source.suspended",
            "source/acme",
        )
    )
    assert made["blocks"][0]["text"]["text"] == "⚠ Source acme: suspended"
    assert "*Reason:* 401" in text_of(made["blocks"])


def test_slack_gets_neither_id_nor_signature() -> None:
    """Slack's URL is its secret; a signature would only tell who signs."""
    assert set(FORMATS["slack"](won(), secrets=[SECRET], at=NOW, content_type="x").headers) == {
        "content-type"
    }
    assert "slack" in UNSIGNED
    assert RATES["slack"] == "1/s"


@given(st.text(), st.integers(2, 200))
def test_cutting_never_splits_an_escape(text: str, most: int) -> None:
    """What is cut is still valid text within its limit."""
    cut = fitted(text, most)
    assert len(cut) <= most
    rest = cut.removesuffix("…").replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert not set("&<>") & set(rest)


@given(st.text())
def test_short_text_is_only_escaped(text: str) -> None:
    """Nothing is lost that fits."""
    assert fitted(text, 10 * len(text) + 10) == escape(text)


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        ("250000.00", "GBP", "GBP 250,000.00"),
        ("0.5", None, "0.5"),
        ("-1234.5", "USD", "USD -1,234.5"),
        ("1e999999999", "USD", "USD 1e999999999"),
        ("n/a", "EUR", "EUR n/a"),
        (None, "EUR", None),
        ("", "EUR", None),
    ],
)
def test_amounts_keep_their_places(amount: str | None, currency: str | None, written: str | None) -> None:
    """Thousands are marked, decimal places stay as they were, and no amount is a trap."""
    assert money(amount, currency) == written
