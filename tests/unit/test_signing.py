"""Signatures are those of Standard Webhooks 1.0, by its own vector and by other people's libraries."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook
from svix.webhooks import Webhook as SvixWebhook

from poller.client import VerificationFailed, verify
from poller.deliver.signing import decode_secret, encode_secret, headers, signature

KEYS = st.binary(min_size=24, max_size=64)
IDS = st.from_regex(r"evt_[0-9a-f]{1,64}", fullmatch=True)
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
BODIES = st.dictionaries(TEXTS, TEXTS | st.integers()).map(lambda value: json.dumps(value).encode())


def test_the_known_answer_of_the_specification() -> None:
    """The published vector comes out to the letter."""
    made = signature(
        secrets=[decode_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(KEYS, IDS, BODIES)
def test_other_libraries_accept_what_we_sign(key: bytes, event_id: str, body: bytes) -> None:
    """The standardwebhooks and svix libraries verify every signature of ours."""
    now = datetime.now(UTC).timestamp()
    sent = headers(secrets=[key], id=event_id, at=now, body=body)
    for library in (Webhook, SvixWebhook):
        library(encode_secret(key)).verify(body, sent)  # raises if it does not accept


def test_each_live_secret_signs_the_newest_first() -> None:
    """While a key is being rotated, receivers with the old one and with the new one both accept."""
    new, old = b"n" * 32, b"o" * 32
    body = b'{"a": 1}'
    sent = headers(secrets=[new, old], id="evt_1", at=datetime.now(UTC).timestamp(), body=body)
    assert len(sent["webhook-signature"].split(" ")) == 2
    for key in (new, old):
        assert Webhook(encode_secret(key)).verify(body, sent) == {"a": 1}
    assert sent["webhook-signature"].split(" ")[0] == signature(
        secrets=[new], id="evt_1", timestamp=int(sent["webhook-timestamp"]), body=body
    )


def test_the_timestamp_is_in_whole_seconds() -> None:
    """Verifiers read an integer of Unix seconds."""
    assert headers(secrets=[b"k" * 24], id="evt_1", at=1700000000.999, body=b"")["webhook-timestamp"] == (
        "1700000000"
    )


@given(KEYS)
def test_a_secret_survives_being_written(key: bytes) -> None:
    """What encode_secret writes, decode_secret reads."""
    assert decode_secret(encode_secret(key)) == key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with whsec_"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begins with whsec_"),
        ("whsec_not base64!", "not base64"),
        ("whsec_" + base64.b64encode(b"x" * 23).decode(), "24 to 64 bytes, not 23"),
        ("whsec_" + base64.b64encode(b"x" * 65).decode(), "24 to 64 bytes, not 65"),
    ],
)
def test_a_bad_secret_is_refused_without_being_repeated(text: str, says: str) -> None:
    """The message names the remedy and never the secret."""
    with pytest.raises(ValueError, match=says) as caught:
        decode_secret(text)
    assert "webhooks secret" in str(caught.value)
    assert not text or text not in str(caught.value)


def test_an_id_with_a_dot_is_refused() -> None:
    """With a dot in the id, two different messages would have one signed text."""
    with pytest.raises(ValueError, match="must not contain a dot"):
        signature(secrets=[b"k" * 24], id="evt.1", timestamp=1, body=b"")


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"webhook-id": "evt.1"},
        {"webhook-id": "\udc80"},
        {"webhook-timestamp": "9" * 5000},
        {"webhook-timestamp": "²"},
        {"webhook-signature": "v1,\udc80"},
        {"webhook-signature": ""},
    ],
)
def test_whatever_is_forged_fails_in_one_way(forged: dict[str, str]) -> None:
    """A receiver that catches VerificationFailed answers 4xx to everything that is not from a poller."""
    now, secret = datetime.now(UTC).timestamp(), encode_secret(b"k" * 32)
    sent = headers(secrets=[b"other" * 6], id="evt_1", at=now, body=b"{}") | forged
    with pytest.raises(VerificationFailed):
        verify(sent, b"{}", secret, now=now)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1e999999999999999999999", b"[" * 100_000])
def test_a_signed_body_that_is_no_object_fails_so_too(body: bytes) -> None:
    """Who knows the secret may still send nonsense."""
    now, key = datetime.now(UTC).timestamp(), b"k" * 32
    with pytest.raises(VerificationFailed, match="no JSON object"):
        verify(headers(secrets=[key], id="evt_1", at=now, body=body), body, encode_secret(key), now=now)
