"""Alerts, dashboard and runbook hold to the code: every metric, label, command and section in them exists."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import aiohttp
import promql_parser as promql
import pytest
import yaml
from processes import home
from prometheus_client.parser import text_string_to_metric_families
from receiver import receiving
from typer.main import get_command
from waiting import wait_until

from poller.cli import app
from poller.simulators import Options, serve
from poller.web.answers import EndpointWord, SourceState

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
RUNBOOK = (DEPLOY / "README.md").read_text("utf-8")
RULES: list[dict[str, Any]] = yaml.safe_load(
    (DEPLOY / "prometheus" / "poller.rules.yaml").read_text("utf-8")
)["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "poller.json").read_text("utf-8"))
PROMETHEUS = {"up": {"job", "instance"}}
"""What a scrape itself makes."""
TARGET = {"job", "instance"}
"""Labels that Prometheus adds to every sample."""
WORDS = {*get_args(SourceState), *get_args(EndpointWord), "complete", "incomplete"}
"""What a label that is compared may say."""

Labels = Mapping[str, set[str]]


async def scraped(url: str) -> dict[str, set[str]]:
    """The labels of every sample, by its name."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}/metrics") as answer:
        text = await answer.text()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def selectors(node: Any) -> Iterator[Any]:
    """Every selector within an expression."""
    if isinstance(node, promql.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (part := getattr(node, name, None)) is not None:
            yield from selectors(part)
    for part in getattr(node, "args", ()):
        yield from selectors(part)


def groupings(node: Any) -> Iterator[tuple[set[str], Any]]:
    """Every `by (…)` with what it groups."""
    if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
        yield set(node.modifier.labels), node.expr
    for name in ("lhs", "rhs", "expr"):
        if (part := getattr(node, name, None)) is not None:
            yield from groupings(part)
    for part in getattr(node, "args", ()):
        yield from groupings(part)


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """Every PromQL expression, by where it stands; Grafana's own interval filled in."""
    found = {rule["alert"]: rule["expr"] for rule in RULES}
    for panel in panels():
        for target in panel["targets"]:
            filled = target["expr"].replace("$__rate_interval", "5m")
            found[f"{panel['title']} {target['refId']}"] = filled
    return found


def faults(where: str, text: str, known: Labels) -> Iterator[str]:
    """What an expression names that no scrape has."""
    parsed = promql.parse(text)
    for selector in selectors(parsed):
        if selector.name not in known:
            yield f"{where}: there is no metric {selector.name}"
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name not in known[selector.name] | TARGET:
                yield f"{where}: {selector.name} has no label {matcher.name}"
            if matcher.name in {"state", "outcome"} and set(matcher.value.split("|")) - WORDS:
                yield f"{where}: {matcher.name} is never {matcher.value}"
    for labels, inner in groupings(parsed):
        for selector in selectors(inner):
            if labels - known.get(selector.name, set()) - TARGET:
                yield f"{where}: {selector.name} cannot be grouped by {sorted(labels)}"


async def test_alerts_and_dashboard_ask_for_what_a_running_service_gives(tmp_path: Path) -> None:
    """Every metric, label and state named by an alert or a panel is in a scrape of a service at work."""
    wanted = {each.name for text in expressions().values() for each in selectors(promql.parse(text))}
    known: dict[str, set[str]] = {}
    async with serve("drum", options=Options(records=20, seed=3)) as sim, receiving() as receiver:
        acme = {"base_url": sim.url, "token": sim.token, "baseline": "emit"}
        async with home(tmp_path, sources={"acme": acme}, receiver=receiver.url) as place:
            running = await place.run()
            await wait_until(lambda: running.logged("web.serving"), "the page", 30)
            url = running.logged("web.serving")[0]["url"]

            async def complete() -> bool:
                known.update({**PROMETHEUS, **await scraped(url)})
                return not wanted - known.keys()

            try:
                await wait_until(complete, "a scrape that has every metric", 30)
            except BaseException as exc:
                exc.add_note(f"never seen: {sorted(wanted - known.keys())}")
                raise
            running.terminate()
            await running.end()
    found = [fault for where, text in expressions().items() for fault in faults(where, text, known)]
    assert not found
    unwatched = {name for name in known if name.startswith("poller_")} - wanted
    assert not {name for name in unwatched if not name.endswith(("_created", "_count", "_sum", "_info"))}


def test_a_metric_that_is_not_there_would_be_found() -> None:
    """The check above can fail: on a name, a label, a state and a grouping."""
    known = {"a_total": {"source"}, "b": {"state"}}
    assert list(faults("x", "max by (source) (increase(a_total[1h])) > 0", known)) == []
    assert len(list(faults("x", "sum(nothing) or rate(a_total{list='x'}[1h])", known))) == 2
    assert len(list(faults("x", 'max by (list) (a_total) or b{state="asleep"}', known))) == 2


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_is_in_the_runbook(rule: Mapping[str, Any]) -> None:
    """It has a summary, a severity, and a section of its own that its link leads to."""
    name = rule["alert"]
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"
    section = RUNBOOK.partition(f"### {name}\n")[2].partition("\n##")[0]
    assert len(section.split()) > 10


def test_the_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    """Alerts and sections are the same, in the same order."""
    section = RUNBOOK.partition("\n## Runbook")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_every_command_of_the_runbook_exists() -> None:
    """Each `poller …` in it is a command with these options."""
    root: Any = get_command(app)
    said = re.findall(r"^poller .+$", RUNBOOK, re.MULTILINE) + re.findall(r"`(poller [a-z][^`]*)`", RUNBOOK)
    assert len(said) > 15
    for line in said:
        words = shlex.split(line)[1:]
        command = root
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        options = {name for param in command.params for name in param.opts}
        assert command is not root, line
        assert not hasattr(command, "commands"), line
        assert {word for word in words if word.startswith("--")} <= options, line


def test_every_link_of_the_runbook_leads_somewhere() -> None:
    """Files are there, headings too."""
    headings = re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\((?!http)([^)]+)\)", RUNBOOK):
        path, _, anchor = target.partition("#")
        assert (DEPLOY / path).exists(), target
        assert not anchor or anchor in anchors, target


def test_the_dashboard_is_in_order() -> None:
    """Ids are unique, nothing lies over another, every panel says what it shows, and of which data source."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    names = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]+)", json.dumps(DASHBOARD))) <= names
