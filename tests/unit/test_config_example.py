"""deploy/poller.example.toml names every setting, and is true."""

import re
from pathlib import Path

from poller.config import Settings, load, rows
from poller.config.models import (
    LogSettings,
    RedisSettings,
    SourceSettings,
    WebhookSettings,
    WebSettings,
)

EXAMPLE = Path(__file__).parents[2] / "deploy" / "poller.example.toml"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRON = {
    "POLLER_WEB_TOKEN": "a-long-enough-web-token",
    "DRUM_API_TOKEN": "tok",
    "BILLING_WEBHOOK_SECRET": SECRET,
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/X",
}
DEFAULT_LINE = re.compile(r"^#(?=[a-z_]+ = )", re.MULTILINE)
EXAMPLE_LINE = re.compile(r"^# (?=url = |\[|format = |events = )", re.MULTILINE)


def loaded(text: str, directory: Path) -> Settings:
    """The settings that a text gives."""
    (directory / "poller.toml").write_text(text)
    return load(environ=ENVIRON, directory=directory)


def test_it_can_be_used_as_it_is(tmp_path: Path) -> None:
    """The example is a good settings file, without a warning."""
    settings = loaded(EXAMPLE.read_text(), tmp_path)
    assert (list(settings.sources), list(settings.webhooks)) == (["acme"], ["billing"])
    assert settings.warnings == ()


def test_what_it_calls_a_default_is_one(tmp_path: Path) -> None:
    """Taking the # away from every default changes nothing."""
    as_it_is = loaded(EXAMPLE.read_text(), tmp_path)
    spelled_out = loaded(DEFAULT_LINE.sub("", EXAMPLE.read_text()), tmp_path)
    assert [(row.setting, row.value) for row in rows(spelled_out)] == [
        (row.setting, row.value) for row in rows(as_it_is)
    ]


def test_its_other_examples_hold(tmp_path: Path) -> None:
    """What stands behind "# " as an example is good too."""
    settings = loaded(EXAMPLE_LINE.sub("", EXAMPLE.read_text()), tmp_path)
    assert settings.webhooks["slack"].format == "slack"
    assert settings.redis.url is not None


def test_it_names_every_setting() -> None:
    """No setting is missing in the example."""
    named = set(re.findall(r"^#? ?([a-z_]+) = ", EXAMPLE.read_text(), re.MULTILINE))
    for model in (RedisSettings, WebSettings, LogSettings, SourceSettings, WebhookSettings):
        for name, field in model.model_fields.items():
            assert (field.alias or name).removesuffix("s" if name == "secrets" else "") in named
