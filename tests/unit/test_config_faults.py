"""Wrong settings: one clear line each, all of them together, and never a secret in any of them."""

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poller.config import Settings, load, parse_duration, rows
from poller.config.models import SourceSettings, WebhookSettings
from poller.config.origins import SECRETS
from poller.config.values import LONGEST, format_duration, parse_allowance
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
        'sources.acme.base_url = "getdrum.com": not a URL that begins with http:// or https:// and a host',
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
    (HOOK + 'secret = "whsec_*"', f"webhooks.b.secret = ***: what follows whsec_ is not base64; {MAKE_ONE}"),
    (
        HOOK + 'secrets = ["whsec_AAAA"]',
        f"webhooks.b.secrets = ***: a webhook secret holds 24 to 64 bytes, this one 3; {MAKE_ONE}",
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
    ('[redis]\nprefix = "a{b}"', 'redis.prefix = "a{b}": 1 to 64 of A-Z, a-z, 0-9 and _ . : -'),
    ("sources = 3", "sources = 3: must be a table, [sources]"),
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


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A named file that is not there is a settings error, not a start without settings."""
    with pytest.raises(SettingsError, match=r"gone\.toml cannot be read \(No such file or directory\)"):
        load(Path("gone.toml"), environ={}, directory=tmp_path)


def test_a_drum_token_for_another_kind(tmp_path: Path) -> None:
    """POLLER_DRUM_TOKEN never lands in a source named drum that is something else."""
    (found,) = problems('[sources.drum]\nkind = "close"\ntoken = "x"\n', tmp_path, POLLER_DRUM_TOKEN="t")
    assert found == (
        'POLLER_DRUM_TOKEN is for a source of kind drum, but sources.drum.kind = "close"; '
        "give that source another name"
    )


def test_every_secret_type_is_on_the_list() -> None:
    """A setting whose type is secret is masked and has a `_file` form, and the other way round."""
    for section, model in (("sources", SourceSettings), ("webhooks", WebhookSettings)):
        typed = {name for name, field in model.model_fields.items() if "Secret" in str(field)}
        assert typed == SECRETS[section] - {"secret"}


@given(st.integers(0, LONGEST // timedelta(milliseconds=1)))
def test_durations_round_trip(milliseconds: int) -> None:
    """What is written for a duration is read as the same duration."""
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@given(st.integers(1, 10**6), st.integers(1, 10**7))
def test_allowances_round_trip(count: int, milliseconds: int) -> None:
    """What is written for a budget or a rate is read as the same."""
    allowance = parse_allowance(f"{count}/{milliseconds}ms")
    assert parse_allowance(str(allowance)) == allowance


@given(st.text())
def test_no_text_breaks_the_duration_reader(text: str) -> None:
    """A text is a duration or a ValueError, nothing else."""
    try:
        assert parse_duration(text) >= timedelta()
    except ValueError:
        return


CANARIES = st.text("abcXYZ019/+=:@%&?#${}\\'\" .-\n\té", min_size=1, max_size=30).map(
    lambda text: f"Q7J{text}J7Q"
)


@given(canary=CANARIES, good=st.booleans(), slot=st.integers(0, 9))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_secret_is_ever_shown(tmp_path: Path, canary: str, good: bool, slot: int) -> None:
    """No secret setting, good or bad, in any place, shows in repr, str, JSON, `config show` or an error."""
    if good:
        canary = "Q7J" + base64.b64encode(canary.encode()).decode().strip("=") + "J7Q"
    signing = "whsec_" + base64.b64encode(canary.encode().ljust(24, b"x")[:64]).decode()
    table: dict[str, Any] = {
        "redis": {"url": f"redis://:{canary}@h/0"},
        "web": {"token": canary, "metrics_token": canary},
        "sources": {
            "a": {"kind": "drum", "token": canary, "hook_secret": canary, "proxy": f"http://{canary}@p"}
        },
        "webhooks": {
            "s": {"format": "slack", "url": f"https://hooks.slack.com/{canary}"},
            "w": {"url": f"https://e.example/?k={canary}", "secret": signing, "headers": {"x": canary}},
        },
    }
    bad = [
        ("sources", "a", "tokn"), ("webhooks", "w", "secrets"), ("webhooks", "w", "secret"),
        ("redis", "url"), ("web", "token_file"), ("webhooks", "w", "url"), ("webhooks", "w", "headers"),
        ("sources", "a", "every"),
    ]  # fmt: skip
    environ = {"CANARY": canary.replace("\0", "")}
    if not good and slot < len(bad):
        *above, key = bad[slot]
        place = table
        for part in above:
            place = place[part]
        # A secret that lands in a setting that is not secret came by a reference, which is what is shown.
        place[key] = "${CANARY}" if key == "every" else canary.replace("${", "")
    try:
        loaded = load_table(table, tmp_path, environ)
    except SettingsError as exc:
        assert_hidden(canary, str(exc), repr(exc), repr(exc.__cause__), str(exc.__context__))
        return
    assert_hidden(
        canary,
        repr(loaded),
        str(loaded),
        loaded.model_dump_json(),
        str(loaded.model_dump()),
        "\n".join(str(row.value) for row in rows(loaded)),
        *loaded.warnings,
    )


def load_table(table: dict[str, Any], directory: Path, environ: dict[str, str]) -> Settings:
    """Load a nested table as if it stood in a file."""
    lines = []
    for section, content in table.items():
        subtables = content.items() if section in ("sources", "webhooks") else [("", content)]
        for name, values in subtables:
            lines.append(f"[{section}.{name}]" if name else f"[{section}]")
            lines += [f"{key} = {toml(value)}" for key, value in values.items()]
    (directory / "poller.toml").write_text("\n".join(lines))
    return load(environ=environ, directory=directory)


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def assert_hidden(canary: str, *texts: str) -> None:
    """Neither the secret nor the marks around it stand in the texts."""
    for text in texts:
        assert canary not in text
        assert "J7Q" not in text


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([{}])
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = st.sampled_from(
    """redis.url redis.lease web.port web.token log.level sources sources.a sources.a.kind sources.a.budget
    sources.a.won_statuses sources.a.token_file webhooks.b.headers webhooks.b.headers_file webhooks.b.secret
    webhooks.b.secrets webhooks.b.schedule webhooks.b.rate webhooks.b.allow_private data_dir""".split()
).map(lambda name: tuple(name.split(".")))


@given(st.dictionaries(KEYS, ANYTHING, max_size=5))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nonsense_is_a_settings_error(tmp_path: Path, given_values: dict[tuple[str, ...], Any]) -> None:
    """Values of any type in any place are settings or a SettingsError, never another exception."""
    overrides: dict[str, Any] = {}
    for path, value in sorted(given_values.items(), key=lambda item: len(item[0]), reverse=True):
        table = overrides
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table.setdefault(path[-1], value)
    try:
        load(environ={}, directory=tmp_path, overrides=overrides)
    except SettingsError:
        return
