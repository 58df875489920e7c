"""Logs: one shape for all, on stderr, and no secret in any of them."""

import io
import json
import logging
import warnings
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from poller import log

SECRET = 'tok"en\\of-acmé'


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


class Gone(io.StringIO):
    """A stream whose reader went away."""

    def write(self, text: str) -> int:
        """Fail as a broken pipe does."""
        raise BrokenPipeError(text)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The JSON lines that were written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_where_nobody_looks() -> None:
    """Off a terminal each event is one line of JSON: time, level, event, then its keys."""
    stream = io.StringIO()
    log.configure(stream=stream)
    structlog.get_logger().info("sweep.done", source="acme", records=3, odd={1: object}, none=None)
    (line,) = lines(stream)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    assert (line["event"], line["source"], line["records"], line["none"]) == ("sweep.done", "acme", 3, None)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool) -> None:
    """On a terminal a line is text, and coloured unless NO_COLOR is set."""
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    log.configure(stream=stream)
    structlog.get_logger().info("sweep.done", source="acme")
    assert "sweep.done" in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) is coloured


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "console"])
def test_no_secret_gets_out(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    """A secret is hidden by its key and by its value: nested, in tracebacks, in other libraries' messages."""
    monkeypatch.setenv("NO_COLOR", "1")
    log.configure(level="debug", secrets=[SECRET, "ab"], stream=stream)
    logger = structlog.get_logger()
    logger.info("a", token="short", nested={"api_key": "short", "deep": [{"x": f"<{SECRET}>"}]}, y=(SECRET,))
    logger.info(SECRET, **{SECRET: 1}, bound="about")
    try:
        local = SECRET
        raise ValueError(local)
    except ValueError:
        logger.exception("b")
        logging.getLogger("aiohttp.client").exception("failed: %s", SECRET)
    logging.getLogger("other").warning("GET https://x/?k=tok%%22en%%5Cof-acm%%C3%%A9 %r", [SECRET])
    text = stream.getvalue()
    for spelling in (SECRET, "short", json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1], "of-acm", "local ="):
        assert spelling not in text
    assert text.count("Traceback") == 2
    assert "about" in text  # a registered value of two letters blanks no words


def test_basic_authentication_is_hidden() -> None:
    """A key that went into Basic authentication is hidden in its base64, too."""
    mask = log.Mask(["api_1234567890abc"])
    assert "YXBpXzEyMzQ1Njc4" not in mask("Basic YXBpXzEyMzQ1Njc4OTBhYmM6")
    assert repr(mask) == "<Mask of 2 texts>"


def test_other_libraries_speak_as_we_do() -> None:
    """Records of logging come out as the same JSON with their logger's name; warnings as well."""
    stream = io.StringIO()
    log.configure(stream=stream)
    logging.getLogger("apscheduler.executors").warning("missed %s", "job")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second = lines(stream)
    assert (first["event"], first["logger"], first["level"]) == (
        "missed job",
        "apscheduler.executors",
        "warning",
    )
    assert second["logger"] == "py.warnings"


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "aiohttp.access", "uvicorn.access"])
def test_no_request_is_logged_with_its_url(name: str) -> None:
    """Libraries that log each request's URL are silent below WARNING, even at DEBUG."""
    stream = io.StringIO()
    log.configure(level="debug", stream=stream)
    logging.getLogger(name).info("GET https://hooks.slack.com/services/T/B/X")
    assert stream.getvalue() == ""


def test_the_level_holds_for_all() -> None:
    """Nothing below the level is written, whoever says it."""
    stream = io.StringIO()
    log.configure(level="warning", stream=stream)
    structlog.get_logger().info("quiet")
    logging.getLogger("any").info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_it_can_be_set_up_again() -> None:
    """The last set-up holds, and nothing is said twice."""
    first, second = io.StringIO(), io.StringIO()
    log.configure(stream=first)
    log.configure(stream=second)
    logging.getLogger("any").warning("once")
    structlog.get_logger().warning("twice")
    assert (first.getvalue(), len(lines(second))) == ("", 2)


def test_a_reader_who_went_away_stops_nothing() -> None:
    """A log line that cannot be written raises nothing in the service."""
    log.configure(stream=Gone())
    structlog.get_logger().warning("into the void")
    logging.getLogger("any").warning("into the void")


def test_secrets_can_be_learned_later() -> None:
    """What is added to the mask is hidden from then on."""
    stream = io.StringIO()
    mask = log.configure(stream=stream)
    mask.add(["learned-later"])
    structlog.get_logger().warning("x", y="learned-later")
    assert "learned" not in stream.getvalue()


@given(st.lists(st.text(min_size=log.SHORTEST_SECRET, max_size=30), max_size=4), st.text(max_size=50))
def test_no_masked_text_holds_a_secret(secrets: list[str], around: str) -> None:
    """After masking no registered secret of six characters or more stands in a text."""
    mask = log.Mask(secrets)
    masked = mask(around.join([*secrets, "x"]))
    assert not [secret for secret in secrets if secret in masked and not set(secret) <= {"*"}]
