"""Settings: what each place may say, which of them holds, and what a good file means."""

import os
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from poller.config import Allowance, Settings, load, rows, secret_values
from poller.config.values import parse_endpoint_url, parse_origin
from poller.watch.sources import SOURCES

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs="

SOURCE = '[sources.acme]\nkind = "drum"\ntoken = "tok-of-acme"\n'
WEBHOOK = f'[webhooks.billing]\nurl = "https://example.com/h"\nsecret = "{SECRET}"\n'


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Loads settings from a text, an environment and a `.env` in an empty directory."""

    def reading(text: str | None = None, *, dotenv: str | None = None, **environ: str) -> Settings:
        for name, content in (("poller.toml", text), (".env", dotenv)):
            if content is not None:
                (tmp_path / name).write_text(content)
                (tmp_path / name).chmod(0o600)
        return load(environ=environ, directory=tmp_path)

    return reading


def shown(settings: Settings) -> dict[str, Any]:
    """Values by name, as `poller config show` has them."""
    return {row.setting: row.value for row in rows(settings)}


def origin(settings: Settings, name: str) -> str:
    """Where one value came from, in words."""
    return next(str(row.origin) for row in rows(settings) if row.setting == name)


def test_nothing_at_all_is_fine(read: Any) -> None:
    """Without file and environment every value is the contract's default."""
    settings = read()
    assert (settings.data_dir, settings.redis.url, settings.redis.prefix) == (Path(".poller"), None, "poller")
    assert (settings.redis.retention, settings.redis.lease) == (timedelta(days=7), timedelta(seconds=15))
    assert (settings.web.host, settings.web.port, settings.web.token) == ("127.0.0.1", 8080, None)
    assert (settings.log.level, settings.sources, settings.webhooks) == ("info", {}, {})
    assert settings.warnings == ()


def test_a_source_needs_kind_and_token_alone(read: Any) -> None:
    """What a source does not say is the contract's default."""
    source = read(SOURCE).sources["acme"]
    assert source.token.get_secret_value() == "tok-of-acme"
    assert source.base_url == "https://app.getdrum.com"
    assert (source.every, source.max_age) == (timedelta(seconds=30), timedelta(hours=24))
    assert source.budget == Allowance(240, timedelta(minutes=5))
    assert (source.egress, source.details, source.baseline) == ("default", True, "silent")
    assert (source.won_statuses, source.hook_secret, source.recents, source.noise) == ((), None, False, False)


def test_an_endpoint_needs_url_and_secret_alone(read: Any) -> None:
    """What an endpoint does not say is the contract's default; its schedule spans 75.7 h."""
    webhook = read(WEBHOOK).webhooks["billing"]
    assert webhook.keys == (b"1\xf2\x90\xf6\xbf\x06)\x8a\xabO\x08\xd4<?\x08,\xf6H\xa3b\xda-\xa4\xb0",)
    assert (webhook.events, webhook.sources, webhook.start) == (("*",), ("*",), "now")
    assert (webhook.order, webhook.concurrency, webhook.rate) == ("subject", 8, None)
    assert len(webhook.schedule) == 12
    assert sum(webhook.schedule, timedelta()).total_seconds() / 3600 == pytest.approx(75.7, abs=0.05)


def test_everything_can_be_said(read: Any) -> None:
    """Every key of the contract is read as what it means."""
    settings = read(
        f"""
        data_dir = "/var/lib/poller"
        [redis]
        url = "rediss://:pw@r.example:6380/1"
        durability = "fsync"
        lease = "500ms"
        [web]
        host = "0.0.0.0"
        port = 0
        token = "a-long-enough-token"
        hosts = ["poller.example.com"]
        [sources.pipe-1]
        kind = "pipedrive"
        token = "t"
        base_url = "https://Acme.pipedrive.com/"
        budget = "80/2s"
        won_statuses = ["Signed", 7]
        recents = true
        [webhooks.b]
        url = "https://example.com/h?key=1"
        secrets = ["{SECRET}", "{OTHER}"]
        from = "oldest"
        rate = "10/s"
        headers = {{ Authorization = "Bearer x" }}
        schedule = ["0s", "1m"]
        allow_private = ["10.0.0.0/8", "fd00::1"]
        """
    )
    source, webhook = settings.sources["pipe-1"], settings.webhooks["b"]
    assert settings.redis.lease == timedelta(milliseconds=500)
    assert (source.base_url, source.won_statuses) == ("https://acme.pipedrive.com", ("Signed", "7"))
    assert source.budget.per_second == 40
    assert (len(webhook.keys), webhook.start, str(webhook.rate)) == (2, "oldest", "10/s")
    assert webhook.headers["authorization"].get_secret_value() == "Bearer x"
    assert webhook.allow_private == (ip_network("10.0.0.0/8"), ip_network("fd00::1/128"))


def test_a_budget_is_what_its_kind_counts(read: Any) -> None:
    """Pipedrive's default is in tokens, under three quarters of the smallest plan's day."""
    text = '[sources.{0}]\nkind = "{0}"\ntoken = "t"\nbase_url = "https://example.com"\n'
    settings = read("".join(text.format(kind) for kind in SOURCES))
    budgets = {name: str(given.budget) for name, given in settings.sources.items()}
    assert budgets == {"drum": "240/5m", "close": "240/5m", "pipedrive": "900/h"}
    assert settings.sources["pipedrive"].budget.per_second * 86_400 == pytest.approx(0.72 * 30_000)


def test_slack_is_slow_and_unsigned(read: Any) -> None:
    """A Slack endpoint needs no secret and sends one message a second unless told otherwise."""
    text = '[webhooks.{}]\nurl = "https://hooks.slack.com/services/T/B/X"\nformat = "slack"\n'
    settings = read(text.format("a") + text.format("b") + 'rate = "2/s"\n')
    assert (str(settings.webhooks["a"].rate), str(settings.webhooks["b"].rate)) == ("1/s", "2/s")


def test_the_environment_stands_over_the_file(read: Any) -> None:
    """Order: environment, file, default; and each value knows its origin."""
    settings = read(SOURCE + 'every = "1m"\nnoise = true\n', POLLER_SOURCES__ACME__EVERY="2m")
    assert settings.sources["acme"].every == timedelta(minutes=2)
    assert origin(settings, "sources.acme.every") == "env POLLER_SOURCES__ACME__EVERY"
    assert origin(settings, "sources.acme.noise").startswith("file ")
    assert origin(settings, "sources.acme.details") == "default"


def test_the_command_line_stands_over_all(tmp_path: Path) -> None:
    """What an option says holds, and its origin says so."""
    settings = load(
        environ={"POLLER_WEB__PORT": "1"}, directory=tmp_path, overrides={"web": {"port": 2}, "log": {}}
    )
    assert (settings.web.port, origin(settings, "web.port")) == (2, "command line")


def test_a_name_with_a_dash_is_written_with_an_underscore(read: Any) -> None:
    """POLLER_SOURCES__ACME_EU__… is the source acme-eu, in the file or not."""
    text = '[sources.acme-eu]\nkind = "drum"\ntoken = "old"\n'
    settings = read(
        text,
        POLLER_SOURCES__ACME_EU__TOKEN="new",
        POLLER_SOURCES__CLOSE_1__KIND="close",
        POLLER_SOURCES__CLOSE_1__TOKEN="key",
    )
    assert settings.sources["acme-eu"].token.get_secret_value() == "new"
    assert settings.sources["close-1"].base_url == "https://api.close.com"


def test_lists_and_tables_in_variables(read: Any) -> None:
    """A list is parted by commas or is JSON, headers are single variables or JSON."""
    settings = read(
        WEBHOOK,
        POLLER_WEBHOOKS__BILLING__EVENTS="*.won, *.lost",
        POLLER_WEBHOOKS__BILLING__SCHEDULE='["0s", "1s"]',
        POLLER_WEBHOOKS__BILLING__HEADERS__X_API_KEY="k",
    )
    webhook = settings.webhooks["billing"]
    assert webhook.events == ("*.won", "*.lost")
    assert webhook.schedule == (timedelta(), timedelta(seconds=1))
    assert webhook.headers["x-api-key"].get_secret_value() == "k"


def test_no_file_is_needed(read: Any) -> None:
    """POLLER_DRUM_TOKEN, POLLER_WEBHOOK_* and POLLER_SLACK_URL make a source and two endpoints."""
    settings = read(
        POLLER_DRUM_TOKEN="tok",
        POLLER_DRUM_BASE_URL="http://127.0.0.1:8310",
        POLLER_WEBHOOK_URL="https://example.com/h",
        POLLER_WEBHOOK_SECRET=SECRET,
        POLLER_WEBHOOK_ALLOW_PRIVATE="127.0.0.0/8",
        POLLER_SLACK_URL="https://hooks.slack.com/services/T/B/X",
        POLLER_REDIS_URL="redis://a",
        REDIS_URL="redis://b",
    )
    assert (settings.sources["drum"].kind, settings.sources["drum"].base_url) == (
        "drum",
        "http://127.0.0.1:8310",
    )
    assert settings.webhooks["webhook"].allow_private == (ip_network("127.0.0.0/8"),)
    assert settings.webhooks["slack"].format == "slack"
    assert settings.webhooks["slack"].events == (
        "*.won", "*.lost", "poller.source.suspended", "poller.source.held", "poller.source.resumed",
    )  # fmt: skip
    assert settings.redis.url is not None
    assert settings.redis.url.get_secret_value() == "redis://a"


def test_common_names_are_read_too(read: Any) -> None:
    """REDIS_URL and LOG_LEVEL hold where none of our own names speaks."""
    settings = read(REDIS_URL="redis://b", LOG_LEVEL="WARN")
    assert shown(settings)["redis.url"] == "redis://b"
    assert settings.log.level == "warning"


def test_the_file_can_shape_a_short_name(read: Any) -> None:
    """What the file says of [webhooks.slack] stands beside POLLER_SLACK_URL."""
    settings = read(
        '[webhooks.slack]\nevents = ["*.won"]\n', POLLER_SLACK_URL="https://hooks.slack.com/s/T/B/X"
    )
    assert settings.webhooks["slack"].events == ("*.won",)
    assert settings.webhooks["slack"].format == "slack"


def test_a_short_name_that_the_file_asks_for_makes_nothing_else(read: Any) -> None:
    """`${POLLER_DRUM_TOKEN}` in the file makes no second source that would publish everything twice."""
    settings = read(SOURCE.replace("tok-of-acme", "${POLLER_DRUM_TOKEN}"), POLLER_DRUM_TOKEN="tok")
    assert list(settings.sources) == ["acme"]
    assert settings.sources["acme"].token.get_secret_value() == "tok"


@pytest.mark.parametrize(
    ("comment", "variable", "setting"),
    [
        ('[redis]\n# url = "${POLLER_REDIS_URL}"', {"POLLER_REDIS_URL": "redis://prod"}, "redis.url"),
        ('# token = "${POLLER_DRUM_TOKEN}"', {"POLLER_DRUM_TOKEN": "tok"}, "sources.drum.token"),
        (
            '# url = "${POLLER_SLACK_URL}"',
            {"POLLER_SLACK_URL": "https://hooks.slack.com/s/T/B/X"},
            "webhooks.slack.url",
        ),
    ],
)
def test_a_comment_asks_for_nothing(read: Any, comment: str, variable: dict[str, str], setting: str) -> None:
    """A variable that only a comment of the file names holds as if the comment were not there."""
    assert origin(read(f"{comment}\n", **variable), setting) == f"env {next(iter(variable))}"


def test_empty_and_foreign_variables_say_nothing(read: Any) -> None:
    """An empty variable is unset, and what Kubernetes sets for Services named poller… is no setting."""
    settings = read(
        POLLER_REDIS_URL="",
        POLLER_PORT="tcp://10.0.0.1:80",
        POLLER_SERVICE_HOST="10.0.0.1",
        POLLER_WEB_PORT="tcp://10.0.0.1:80",
        POLLER_REDIS_SERVICE_PORT="6379",
        POLLER_REDIS_PORT_6379_TCP_ADDR="10.0.0.2",
    )
    assert settings.redis.url is None
    assert settings.warnings == ()


def test_references_in_the_file(read: Any) -> None:
    """`${NAME}` is replaced anywhere in a string, `$${` is a literal `${`, and nothing is replaced twice."""
    text = WEBHOOK.replace("https://example.com/h", "https://${HOST}/$${x}/${PART}")
    settings = read(text, HOST="example.com", PART="${HOST}")
    url = settings.webhooks["billing"].url.get_secret_value()
    assert url == "https://example.com/${x}/${HOST}"


def test_the_dotenv_beside_the_file(read: Any) -> None:
    """`.env` gives `${NAME}` and POLLER_ variables that the environment does not set, and no others."""
    dotenv = (
        "ACME='from dotenv'\nTOK=abc\nPOLLER_WEB__PORT=1234\nPOLLER_LOG__LEVEL=error\nREDIS_URL=redis://no\n"
    )
    settings = read(SOURCE.replace("tok-of-acme", "${TOK}"), dotenv=dotenv, POLLER_LOG__LEVEL="debug")
    assert settings.sources["acme"].token.get_secret_value() == "abc"
    assert (settings.web.port, settings.log.level, settings.redis.url) == (1234, "debug", None)
    assert origin(settings, "web.port").startswith("env POLLER_WEB__PORT (")


def test_secrets_in_files(read: Any, tmp_path: Path) -> None:
    """Every secret has a `_file` form, relative to the settings file; line ends at its end are cut off."""
    (tmp_path / "tok").write_text("abc\r\n")
    (tmp_path / "two").write_text(f"{SECRET}\n{OTHER}\n")
    (tmp_path / "heads").write_text("Authorization: Bearer a:b\n\nX-Key: k\n")
    text = """
    [sources.acme]
    kind = "drum"
    token_file = "tok"
    [webhooks.billing]
    url = "https://example.com"
    secrets_file = "two"
    headers_file = "heads"
    """
    settings = read(text, POLLER_WEB__TOKEN_FILE=str(tmp_path / "tok"))
    assert settings.sources["acme"].token.get_secret_value() == "abc"
    assert len(settings.webhooks["billing"].keys) == 2
    assert settings.webhooks["billing"].headers["authorization"].get_secret_value() == "Bearer a:b"
    assert settings.web.token is not None


def test_a_file_form_in_a_variable_stands_over_the_value_in_the_file(read: Any, tmp_path: Path) -> None:
    """`token` and `token_file` are one setting: the higher place holds, whichever form it takes."""
    (tmp_path / "tok").write_text("mounted")
    settings = read(SOURCE, POLLER_SOURCES__ACME__TOKEN_FILE="tok")
    assert settings.sources["acme"].token.get_secret_value() == "mounted"


def test_which_file_is_read(tmp_path: Path) -> None:
    """--config FILE, else POLLER_CONFIG, else poller.toml in the working directory."""
    for name in ("poller", "named", "option"):
        (tmp_path / f"{name}.toml").write_text(f'[redis]\nprefix = "{name}"\n')
    environ = {"POLLER_CONFIG": "named.toml"}
    assert load(environ={}, directory=tmp_path).redis.prefix == "poller"
    assert load(environ=environ, directory=tmp_path).redis.prefix == "named"
    assert load(Path("option.toml"), environ=environ, directory=tmp_path).redis.prefix == "option"


@pytest.mark.parametrize(
    ("text", "environ", "warning"),
    [
        (
            SOURCE + SOURCE.replace("acme", "bcme").replace("of-bcme", "of-acme"),
            {},
            (
                "sources.acme and sources.bcme read the same account with the same token: "
                "each change would be published twice; keep one of them"
            ),
        ),
        (
            SOURCE + 'base_url = "http://crm.example"\n',
            {},
            "sources.acme.base_url begins with http://: the token travels unencrypted; use https",
        ),
        (
            '[redis]\nretention = "1h"\n' + WEBHOOK,
            {},
            (
                "webhooks.billing.schedule goes on for 75.7h, longer than redis.retention = 1h: "
                "its last attempts may find nothing; lengthen retention"
            ),
        ),
        (
            SOURCE + WEBHOOK + 'sources = ["acmee"]\n',
            {},
            'webhooks.billing.sources = "acmee" matches no source; there is acme',
        ),
        (
            SOURCE + WEBHOOK + 'events = ["*.won", "poller.*", "drum.oportunity.won"]\n',
            {},
            (
                'webhooks.billing.events = "drum.oportunity.won" matches no event type; '
                'the nearest is "drum.opportunity.won"'
            ),
        ),
        (
            SOURCE + WEBHOOK + 'events = ["*.suspended"]\n',
            {},
            (
                'webhooks.billing.events = "*.suspended" matches no event type; '
                'the nearest is "poller.source.suspended"'
            ),
        ),
        (
            SOURCE + WEBHOOK + 'events = ["won"]\n',
            {},
            'webhooks.billing.events = "won" matches no event type; `poller schema` lists them',
        ),
        (
            "",
            {"POLLER_WEB__TOKEN": "short"},
            "web.token is shorter than 16 characters and can be guessed; take a longer one",
        ),
        (
            "",
            {"POLLER_WHATEVER": "x"},
            "POLLER_WHATEVER is no setting of poller and is not read; unset it, or give it another name",
        ),
    ],
)
def test_warnings(read: Any, text: str, environ: dict[str, str], warning: str) -> None:
    """What is allowed and yet deserves a word is said, in these words, and nothing else is."""
    assert read(text, **environ).warnings == (warning,)


def test_a_readable_file_with_a_secret_is_warned_of(read: Any, tmp_path: Path) -> None:
    """A settings file that others can read and that holds a secret gives a warning naming both."""
    read(SOURCE, dotenv="A=b")
    (tmp_path / "poller.toml").chmod(0o644)
    (tmp_path / ".env").chmod(0o640)
    one, two = load(environ={}, directory=tmp_path).warnings
    assert "poller.toml can be read by others (mode 0644) and holds sources.acme.token: chmod 600 it" in one
    assert ".env can be read by others (mode 0640): chmod 600 it" in two
    (tmp_path / "poller.toml").write_text(SOURCE.replace("tok-of-acme", "${T}"))
    assert len(load(environ={"T": "x"}, directory=tmp_path).warnings) == 1


def test_secrets_known_to_the_log(read: Any) -> None:
    """Every text that proves something is known, so that logs can hide it wherever it turns up."""
    settings = read(
        SOURCE
        + 'hook_secret = "hook"\nproxy = "http://u:prox%21@p:1"\n'
        + WEBHOOK
        + 'headers = {a = "Bearer tkn"}\n',
        POLLER_REDIS_URL="redis://:pass@h/0",
        POLLER_WEB__TOKEN="web-token-of-16-chars",
        POLLER_SLACK_URL="https://hooks.slack.com/services/T/B/X",
    )
    expected = {
        "tok-of-acme", "hook", "prox%21", "prox!", SECRET, SECRET.removeprefix("whsec_"), "Bearer tkn", "tkn",
        "pass", "web-token-of-16-chars", "/services/T/B/X",
    }  # fmt: skip
    assert expected <= secret_values(settings)
    assert "redis://:pass@h/0" not in secret_values(settings)


def test_the_settings_are_frozen(read: Any) -> None:
    """Nothing changes a setting after it was read."""
    with pytest.raises(ValueError, match="frozen"):
        read().redis.prefix = "x"


def test_direct_settings_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that are built in code do not look at the environment behind one's back."""
    monkeypatch.setitem(os.environ, "WEB__PORT", "1")
    monkeypatch.setitem(os.environ, "DATA_DIR", "/nowhere")
    assert Settings().data_dir == Path(".poller")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://API.Close.com", "https://api.close.com"),
        ("https://api.close.com:443/", "https://api.close.com"),
        ("https://api.close.com:0443", "https://api.close.com"),
        ("https://api.close.com.", "https://api.close.com"),
        ("https://api\u3002close.com\u3002", "https://api.close.com"),
        ("http://api.close.com:443", "http://api.close.com:443"),
        ("http://crm.test:0080", "http://crm.test"),
        ("https://Bücher.example", "https://xn--bcher-kva.example"),
        ("https://[0:0:0:0:0:0:0:1]:8443", "https://[::1]:8443"),
        ("http://127.0.0.1:8310", "http://127.0.0.1:8310"),
    ],
)
def test_a_host_has_one_spelling(written: str, read: str) -> None:
    """The budget is the host's, however its URL is written."""
    assert parse_origin(written) == read


@pytest.mark.parametrize("parse", [parse_origin, parse_endpoint_url])
@pytest.mark.parametrize("written", ["https://.", "https://api.close.com..", "https://api..close.com"])
def test_dots_alone_are_no_host(parse: Callable[[str], object], written: str) -> None:
    """A name with an empty part leads nowhere, and would be one more spelling."""
    with pytest.raises(ValueError, match="is no name of a host"):
        parse(written)


@pytest.mark.parametrize("parse", [parse_origin, parse_endpoint_url])
def test_a_port_needs_its_colon(parse: Callable[[str], object]) -> None:
    """Behind an address in brackets, too: what is meant as a port would be dropped, and another called."""
    with pytest.raises(ValueError, match="not a URL"):
        parse("https://[::1]8080")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://user:pass@example.com/", "no user information"),
        ("https://token@example.com/", "no user information"),
        ("https://@example.com/", "no user information"),
        ("ftp://example.com/", "not a URL"),
        ("file:///etc/passwd", "not a URL"),
        ("unix:///run/x.sock", "not a URL"),
        ("example.com/hook", "not a URL"),
        ("https://", "not a URL"),
        ("https://:443/", "not a URL"),
        ("https://example.com:0/", "not a URL"),
        ("https://example.com:99999/", "not a URL"),
        ("https://[::1/", "not a URL"),
    ],
)
def test_a_url_is_unfit_for_a_named_reason(url: str, says: str) -> None:
    """Of a receiver only http and https, with a host, without a user; the URL is not repeated."""
    with pytest.raises(ValueError, match=says) as refused:
        parse_endpoint_url(url)
    assert "example.com" not in str(refused.value)
