"""The command line, as a process: init, config show, webhooks secret, simulate, and how it fails."""

import json
import os
import pty
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.cli import run
from poller.cli.init import dotenv_text
from poller.cli.output import clean
from poller.cli.root import app
from poller.config import load, parse_dotenv
from poller.errors import StoreRefused, StoreUnavailable

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30
FLAGS = ("--kind", "drum", "--name", "acme", "--token", "tok-$en'\\{")


def poller(*arguments: str, cwd: Path, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    clean_path = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "poller", *arguments],
        cwd=cwd, input=stdin, env=clean_path | environ, capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the program as a shell does that redirects it."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    program = f"exec {shlex.quote(sys.executable)} -W error -m poller {line}"
    return subprocess.run(
        ["/bin/sh", "-c", program], cwd=cwd, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code(tmp_path: Path, closed: str) -> None:
    """Where stdin, stdout or stderr is closed, what is said goes nowhere; the exit code stays true."""
    done = shell(f"config show {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) is (closed == "2>&-")
    assert shell(f"config nope {closed}", tmp_path).returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
@pytest.mark.parametrize("command", ["config show", "config show --json"])
def test_a_full_disk_is_no_fault_of_ours(tmp_path: Path, command: str) -> None:
    """What cannot be printed is told in one line that names the reason."""
    done = shell(f"{command} >/dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "error: what is printed cannot be written (No space left on device): make room there, or print it "
        "elsewhere\n"
    )


def test_init_writes_what_works(tmp_path: Path) -> None:
    """init with options writes both files for their owner alone; they load, and no secret is in the TOML."""
    done = poller(
        "init", *FLAGS, "--slack-url", "https://hooks.slack.com/services/T/B/X", "--webhook-url",
        "https://example.com/${x}", cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "poller check" in done.stdout
    for name in ("poller.toml", ".env"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    settings = load(environ={}, directory=tmp_path)
    assert settings.sources["acme"].token.get_secret_value() == FLAGS[-1]
    assert settings.webhooks["webhook"].url.get_secret_value() == "https://example.com/${x}"
    assert len(settings.webhooks["webhook"].keys[0]) == 32
    assert settings.webhooks["slack"].format == "slack"
    assert settings.web.token is not None
    assert settings.warnings == ()
    toml = (tmp_path / "poller.toml").read_text()
    assert FLAGS[-1] not in toml
    assert "services" not in toml
    assert "whsec_" not in toml


def test_init_lets_receivers_on_this_machine_in(tmp_path: Path) -> None:
    """What init wrote for receivers on this machine, Slack's stand-in too, is not refused afterwards."""
    url = "http://127.0.0.1:9000/"
    done = poller("init", *FLAGS, "--slack-url", url, "--webhook-url", url, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    webhooks = load(environ={}, directory=tmp_path).webhooks
    assert [[str(net) for net in webhooks[name].allow_private] for name in ("slack", "webhook")] == [
        ["127.0.0.0/8", "::1/128"]
    ] * 2


def test_init_makes_other_secrets_each_time(tmp_path: Path) -> None:
    """Two inits share no secret."""
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        poller("init", *FLAGS, cwd=tmp_path / name)
        texts.append(
            set(
                re.findall(
                    r"^(?:WEBHOOK_SECRET|POLLER_WEB_TOKEN)=.*",
                    (tmp_path / name / ".env").read_text(),
                    re.MULTILINE,
                )
            )
        )
    assert len(texts[0]) == len(texts[1]) == 2
    assert not texts[0] & texts[1]


@pytest.mark.parametrize("existing", ["poller.toml", ".env"])
def test_init_never_overwrites(tmp_path: Path, existing: str) -> None:
    """Where one of the files is there, init names it, exits 2 and writes neither."""
    (tmp_path / existing).write_text("mine")
    done = poller("init", *FLAGS, cwd=tmp_path)
    assert done.returncode == 2
    assert f"error: {existing} is there already and is not overwritten" in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(existing, "mine")]


def test_init_without_a_terminal_names_the_options(tmp_path: Path) -> None:
    """Without a terminal init says which options are missing, all at once, and writes nothing."""
    done = poller("init", "--kind", "pipedrive", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --token is missing, and there is no terminal to ask on; give --token",
        "error: --base-url is missing, and there is no terminal to ask on; give --base-url",
    ]
    assert list(tmp_path.iterdir()) == []


def test_init_judges_before_it_writes(tmp_path: Path) -> None:
    """An answer that is no good is told, without the token, and nothing is written."""
    done = poller("init", "--kind", "drum", "--name", "acme", "--token", "to ken", cwd=tmp_path)
    assert done.returncode == 2
    assert "sources.acme.token = ***: holds a space" in done.stderr
    assert "to ken" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "near"), [("Bad Name", "bad-name"), ("a.b", "a-b"), ('x"]\n[web', "x-web"), ("A_B", "a-b")]
)
def test_init_judges_the_name_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, near: str
) -> None:
    """A name that is none is told as --name with one that would do, and is never put into a file's text."""
    config = tmp_path / "q.toml"
    assert run(["init", *FLAGS, "--name", name, "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert f'a name is 1 to 32 of a-z, 0-9 and -; write "{near}"' in said.replace("\n", " ")
    assert said.startswith("error: --name = ")
    assert "TOML" not in said
    assert list(tmp_path.iterdir()) == []


def test_init_takes_the_token_from_stdin(tmp_path: Path) -> None:
    """`--token -` keeps the token out of the list of processes."""
    done = poller(
        "init", "--kind", "close", "--token", "-", "--config", "my.toml", cwd=tmp_path, stdin="api_1\n"
    )
    assert done.returncode == 0, done.stderr
    assert "poller check --config my.toml" in done.stdout
    settings = load(Path("my.toml"), environ={}, directory=tmp_path)
    assert settings.sources["close"].token.get_secret_value() == "api_1"


DIALOGUE = (
    (b"Which CRM (drum, close, pipedrive)? [drum]", b"drom\n"),
    (b"That will not do.\nWhich CRM (drum, close, pipedrive)? [drum]", b"drum\n"),
    (b"What shall the source be called? [drum]", b"Acme Ltd\n"),
    (b"That will not do.\nWhat shall the source be called? [drum]", b"acme\n"),
    # The space comes after the terminal's echo is off, which drops what was typed before.
    (b"Its API token (not shown)? ", b"tok-of-acme\n"),
    (b"A Slack webhook for won and lost deals (Enter for none)?", b"\n"),
    (b"A URL that shall receive all events, signed (Enter for none)?", b"\n"),
)


def test_init_asks_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal init asks for what no option says, and does not show the token."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "poller", "init"],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        stdin=child, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for question, answer in DIALOGUE:
            said = b""
            while not said.endswith(question):
                piece = os.read(process.stderr.fileno(), 4096)
                assert piece, f"it ended before it asked {question!r}: {said!r}"
                said += piece
            os.write(parent, answer)
        _, rest = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.communicate()
        os.close(parent)
        os.close(child)
    assert (process.returncode, rest) == (0, b"")
    assert load(environ={}, directory=tmp_path).sources["acme"].token.get_secret_value() == "tok-of-acme"


def test_config_show_masks_and_names_origins(tmp_path: Path) -> None:
    """config show prints every value with its origin, as a table and as JSON, and no secret."""
    poller("init", *FLAGS, cwd=tmp_path)
    table = poller("config", "show", cwd=tmp_path, POLLER_WEB__PORT="9")
    assert re.search(r"^web\.port +9 +env POLLER_WEB__PORT$", table.stdout, re.MULTILINE)
    token = r"^sources\.acme\.token +\*\*\* +file poller\.toml, env DRUM_API_TOKEN"
    assert re.search(rf"{token} \(\.env\)$", table.stdout, re.MULTILINE)
    exported = poller("config", "show", cwd=tmp_path, DRUM_API_TOKEN="another").stdout
    assert re.search(rf"{token}$", exported, re.MULTILINE)
    assert re.search(r"^sources\.acme\.budget +240/5m +default$", table.stdout, re.MULTILINE)
    shown = json.loads(poller("config", "show", "--json", cwd=tmp_path).stdout)
    assert {"setting": "redis.retention", "value": "7d", "origin": "default"} in shown["settings"]
    assert shown["warnings"] == []
    assert FLAGS[-1] not in table.stdout + json.dumps(shown)


def test_config_is_taken_before_and_after_the_command(tmp_path: Path) -> None:
    """--config names the file in either place; the one after the command holds."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(f'[redis]\nprefix = "of-{name}"\n')
    assert "of-a" in poller("--config", "a.toml", "config", "show", cwd=tmp_path).stdout
    assert "of-b" in poller("config", "show", "--config", "b.toml", cwd=tmp_path).stdout
    assert "of-b" in poller("--config", "a.toml", "config", "show", "--config", "b.toml", cwd=tmp_path).stdout


def test_settings_faults_exit_2_without_a_traceback(tmp_path: Path) -> None:
    """Every problem is one line on stderr, stdout stays empty, and the exit code is 2."""
    (tmp_path / "poller.toml").write_text("[web]\nprot = 1\nport = 'x'\n")
    done = poller("config", "show", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        'error: web.port = "x": must be a whole number',
        "error: web.prot: no such setting; the nearest is web.port",
    ]


@pytest.mark.parametrize(
    "arguments", [("bogus",), ("config", "show", "--nope"), ("simulate",), ("simulate", "hubspot")]
)
def test_usage_faults_exit_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A wrong command, option or argument exits 2 without a traceback."""
    done = poller(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_fresh_secret_each_time(tmp_path: Path) -> None:
    """webhooks secret prints a whsec_ of 32 bytes, another one each time, and as JSON."""
    first = poller("webhooks", "secret", cwd=tmp_path).stdout.strip()
    second = json.loads(poller("webhooks", "secret", "--json", cwd=tmp_path).stdout)["secret"]
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", first)
    assert first != second


def test_the_version(tmp_path: Path) -> None:
    """--version prints the name and the version."""
    assert re.fullmatch(r"poller \d+\.\d+\.\d+\n", poller("--version", cwd=tmp_path).stdout)


def test_simulate_serves_until_interrupted(tmp_path: Path) -> None:
    """simulate drum answers over real HTTP at the place its first line names, and Ctrl-C ends it quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "poller", "simulate", "drum", "--port", "0", "--records", "5", "--pace", "0"],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url, token = re.search(r"(http://\S+) +token (\S+)", process.stdout.readline()).groups()  # type: ignore[union-attr]
    answer = httpx.get(f"{url}/api/v1/opportunities", headers={"authorization": f"Bearer {token}"})
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (answer.status_code, process.returncode, errors) == (200, 0, "")


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (StoreUnavailable("Redis cannot be reached"), 69, "error: Redis cannot be reached\n"),
        (StoreRefused("too old"), 69, "error: too old\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_faults_become_exit_codes(
    fault: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a command raises becomes the contract's exit code and one line, never a traceback."""

    @app.command("raise", hidden=True)
    def raising() -> None:
        raise fault

    try:
        assert run(["raise"]) == code
    finally:
        app.registered_commands.pop()
    assert capsys.readouterr().err == said


def test_ctrl_c_while_it_loads(tmp_path: Path) -> None:
    """Ctrl-C before the command line is loaded ends the program without a traceback."""
    interrupted = """
import runpy, sys
import poller

class Finder:
    def find_spec(self, name, *_):
        if name == "poller.cli.check":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
runpy.run_module("poller", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", interrupted],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_demo_prints_data_alone_as_json(tmp_path: Path) -> None:
    """`demo --json` prints one CloudEvent a line on stdout, and everything else on stderr."""
    done = poller("demo", "--json", "--events", "2", "--pace", "20", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(events) >= 2
    assert {event["source"] for event in events} == {"/drum/demo"}
    assert "delivered and verified" in done.stderr


@pytest.mark.parametrize(("how", "lines", "last"), [("--json", 1, "/drum/demo"), ("", 6, "source/demo")])
def test_demo_ends_when_its_reader_goes(tmp_path: Path, how: str, lines: int, last: str) -> None:
    """`demo | head` is over soon after those lines, without a traceback."""
    demo = f"{shlex.quote(sys.executable)} -m poller demo {how} --pace 20"
    told = subprocess.check_output(
        f"{demo} 2>said | head -n {lines}", shell=True, cwd=tmp_path, text=True, timeout=100
    )
    assert last in told.splitlines()[-1]
    assert "Traceback" not in (tmp_path / "said").read_text()


def test_every_command_takes_config_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of every group takes --config."""
    groups = {(): app} | {(group.name,): group.typer_instance for group in app.registered_groups}
    commands = [
        (*path, info.name or info.callback.__name__.replace("_", "-"))
        for path, group in groups.items()
        for info in group.registered_commands
    ]
    assert ("config", "show") in commands
    for command in commands:
        assert run([*command, "--help"]) == 0
        assert "--config" in capsys.readouterr().out, command


def test_terminals_are_not_driven_by_names() -> None:
    """An escape sequence in a name is shown, not obeyed."""
    assert clean("a\x1b[2Jb\u202e") == "a\\x1b[2Jb\\u202e"


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_dotenv_round_trip(value: str) -> None:
    """What init writes into .env is read as it was, whatever stands in it."""
    assert parse_dotenv(dotenv_text({"A": value}), Path(".env")) == ({"A": value}, [])


TABBED = """
[sources.acme]
kind = "drum"
token = "t"

[webhooks.billing]
url = "https://example.com/hooks"
secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("poller sources pause ", "acme"),
        ("poller webhooks resend b", "billing"),
        ("poller events --type drum.opportunity.w", "drum.opportunity.won"),
        ("poller events --source ", "acme"),
        ("poller simulate p", "pipedrive"),
        ("poller --config other.toml sources pause ", "other"),
        ("poller sources pause --config wrong.toml ", ""),
    ],
)
def test_tab_offers_what_fits(
    typed: str,
    offered: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The shell offers the names of the settings and the types of events; wrong settings offer nothing."""
    for name, text in {"poller": TABBED, "other": TABBED.replace("acme", "other"), "wrong": "x = 1"}.items():
        (tmp_path / f"{name}.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_POLLER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    assert run([]) == 0
    captured = capsys.readouterr()
    assert (captured.out.split(), captured.err) == (offered.split(), "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash is installed")
def test_completion_is_installed_and_works_in_a_shell(tmp_path: Path) -> None:
    """--install-completion teaches a shell, which from then on completes the names of the settings."""
    (tmp_path / "poller.toml").write_text(TABBED)
    program = tmp_path / "poller"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m poller "$@"\n')
    program.chmod(0o700)
    asked = """
    poller --install-completion >&2; . ~/.bashrc
    COMP_WORDS=(poller webhooks test ""); COMP_CWORD=3
    _poller_completion poller; echo "${COMPREPLY[@]}"
    """
    shell = subprocess.run(
        ["bash", "--norc", "-c", asked],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert (shell.returncode, shell.stdout) == (0, "billing\n"), shell.stderr


def test_schema_out_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A directory that cannot be made is told by its name and reason, and is no fault of poller's."""
    (tmp_path / "file").touch()
    done = poller("schema", "--out", "file/schemas", cwd=tmp_path)
    said = "error: --out file/schemas: cannot be written (Not a directory); name another directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
