"""Wrong settings: one clear line each, all of them together, and never a secret in any of them."""

from pathlib import Path

import pytest

from poller.config import load
from poller.config.models import SourceSettings, WebhookSettings
from poller.config.origins import SECRETS
from poller.errors import SettingsError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SOURCE = '[sources.acme]\nkind = "drum"\ntoken = "tok-of-acme"\n'
HOOK = '[webhooks.b]\nurl = "https://example.com/h"\n'
SIGNED = f'{HOOK}secret = "{SECRET}"\n'

DURATION = 'a duration is a whole number and a unit (ms, s, m, h, d), such as "30s", "5m" or "24h"'
MAKE_ONE = "make one with `poller webhooks secret`"


def problems(text: str, directory: Path, **environ: str) -> tuple[str, ...]:
    """What is wrong with these settings; nothing if they are good."""
    (directory / "poller.toml").write_text(text)
    try:
        load(environ=environ, directory=directory)
    except SettingsError as exc:
        return exc.problems
    return ()


FAULTY_FILES = [
    ("prefx = 1", "prefx: no such setting; known here: data_dir, redis, web, log, sources, webhooks"),
    ("[source.acme]\ntoken = 'x'", "source: no such setting; the nearest is sources"),
    (SOURCE + "evry = '1s'", "sources.acme.evry: no such setting; the nearest is sources.acme.every"),
    (
        SOURCE + "tokn_file = 'x'",
        "sources.acme.tokn_file: no such setting; the nearest is sources.acme.token_file",
    ),
    (
        SOURCE + "every_file = 'x'",
        "sources.acme.every_file: no such setting; the nearest is sources.acme.every",
    ),
    (SOURCE + 'every = "30 sec"', f'sources.acme.every = "30 sec": {DURATION}'),
    (SOURCE + "every = 30", f"sources.acme.every = 30: {DURATION}"),
    (SOURCE + 'every = "0s"', 'sources.acme.every = "0s": must be longer than 0s'),
    (SOURCE + 'every = "4000d"', 'sources.acme.every = "4000d": too long; at most 3650d'),
    (
        SOURCE + 'budget = "240"',
        'sources.acme.budget = "240": write a count, a slash and a time, such as "240/5m" or "10/s"',
    ),
    (SOURCE + 'budget = "0/5m"', 'sources.acme.budget = "0/5m": the count must be at least 1'),
    (SOURCE + 'details = "perhaps"', 'sources.acme.details = "perhaps": must be true or false'),
    (
        SOURCE + 'baseline = "emitt"',
        'sources.acme.baseline = "emitt": must be "silent" or "emit"; the nearest is "emit"',
    ),
    (
        SOURCE + 'base_url = "https://u:p@app.getdrum.com"',
        (
            'sources.acme.base_url = "https://***@app.getdrum.com": '
            "only scheme and host belong here, such as https://app.getdrum.com"
        ),
    ),
    (
        SOURCE + 'base_url = "getdrum.com"',
        'sources.acme.base_url = "***": not a URL that begins with http:// or https:// and a host',
    ),
    (
        '[sources.acme]\nkind = "drumm"\ntoken = "x"',
        'sources.acme.kind = "drumm": must be "drum", "close" or "pipedrive"; the nearest is "drum"',
    ),
    (
        '[sources.acme]\nkind = "drum"',
        (
            'sources.acme.token is missing; write token = "${DRUM_API_TOKEN}" (or token_file) under '
            "[sources.acme], or set POLLER_SOURCES__ACME__TOKEN"
        ),
    ),
    (
        '[sources.p]\nkind = "pipedrive"\ntoken = "x"',
        (
            'sources.p.base_url is missing; write base_url = "https://COMPANY.pipedrive.com" under '
            "[sources.p], or set POLLER_SOURCES__P__BASE_URL"
        ),
    ),
    (
        '[sources.p]\nkind = "pipedrive"\ntoken = "x"\nbase_url = "https://p.example.com"\nbudget = "10/5m"',
        (
            'sources.p.budget = "10/5m": one request costs up to 20 tokens: '
            'give it that many at least, or "900/1h"'
        ),
    ),
    (SOURCE.replace("tok-of-acme", ""), "sources.acme.token = ***: is empty"),
    (
        SOURCE.replace("acme]", "Acme_EU]"),
        'sources.Acme_EU: a name is 1 to 32 of a-z, 0-9 and -; write "acme-eu"',
    ),
    (
        SOURCE.replace("tok-of-acme", "${NOPE}"),
        "sources.acme.token: the environment variable NOPE is not set; export it, or put it into .env",
    ),
    (
        SOURCE.replace("tok-of-acme", "${NO-PE}"),
        "sources.acme.token: ${ begins a variable's name, as in ${NAME}; write $${ for a literal ${",
    ),
    (
        SOURCE.replace("token = ", "token_file = "),
        (
            "sources.acme.token_file: the file cannot be read (No such file or directory); "
            "mend the path or its rights"
        ),
    ),
    (
        HOOK,
        (
            f"webhooks.b.secret is missing, and every request is signed; {MAKE_ONE}; write secret = "
            '"${WEBHOOK_SECRET}" (or secret_file) under [webhooks.b], or set POLLER_WEBHOOKS__B__SECRET'
        ),
    ),
    (HOOK + 'secret = "abc"', f"webhooks.b.secret = ***: a webhook secret begins with whsec_; {MAKE_ONE}"),
    (
        HOOK + f'secret = {{new = "{SECRET}"}}',
        f"webhooks.b.secret.new: webhooks.b.secret must be a string; {MAKE_ONE}",
    ),
    (HOOK + 'secret = "whsec_*"', f"webhooks.b.secret = ***: what follows whsec_ is not base64; {MAKE_ONE}"),
    (
        HOOK + 'secrets = ["whsec_AAAA"]',
        f"webhooks.b.secrets = ***: a webhook secret has 24 to 64 bytes, not 3; {MAKE_ONE}",
    ),
    (
        SIGNED + f'secrets = ["{SECRET}"]',
        "webhooks.b.secrets and webhooks.b.secret say the same setting; keep one of them",
    ),
    (
        SIGNED.replace("https://", "https://user:pw@"),
        "webhooks.b.url = ***: no user information belongs in the URL; use headers for credentials",
    ),
    (SIGNED + "events = []", "webhooks.b.events = []: must hold 1 to 100 things"),
    (
        SIGNED + 'events = ["Won"]',
        'webhooks.b.events = "Won": an event type or a glob over it, such as "*.won" or "drum.project.*"',
    ),
    (
        SIGNED + 'from = "latest"',
        'webhooks.b.from = "latest": must be "now" or "oldest"; the nearest is "oldest"',
    ),
    (SIGNED + 'start = "now"', "webhooks.b.start: no such setting; the nearest is webhooks.b.secret"),
    (
        SIGNED + 'filter = "deal.amount >"',
        (
            "webhooks.b.filter = \"deal.amount >\": line 1, column 14: mismatched input '<EOF>'\n"
            "  deal.amount >\n               ^"
        ),
    ),
    (
        SIGNED + "filter = 'deal.amount > 10000.0 && type.endsWith(\".won\")'\nconcurrency = 0",
        "webhooks.b.concurrency = 0: must be at least 1",
    ),
    (SIGNED + "concurrency = 0", "webhooks.b.concurrency = 0: must be at least 1"),
    (
        SIGNED + 'allow_private = ["10.0.0.1/8"]',
        'webhooks.b.allow_private = "10.0.0.1/8": has bits set beyond its mask; write "10.0.0.0/8"',
    ),
    (
        SIGNED + "headers = {Webhook-Id = 'x'}",
        "webhooks.b.headers.Webhook-Id: this header cannot be set: it is the event's id",
    ),
    ("[web]\nport = 65536", "web.port = 65536: must be at most 65535"),
    (
        '[web]\nhost = "0.0.0.0"',
        (
            'web.token must be set because web.host = "0.0.0.0" can be reached from outside; write token = '
            '"${POLLER_WEB_TOKEN}" (or token_file) under [web], or set POLLER_WEB__TOKEN'
        ),
    ),
    (
        '[redis]\nurl = "http://x"',
        "redis.url = ***: not a URL that begins with redis:// or rediss:// or unix:// and a host",
    ),
    (
        '[redis]\nurl = "redis://h:1/prod"',
        "redis.url = ***: the path is the number of a database, as in redis://127.0.0.1:6379/0",
    ),
    ('[redis]\nprefix = "a{b}"', 'redis.prefix = "a{b}": 1 to 64 of A-Z, a-z, 0-9 and _ . : -'),
    (
        SOURCE + 'base_url = "https://app.getdrum.com?api_token=tok"',
        (
            'sources.acme.base_url = "https://app.getdrum.com?***": '
            "only scheme and host belong here, such as https://app.getdrum.com"
        ),
    ),
    ("sources = 3", "sources = ***: must be a table, [sources]"),
    (
        SIGNED.replace("[webhooks.b]", "[[webhooks.b]]"),
        "webhooks.b = ***: must be a table, [webhooks.b] with single brackets",
    ),
    (
        SIGNED.replace("[webhooks.b]", "[[webhooks]]"),
        "webhooks = ***: must be a table, [webhooks.NAME] with single brackets",
    ),
    ('[[web]]\ntoken = "t"', "web = ***: must be a table, [web] with single brackets"),
    (
        '[sources]\ntoken = "tok-of-acme"',
        "sources.token = ***: belongs to one of the sources; write it under its name, [sources.NAME]",
    ),
]


@pytest.mark.parametrize(("text", "problem"), FAULTY_FILES)
def test_one_line_for_each_fault_of_a_file(tmp_path: Path, text: str, problem: str) -> None:
    """A wrong setting is told in one line that names it, its value unless it is secret, and the remedy."""
    assert problems(text, tmp_path) == (problem,)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (
            {"POLLER_SOUCES__X__TOKEN": "x"},
            "POLLER_SOUCES__X__TOKEN: no such setting; the nearest is POLLER_SOURCES__X__TOKEN",
        ),
        ({"POLLER_WEB__PROT": "1"}, "POLLER_WEB__PROT: no such setting; the nearest is POLLER_WEB__PORT"),
        ({"POLLER_DRUM_TOKN": "1"}, "POLLER_DRUM_TOKN: no such setting; the nearest is POLLER_DRUM_TOKEN"),
        ({"POLLER_WEB_TOKEN": "1"}, "POLLER_WEB_TOKEN: no such setting; the nearest is POLLER_WEB__TOKEN"),
        ({"POLLER_WEB__PORT": "eighty"}, 'POLLER_WEB__PORT = "eighty": must be a whole number'),
        ({"POLLER_LOG": "x"}, "POLLER_LOG: is a section; write one setting of it, such as POLLER_LOG__LEVEL"),
        (
            {"POLLER_WEBHOOK_URL": "https://example.com"},
            (
                f"webhooks.webhook.secret is missing, and every request is signed; {MAKE_ONE}; "
                'write secret = "${WEBHOOK_SECRET}" (or secret_file) under [webhooks.webhook], or set '
                "POLLER_WEBHOOK_SECRET"
            ),
        ),
        (
            {"POLLER_DRUM_BASE_URL": "https://d.example"},
            (
                "sources.drum.token is missing (POLLER_DRUM_BASE_URL asks for it); write token = "
                '"${DRUM_API_TOKEN}" (or token_file) under [sources.drum], or set POLLER_DRUM_TOKEN'
            ),
        ),
        (
            {
                "POLLER_SOURCES__A__TOKEN": "x",
                "POLLER_SOURCES__A__KIND": "drum",
                "POLLER_SOURCES__a__KIND": "close",
            },
            "POLLER_SOURCES__a__KIND and POLLER_SOURCES__A__KIND say the same setting; keep one of them",
        ),
    ],
)
def test_one_line_for_each_fault_of_a_variable(tmp_path: Path, environ: dict[str, str], problem: str) -> None:
    """What is wrong with a variable is told by the variable's name."""
    assert problems("", tmp_path, **environ) == (problem,)


NAMED = (
    "a setting of one source is written POLLER_SOURCES__ACME__TOKEN, "
    "of one endpoint POLLER_WEBHOOKS__BILLING__URL"
)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("WEBHOOK_EVENTS", "the nearest is POLLER_WEBHOOKS__WEBHOOK__EVENTS"),
        ("WEBHOOK_SECRETS", "the nearest is POLLER_WEBHOOK_SECRET"),
        ("SLACK_EVENTS", "the nearest is POLLER_WEBHOOKS__SLACK__EVENTS"),
        ("DRUM_EVERY", "the nearest is POLLER_SOURCES__DRUM__EVERY"),
        ("DRUMM_TOKEN", "the nearest is POLLER_DRUM_TOKEN"),
        (
            "CLOSE_TOKEN",
            "the nearest is POLLER_SOURCES__CLOSE__TOKEN, beside POLLER_SOURCES__CLOSE__KIND=close",
        ),
        (
            "PIPEDRIVE_BASE_URL",
            (
                "the nearest is POLLER_SOURCES__PIPEDRIVE__BASE_URL, "
                "beside POLLER_SOURCES__PIPEDRIVE__KIND=pipedrive"
            ),
        ),
        ("SOURCES_ACME_TOKEN", NAMED),
        ("ACME_TOKEN", NAMED),
        ("TOKEN", NAMED),
        ("WEB_TOKEN_FILE", "the nearest is POLLER_WEB__TOKEN_FILE"),
        ("PORT", "the nearest is POLLER_WEB__PORT"),
        ("LOG_FILE", "known here: POLLER_LOG__LEVEL"),
        ("DATADIR", "the nearest is POLLER_DATA_DIR"),
    ],
)
def test_a_variable_that_is_nearly_one_of_ours(tmp_path: Path, name: str, remedy: str) -> None:
    """A variable that speaks of something of ours is a fault with the name that was meant; no token of a
    CRM is led into another secret."""
    assert problems("", tmp_path, **{f"POLLER_{name}": "1"}) == (f"POLLER_{name}: no such setting; {remedy}",)


def test_all_faults_are_told_together(tmp_path: Path) -> None:
    """Faults of file, environment, `.env` and mounted secrets come in one error."""
    (tmp_path / ".env").write_text("GOOD=1\nthis is none\n")
    text = (
        SOURCE.replace("tok-of-acme", "${NOPE}")
        + 'evry = "1s"\nbudget = "x"\n'
        + HOOK
        + 'secret_file = "gone"\n'
    )
    found = problems(text, tmp_path, POLLER_WEB__PORT="x", POLLER_LOG="y")
    starts = [
        f"{tmp_path / '.env'}: line 2 is not NAME=value", "sources.acme.token: ", "webhooks.b.secret_file: ",
        "POLLER_LOG: ", "POLLER_WEB__PORT = ", "sources.acme.budget = ", "sources.acme.evry: ",
    ]  # fmt: skip
    assert [line for start in starts for line in found if line.startswith(start)] == list(found)
    assert len(found) == len(starts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sources.a]\n[sources.a]\n", "something is written twice: Cannot declare ('sources', 'a') twice"),
        ("[web]\nport = 1\nport = 2\n", "something is written twice: Cannot overwrite a value"),
        ("[web\n", "is not TOML: "),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, text: str, said: str) -> None:
    """A file that cannot be parsed is one problem with its place, and nothing is called missing after it."""
    (found,) = problems(text, tmp_path, POLLER_SOURCES__A__EVERY="1s")
    assert said in found
    assert "line" in found


def test_variables_of_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """What `poller init` puts into `.env` is no fault while the file that asks for it is broken."""
    text = '[web]\ntoken = "${POLLER_WEB_TOKEN}"\n'
    assert len(problems(f"{text}port = \n", tmp_path, POLLER_WEB_TOKEN="x")) == 1
    with pytest.raises(SettingsError) as caught:
        load(Path("poler.toml"), environ={"POLLER_WEB_TOKEN": "x"}, directory=tmp_path)
    assert len(caught.value.problems) == 1


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A named file that is not there is a settings error, not a start without settings."""
    with pytest.raises(SettingsError, match=r"gone\.toml cannot be read \(No such file or directory\)"):
        load(Path("gone.toml"), environ={}, directory=tmp_path)


@pytest.mark.parametrize("name", ["POLLER_DRUM_TOKEN", "POLLER_DRUM_TOKEN_FILE", "POLLER_DRUM_BASE_URL"])
@pytest.mark.parametrize("where", ["file", "variable"])
def test_a_drum_variable_for_another_kind(tmp_path: Path, name: str, where: str) -> None:
    """What POLLER_DRUM_… says never lands in a source named drum that is something else."""
    (tmp_path / "mounted").write_text("t")
    value = {"POLLER_DRUM_TOKEN_FILE": "mounted", "POLLER_DRUM_BASE_URL": "https://d.example"}.get(name, "t")
    kind = {"POLLER_SOURCES__DRUM__KIND": "close"} if where == "variable" else {}
    text = '[sources.drum]\ntoken = "x"\n' + ('kind = "close"\n' if where == "file" else "")
    (found,) = problems(text, tmp_path, **kind, **{name: value})
    assert found == (
        f'{name} is for a source of kind drum, but sources.drum.kind = "close"; give that source another name'
    )


def test_a_drum_token_that_the_file_has_taken(tmp_path: Path) -> None:
    """A variable that another source asks for says nothing of the source named drum."""
    text = (
        SOURCE.replace("tok-of-acme", "${POLLER_DRUM_TOKEN}")
        + '[sources.drum]\nkind = "close"\ntoken = "x"\n'
    )
    assert problems(text, tmp_path, POLLER_DRUM_TOKEN="t") == ()


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (SIGNED.replace("[webhooks.b]", "[[webhooks.b]]"), {}),
        (SIGNED.replace("[webhooks.b]", "[[webhooks]]"), {}),
        (SIGNED.replace("[webhooks.b]", "[webhooks]"), {}),
        (SOURCE.replace("tok-of-acme", SECRET).replace("[sources.acme]", "[[sources.acme]]"), {}),
        (SOURCE.replace("tok-of-acme", SECRET).replace("[sources.acme]", "[sources]"), {}),
        (SOURCE + f'base_url = "https://app.getdrum.com/?api_token={SECRET}"', {}),
        (f'[[web]]\ntoken = "{SECRET}"', {}),
        ("", {"POLLER_SOURCES__ACME": SECRET}),
        ("", {"POLLER_WEBHOOKS__BILLING": f"https://hooks.slack.com/services/T/B/{SECRET}"}),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(tmp_path: Path, text: str, environ: dict[str, str]) -> None:
    """Where a table is written in another form, what stands in it is not repeated."""
    found = problems(text, tmp_path, **environ)
    assert found
    assert not [line for line in found if SECRET in line or "whsec_" in line]


def test_a_short_name_that_the_file_has_taken(tmp_path: Path) -> None:
    """A variable that a setting of the file asks for is not named as the remedy for another one."""
    text = SOURCE.replace("tok-of-acme", "${POLLER_DRUM_TOKEN}")
    (found,) = problems(text, tmp_path, POLLER_DRUM_TOKEN="t", POLLER_DRUM_BASE_URL="https://d.example")
    assert found == (
        "sources.drum.token is missing (POLLER_DRUM_BASE_URL asks for it, and POLLER_DRUM_TOKEN is taken "
        'for sources.acme.token); write token = "${DRUM_API_TOKEN}" (or token_file) under [sources.drum], '
        "or set POLLER_SOURCES__DRUM__TOKEN"
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:1/x",
        "redis://h:1/1/2",
        "redis://127.0.0.1:1?foo=bar",
        "unix:///tmp/x.sock?db=1&foo=1",
        "redis://h?socket_timeout=abc",
        "redis://h?db=x",
        "redis://h?health_check_interval=x",
        "redis://h?protocol=9",
        "redis://h?ssl_ca_certs=ca.pem",
        "rediss://h?ssl_cert_reqs=nonsense",
    ],
)
def test_a_redis_url_that_no_connection_can_be_made_from(tmp_path: Path, url: str) -> None:
    """A URL that the client could not use, or would read as another database, is a fault of the settings."""
    (found,) = problems("", tmp_path, POLLER_REDIS_URL=url)
    assert found.startswith("POLLER_REDIS_URL = ***: ")
    assert "database" in found or "option" in found


@pytest.mark.parametrize(
    "url",
    [
        "redis://h", "redis://h/", "redis://h:1/3", "redis://:p%2Fw@[::1]:1/0?protocol=3", "unix:///x.sock?db=1",
        "rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem", "redis://h?socket_keepalive=1&client_name=poller",
    ],
)  # fmt: skip
def test_a_redis_url_with_what_a_connection_takes(tmp_path: Path, url: str) -> None:
    """A database and the client's own options may stand in the URL."""
    assert problems("", tmp_path, POLLER_REDIS_URL=url) == ()


def test_every_secret_type_is_on_the_list() -> None:
    """A setting whose type is secret is masked and has a `_file` form, and the other way round."""
    for section, model in (("sources", SourceSettings), ("webhooks", WebhookSettings)):
        typed = {name for name, field in model.model_fields.items() if "Secret" in str(field)}
        assert typed == SECRETS[section] - {"secret"}
