"""Every secret setting carries a canary through a whole run at DEBUG: none is in anything that is written."""

import base64
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import realserver
from aiohttp import web
from faultproxy import fault_proxy
from processes import Home, home
from redis.asyncio import Redis
from waiting import wait_until

from poller.simulators import Options, serve
from poller.store.keys import Keys

pytestmark = pytest.mark.full

PAGES = (
    "/", "/events", "/webhooks", "/webhooks/billing", "/webhooks/slack", "/sources/acme", "/sources/echo",
    "/api/sources", "/api/webhooks", "/api/events", "/openapi.json", "/asyncapi.json", "/metrics", "/healthz",
    "/readyz", "/login",
)  # fmt: skip
COMMANDS = (
    ("config", "show"),
    ("config", "show", "--json"),
    ("status",),
    ("status", "--json"),
    ("check",),
    ("check", "--json"),
    ("sources", "list", "--json"),
    ("sources", "poll", "acme"),
    ("webhooks", "list", "--json"),
    ("webhooks", "test", "billing"),
    ("webhooks", "test", "slack"),
    ("webhooks", "attempts", "billing", "--json"),
    ("webhooks", "dead", "billing", "--json"),
    ("events", "--json"),
    ("health",),
)
Figures = Callable[..., None]


class Canaries(dict[str, str]):
    """A secret for each setting, made when it is first asked for."""

    def __missing__(self, name: str) -> str:
        self[name] = f"canary{len(self)}{secrets.token_hex(12)}"
        return self[name]

    def found_in(self, text: str) -> list[str]:
        """Whose canary is in a text, in whatever spelling."""
        return [name for name, secret in self.items() if any(each in text for each in spellings(secret))]


def spellings(secret: str) -> set[str]:
    """As it stands, in a URL, in base64 at any of three offsets."""
    shifted = {base64.b64encode(b"x" * at + secret.encode()).decode()[4:-4] for at in range(3)}
    return {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("="), *shifted}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def parrots() -> AsyncIterator[str]:
    """A CRM and receivers that say back whatever they were told, in headers, bodies, URLs and wrong types."""
    asked = 0

    async def say_back(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        told = {**request.headers, "url": str(request.url)}
        text = json.dumps(told)
        ways = [
            web.Response(status=500, text=text),
            web.Response(status=200, text=text, content_type="application/json"),
            web.json_response([{"id": told, "name": text}]),
            web.json_response([{"id": 5, "name": [text], "amount": text}]),
            web.Response(status=302, headers={"location": f"http://127.0.0.1:9/{quote(text)}"}),
            web.Response(status=422, text=text, headers={"x-said": quote(text)}),
        ]
        return ways[asked % len(ways)]

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", say_back)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def settings(canaries: Canaries, *, redis: int, crm: str, parrot: str, port: int) -> str:
    """Every setting that is secret, in use."""
    dead = f"127.0.0.1:{_free_port()}"
    signing = base64.b64encode(canaries["webhooks.secret"].encode()).decode()
    older = base64.b64encode(canaries["webhooks.secrets"].encode()).decode()
    plain = 'every = "500ms"\nbudget = "100000/5m"'
    hook = 'from = "oldest"\nallow_private = ["127.0.0.0/8"]\nschedule = ["0s", "100ms"]'
    return f"""
[redis]
url = "redis://canary:{canaries["redis.url"]}@127.0.0.1:{redis}/0"
lease = "2s"
[web]
port = {port}
token = "{canaries["web.token"]}"
metrics_token = "{canaries["web.metrics_token"]}"
[log]
level = "debug"
[sources.acme]
kind = "drum"
token = "{canaries["sources.token"]}"
base_url = "{crm}"
hook_secret = "{canaries["sources.hook_secret"]}"
{plain}
[sources.echo]
kind = "drum"
token = "{canaries["sources.echo.token"]}"
base_url = "{parrot}"
{plain}
[sources.close]
kind = "close"
token = "{canaries["sources.close.token"]}"
base_url = "{parrot}"
{plain}
[sources.pipedrive]
kind = "pipedrive"
token = "{canaries["sources.pipedrive.token"]}"
base_url = "{parrot}"
{plain}
[sources.behind]
kind = "drum"
token = "{canaries["sources.behind.token"]}"
base_url = "http://crm.invalid"
proxy = "http://user:{canaries["sources.proxy"]}@{dead}"
{plain}
[webhooks.billing]
url = "{parrot}/{canaries["webhooks.url.path"]}?key={canaries["webhooks.url.query"]}"
secrets = ["whsec_{signing}", "whsec_{older}"]
headers = {{ authorization = "Bearer {canaries["webhooks.headers"]}" }}
{hook}
[webhooks.dead]
url = "http://{dead}/{canaries["webhooks.dead.path"]}"
secret = "whsec_{signing}"
{hook}
[webhooks.slack]
format = "slack"
url = "{parrot}/services/{canaries["webhooks.slack"]}"
{hook}
"""


async def _kept(client: Any) -> str:
    """Everything in Redis."""
    found = []
    async for key in client.scan_iter(count=1000):
        kind = (await client.type(key)).decode()
        read: Mapping[str, Callable[[], Any]] = {
            "string": lambda key=key: client.get(key),
            "hash": lambda key=key: client.hgetall(key),
            "set": lambda key=key: client.smembers(key),
            "list": lambda key=key: client.lrange(key, 0, -1),
            "zset": lambda key=key: client.zrange(key, 0, -1),
            "stream": lambda key=key: client.xrange(key),
        }
        if kind == "none":
            continue  # its TTL ran out since it was listed
        found.append(f"{key!r} {await read[kind]()!r}")
    return "\n".join(found)


async def _said(place: Home, *arguments: str) -> str:
    """What a command prints, on both of its streams."""
    log = place.settings.with_name("command.log")
    log.unlink(missing_ok=True)
    running = await place.forks.start(*arguments, "--config", str(place.settings), log=log)
    await running.end(within_s=60)
    return log.read_text()


async def _shown(url: str, token: str, metrics: str) -> dict[str, str]:
    """Every page and answer, asked with and without what opens it; headers too."""
    found = {}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as http:
        for proof in ("", f"Bearer {token}", f"Bearer {metrics}"):
            for path in PAGES:
                for kind in ("text/html", "application/json"):
                    headers = {"accept": kind, **({"authorization": proof} if proof else {})}
                    said = await http.get(path, headers=headers)
                    assert said.status_code != 500, (path, said.text)
                    found[f"GET {path}"] = f"{found.get(f'GET {path}', '')}{said.headers}{said.text}"
        for name in ("billing", "dead", "slack"):
            said = await http.post(f"/api/webhooks/{name}/test", headers={"authorization": f"Bearer {token}"})
            found[f"test {name}"] = f"{said.headers}{said.text}"
        said = await http.post("/hooks/acme", content=b"{}", headers={"x-webhook-signature": "00" * 32})
        found["a hint"] = f"{said.headers}{said.text}"
    return found


@pytest.mark.fault(20)
@pytest.mark.timeout(300)
async def test_no_canary_gets_out(tmp_path: Path, figures: Figures) -> None:
    """Through failures of every kind no secret is in logs, pages, answers, metrics, commands or Redis."""
    canaries, written = Canaries(), dict[str, str]()
    server = realserver.start(*f"--user canary on >{canaries['redis.url']} ~* &* +@all".split())
    client: Any = Redis.from_url(server.url)
    try:
        async with (
            serve("drum", options=Options(records=20, seed=3, token=canaries["sources.token"])) as sim,
            parrots() as parrot,
            fault_proxy(path=server.socket) as proxy,
            home(tmp_path, sources={}) as place,
        ):
            port = _free_port()
            place.settings.write_text(
                settings(canaries, redis=proxy.port, crm=sim.url, parrot=parrot, port=port)
            )
            running = await place.run()
            await wait_until(lambda: client.xlen(Keys().events("acme")), "the baseline", 30)
            sim.life.steps(20)
            for source in ("echo", "behind", "close", "pipedrive"):
                await wait_until(
                    lambda source=source: _tried(running.lines(), source), f"{source} to be tried", 30
                )
            await wait_until(
                lambda: running.logged("delivery.attempted", outcome="dead"), "a dead letter", 60
            )
            written |= await _shown(
                f"http://127.0.0.1:{port}", canaries["web.token"], canaries["web.metrics_token"]
            )
            for command in COMMANDS:
                written[" ".join(command)] = await _said(place, *command)
            proxy.error = "OOM command not allowed"
            await wait_until(lambda: running.logged("unit.stopped"), "a unit that stops", 30)
            # What only a fault of ours could leave; while nobody writes, or a commit would write it over.
            await client.hset(Keys().head("echo"), "memory", b"{")
            away = await _shown(
                f"http://127.0.0.1:{port}", canaries["web.token"], canaries["web.metrics_token"]
            )
            written |= {f"{where} without Redis": text for where, text in away.items()}
            proxy.error, proxy.reset = "", True
            written["status without Redis"] = await _said(place, "status")
            proxy.reset = False
            await wait_until(lambda: running.logged("unit.failed"), "a traceback", 60)
            written["redis"] = await _kept(client)
            running.terminate()
            assert await running.end() == 0
            written["log"] = running.log.read_text()
            text = place.settings.read_text()
            place.settings.write_text(
                text.replace('kind = "close"', 'kind = "closed"').replace("echo", "Echo")
            )
            written["settings that are wrong"] = await _said(place, "run")
    finally:
        await client.aclose()
        server.stop()
    assert "Traceback" in written["log"]
    hits = {where: found for where, text in written.items() if (found := canaries.found_in(text))}
    size_mb = sum(map(len, written.values())) / 1e6
    figures(f"{len(hits)} hits of {len(canaries)} canaries in {size_mb:.1f} MB from {len(written)} places")
    assert hits == {}


def _tried(lines: list[dict[str, Any]], source: str) -> int:
    events = ("source.swept", "source.suspended")
    return sum(line.get("source") == source and line["event"] in events for line in lines) >= 3


def test_a_canary_that_got_out_would_be_found() -> None:
    """The search above finds a secret as it stands, in a URL, and inside Basic authentication."""
    canaries = Canaries()
    secret = canaries["one"]
    basic = base64.b64encode(f"user:{secret}".encode()).decode()
    texts = (f"a {secret}.", f"?k={quote(secret)}", basic, "nothing")
    assert [canaries.found_in(text) for text in texts] == [["one"], ["one"], ["one"], []]
