"""Probes, metrics and the guard, over a real port."""

import asyncio
import socket
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from website import TOKEN, event, settings_of, site, unwell

from poller.errors import SettingsError
from poller.store.connection import Connection
from poller.store.letters import Attempt
from poller.watch.poll import Swept
from poller.web import listen
from poller.web.guard import MOST_BODY
from poller.web.session import COOKIE, cookie_for, cookie_holds, own_form

BEARER = {"authorization": f"Bearer {TOKEN}"}
PATHS = ("/", "/events", "/webhooks", "/webhooks/billing", "/sources/acme", "/api/sources", "/openapi.json")


async def test_healthz_touches_no_dependency(tmp_path: Path) -> None:
    """Without Redis the process is alive and not ready, and says why to who has the token."""
    away = Connection.open(f"unix://{tmp_path}/none")
    try:
        async with site(away) as here:
            assert (await here.get("/healthz")).json() == {"status": "ok"}
            ready = await here.get("/readyz", **BEARER)
            assert ready.status_code == 503
            assert "Redis cannot be reached" in ready.json()["reasons"][0]
            page = await here.get("/", accept="text/html")
            assert page.status_code == 503
            assert "Redis cannot be reached" in page.text
            scrape = await here.get("/metrics")
            assert scrape.status_code == 200
            assert "poller_store_up 0.0" in scrape.text
            assert "poller_queue_waiting_events" not in scrape.text
    finally:
        await away.close()


async def test_a_silent_scheduler_is_neither_alive_nor_ready(fakestore: Connection) -> None:
    """Where the scheduler does not tick both probes fail and say so."""
    async with site(fakestore) as here:
        assert (await here.get("/readyz")).status_code == 200
        here.pulse = unwell(ticking=False, silent_s=31.0)
        for path in ("/healthz", "/readyz"):
            said = await here.get(path, **BEARER)
            assert said.status_code == 503
            assert said.json()["reasons"] == ["the scheduler has not ticked for 31 s"]


async def test_a_stop_is_told_first(fakestore: Connection) -> None:
    """From SIGTERM on readiness fails while the process is still alive."""
    async with site(fakestore) as here:
        here.stopping = True
        assert (await here.get("/readyz", **BEARER)).json()["reasons"] == ["it was told to stop"]
        assert (await here.get("/healthz")).status_code == 200


@pytest.mark.parametrize(("host", "name"), [("127.0.0.1", "localhost"), ("0.0.0.0", "anything.example")])
async def test_reasons_only_for_who_has_the_token(fakestore: Connection, host: str, name: str) -> None:
    """On loopback and elsewhere, probes give reasons and notes with the token or its cookie, else none."""
    async with site(fakestore, settings_of(host=host)) as here:
        here.pulse = unwell(reasons=("Redis at 10.1.2.3 is away",), restarts=1)
        assert (await here.get("/readyz", host=name)).json() == {"status": "unavailable"}
        assert (await here.get("/healthz", host=name)).json() == {"status": "ok"}
        cookie = {"cookie": f"{COOKIE}={cookie_for(TOKEN, now=time.time())}"}
        for proof in (BEARER, cookie):
            told = await here.get("/readyz", host=name, **proof)
            assert told.json()["reasons"] == ["Redis at 10.1.2.3 is away"]
            assert "notes" in (await here.get("/healthz", host=name, **proof)).json()


async def test_without_a_token_nobody_has_one(fakestore: Connection) -> None:
    """Where no web.token is set, probes say whether and not why; `poller status` and the log say that."""
    async with site(fakestore, settings_of(token="")) as here:
        here.pulse = unwell(reasons=("Redis at 10.1.2.3 is away",))
        for headers in ({}, {"authorization": "Bearer x"}):
            assert (await here.get("/readyz", **headers)).json() == {"status": "unavailable"}


def test_a_port_that_is_taken_is_told() -> None:
    """A port that another program has is a settings error that names it and the remedy."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"web\.port {port} on 127\.0\.0\.1 cannot be taken.*POLLER_WEB"
        ):
            listen("127.0.0.1", port)


def test_an_ipv6_address_as_in_a_url() -> None:
    """web.host may be written in brackets, as it stands in a URL."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    listener = listen("[::1]", 0)
    try:
        assert listener.url.startswith("http://[::1]:")
    finally:
        listener.close()


@pytest.mark.parametrize("host", ["nope.invalid", "192.0.2.1"])
def test_a_host_that_is_not_ours_is_told(host: str) -> None:
    """A host that does not resolve, or to another machine, is told as web.host and not as a port."""
    with pytest.raises(
        SettingsError, match=rf'web\.host = "{host}" is no address of this machine.*POLLER_WEB__HOST'
    ):
        listen(host, 0)


def test_nagle_is_off() -> None:
    """The port names its protocol, without which asyncio leaves Nagle's delay of 40 ms on."""
    listener = listen("127.0.0.1", 0)
    try:
        assert listener.sock.proto == socket.IPPROTO_TCP
    finally:
        listener.close()


# --- metrics ------------------------------------------------------------------------------------


async def test_metrics_tell_what_happened(fakestore: Connection) -> None:
    """Sweeps, events, bounds, attempts and deliveries are counted with names out of the settings alone."""
    async with site(fakestore) as here:
        meters = here.web.meters
        meters.swept("acme", Swept(kind="opportunity", started=100.0, ended=100.4, complete=True))
        meters.said("acme", [event(1, type="drum.opportunity.won"), event(2)])
        attempt = Attempt(
            at=100.3,
            source="acme",
            place="100000-0",
            event="evt_1",
            type="drum.opportunity.won",
            subject="opportunity/101",
            attempt=1,
            outcome="delivered",
            status=200,
            ms=20.0,
        )
        meters.attempted("billing", attempt)
        text = (await here.get("/metrics")).text
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found[
        ("poller_sweep_seconds_sum", (("list", "opportunity"), ("outcome", "complete"), ("source", "acme")))
    ] == pytest.approx(0.4)
    assert found[("poller_events_total", (("source", "acme"), ("type", "drum.opportunity.won")))] == 1
    assert 33 < found[("poller_detection_bounds_seconds_sum", (("source", "acme"),))] / 2 < 35
    assert found[("poller_delivery_seconds_count", (("endpoint", "billing"),))] == 1
    assert found[("poller_delivery_seconds_sum", (("endpoint", "billing"),))] == pytest.approx(0.3)
    assert found[("poller_webhook_attempts_total", (("endpoint", "billing"), ("outcome", "delivered")))] == 1
    assert found[("poller_lease_held", (("unit", "source/acme"),))] == 1
    assert found[("poller_store_up", ())] == 1
    assert found[("poller_source_state", (("source", "acme"), ("state", "unattended")))] == 1
    assert found[("poller_budget_limit_requests", (("source", "acme"),))] == 240
    assert found[("poller_queue_oldest_waiting_seconds", (("endpoint", "billing"),))] == 0


async def test_metrics_ask_for_their_own_token(fakestore: Connection) -> None:
    """With web.metrics_token set only that token opens /metrics, and it opens nothing else."""
    async with site(fakestore, settings_of(metrics_token="scrape-me", host="0.0.0.0")) as here:
        assert (await here.get("/metrics")).status_code == 401
        assert (await here.get("/metrics", authorization="Bearer scrape-me")).status_code == 200
        assert (await here.get("/metrics", authorization=f"Bearer {TOKEN}")).status_code == 401
        assert (await here.get("/api/sources", authorization="Bearer scrape-me")).status_code == 401


async def test_metrics_as_openmetrics(fakestore: Connection) -> None:
    """Who accepts OpenMetrics gets it."""
    async with site(fakestore) as here:
        said = await here.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
        assert said.headers["content-type"].startswith("application/openmetrics-text")
        assert said.text.endswith("# EOF\n")


# --- the guard ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
async def test_a_foreign_name_is_refused(fakestore: Connection, path: str) -> None:
    """Under a Host name that is not ours nothing is shown: a name can be made to point here."""
    async with site(fakestore) as here:
        for name in ("evil.example", "evil.example:8080", "localhost.evil.example", "", "a@localhost"):
            said = await here.get(path, host=name)
            assert said.status_code == 421, name
            assert "web.hosts" in said.json()["error"]["message"]
        for name in ("localhost", "127.0.0.1:99", "[::1]:8080", "127.8.9.1", "LOCALHOST."):
            assert (await here.get(path, host=name)).status_code == 200, name


async def test_another_host_needs_the_token(fakestore: Connection) -> None:
    """Under a name of web.hosts, and behind a proxy, even reading needs the token."""
    async with site(fakestore, settings_of(hosts=["poller.example.com"])) as here:
        for headers in ({"host": "poller.example.com"}, {"x_forwarded_for": "203.0.113.9"}):
            assert (await here.get("/api/sources", **headers)).status_code == 401
            good = await here.get("/api/sources", authorization=f"Bearer {TOKEN}", **headers)
            assert good.status_code == 200
            page = await here.get("/events?type=*.won", accept="text/html", **headers)
            assert page.status_code == 303
            assert page.headers["location"] == "/login?next=%2Fevents%3Ftype%3D%2A.won"


async def test_bound_to_every_address(fakestore: Connection) -> None:
    """Bound to every address, an address is a good Host name and reading needs the token."""
    async with site(fakestore, settings_of(host="0.0.0.0")) as here:
        assert (await here.get("/api/sources", host="10.1.2.3:8080")).status_code == 401
        assert (await here.get("/api/sources", host="evil.example")).status_code == 421
        told = await here.get("/api/sources", host="10.1.2.3", authorization=f"Bearer {TOKEN}")
        assert told.status_code == 200


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN])
async def test_nothing_acts_without_the_token(fakestore: Connection, given: str) -> None:
    """Every action is refused without the very token, and nothing is done."""
    async with site(fakestore) as here:
        for path in ("/api/sources/acme/poll", "/api/webhooks/billing/disable", "/sources/acme/pause"):
            said = await here.post(path, token="", authorization=given)
            assert said.status_code == 401
        assert await fakestore.commands.keys("*") == []


async def test_without_a_token_nothing_can_be_done(fakestore: Connection) -> None:
    """Where no token is set actions are refused with the remedy, an empty one included."""
    async with site(fakestore, settings_of(token="")) as here:
        for given in ("", "Bearer", "Bearer None"):
            said = await here.post("/api/sources/acme/poll", token="", authorization=given)
            assert said.status_code == 403
            assert "web.token" in said.json()["error"]["message"]
        page = await here.get("/sources/acme/poll", accept="text/html")
        assert "POLLER_WEB_TOKEN" in page.text
        assert '<button class="primary">' not in page.text


async def test_log_in_and_out(fakestore: Connection) -> None:
    """The token gives a cookie of its own value, HttpOnly and SameSite=Strict, that is worth the same."""
    async with site(fakestore, settings_of(host="0.0.0.0")) as here:
        ours = {"origin": here.url}
        form = {"token": TOKEN, "next": "/events"}
        assert (await here.http.post("/login", data={"token": "no"}, headers=ours)).status_code == 401
        foreign = await here.http.post("/login", data=form, headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403
        said = await here.http.post("/login", data=form, headers=ours)
        assert (said.status_code, said.headers["location"]) == (303, "/events")
        cookie = said.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert (await here.get("/api/sources")).status_code == 200
        acted = await here.http.post("/api/sources/acme/poll", headers=ours)
        assert acted.status_code == 200
        for headers in ({}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site", **ours}):
            assert (await here.http.post("/api/sources/acme/poll", headers=headers)).status_code == 403
        assert (await here.http.post("/logout", headers=ours)).status_code == 303
        assert (await here.get("/api/sources")).status_code == 401


async def test_a_log_in_leads_nowhere_else(fakestore: Connection) -> None:
    """What comes after the log-in is a page of ours, whatever the address says."""
    async with site(fakestore) as here:
        for onward in (
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "",
        ):
            form = {"token": TOKEN, "next": onward}
            said = await here.http.post("/login", data=form, headers={"origin": here.url})
            assert said.headers["location"] == "/", onward


def test_the_cookie_is_the_tokens() -> None:
    """A cookie holds for 30 days, on every replica, and ends when the token is another."""
    now = 1_900_000_000.0
    value = cookie_for("one", now=now)
    assert cookie_holds(value, "one", now=now + 29 * 86400)
    assert not cookie_holds(value, "one", now=now + 31 * 86400)
    assert not cookie_holds(value, "two", now=now)
    assert not cookie_holds(value, "", now=now)
    later = f"{int(now) + 9}.{value.partition('.')[2]}"
    for forged in ("", ".", "x.y", later, value[:-1], f"²{value}", "9" * 400):
        assert not cookie_holds(forged, "one", now=now), forged


@pytest.mark.parametrize(
    ("site_", "origin", "good"),
    [
        ("same-origin", None, True),
        ("same-site", "http://h:1", False),
        ("none", "http://h:1", False),
        (None, "http://h:1", True),
        (None, "https://h:1", True),
        (None, "http://h:2", False),
        (None, "null", False),
        (None, None, False),
    ],
)
def test_own_forms(site_: str | None, origin: str | None, good: bool) -> None:
    """A form is ours by Sec-Fetch-Site where the browser says it, else by Origin."""
    assert own_form(site=site_, origin=origin, host="h:1") is good


async def test_security_headers_are_on_every_answer(fakestore: Connection) -> None:
    """Pages, JSON, refusals and files all carry the policy, and no page has inline script or style."""
    async with site(fakestore) as here:
        for path in (*PATHS, "/nothing", "/static/poller.css", "/healthz", "/login"):
            said = await here.get(path, accept="text/html")
            policy = said.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert said.headers["x-content-type-options"] == "nosniff"
            assert "cache-control" in said.headers
            assert "server" not in said.headers
            if "text/html" in said.headers["content-type"]:
                assert " style=" not in said.text
                assert "<style" not in said.text
                assert " onclick=" not in said.text
                assert said.text.count("<script") == 1


async def test_bodies_are_capped(fakestore: Connection) -> None:
    """A body that is too large is refused, told or untold its length."""
    async with site(fakestore) as here:
        big = b"x" * (MOST_BODY + 1)

        async def drip() -> object:
            for start in range(0, len(big), 8192):
                yield big[start : start + 8192]

        headers = {"authorization": f"Bearer {TOKEN}"}
        for content in (big, drip()):
            said = await here.http.post("/api/sources/acme/poll", content=content, headers=headers)
            assert said.status_code == 413


@pytest.mark.parametrize(
    "begun", [b"", b"GET /healthz HT", b"POST /hooks/acme HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"]
)
async def test_a_request_that_does_not_arrive_is_hung_up_on(
    fakestore: Connection, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """Who never finishes a request keeps no file handle of ours; who is quiet between two is left alone."""
    monkeypatch.setattr("poller.serving.REQUEST_S", 1.0)
    async with site(fakestore) as here:
        port = httpx.URL(here.url).port
        quiet, slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        again = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        quiet[1].write(again)
        assert await quiet[0].readuntil(b'{"status":"ok"}')
        slow[1].write(begun)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(slow[0].read(), 5) == b""
        quiet[1].write(again)
        assert await asyncio.wait_for(quiet[0].readuntil(b'{"status":"ok"}'), 5)
        for _, writer in (quiet, slow):
            writer.close()


async def test_no_secret_is_shown(fakestore: Connection) -> None:
    """No token and no signing secret is on any page or in any answer."""
    secrets = (TOKEN, "drum-secret-canary-77", "whsec_", "s3cr3t-path-canary-9")
    hooks = {
        "billing": {
            "url": "https://hooks.slack.com/services/s3cr3t-path-canary-9",
            "format": "slack",
            "secrets": [],
        }
    }
    async with site(fakestore, settings_of(webhooks=hooks)) as here:
        for path in (*PATHS, "/metrics", "/webhooks/billing/test", "/api/webhooks", "/asyncapi.json"):
            said = await here.get(path, authorization=f"Bearer {TOKEN}")
            assert not [secret for secret in secrets[:2] + secrets[3:] if secret in said.text], path
        assert TOKEN not in repr(here.web.context)
        assert "drum-secret" not in repr(here.web.context)


async def test_slow_redis_is_told_within_five_seconds(
    fakestore: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that does not answer makes the service unready within 5 s."""
    never = asyncio.Event()

    async def hang(*_: object) -> None:
        await never.wait()

    async with site(fakestore) as here:
        monkeypatch.setattr(fakestore.commands, "ping", hang)
        began = time.monotonic()
        said = await here.http.get("/readyz", timeout=httpx.Timeout(6), headers=BEARER)
        assert said.status_code == 503
        assert time.monotonic() - began < 5
        assert "no answer within 4 s" in said.json()["reasons"][0]
