"""The page in a real browser, over the real service and a simulated CRM."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import browsing
import pytest
from browsing import SCHEMES, WIDTHS, Tab, browser, faults, overflow, shoot, tab
from commands import SECRET, crm
from hookside import Receiver, receiving
from redis.asyncio import Redis
from waiting import wait_until
from website import TOKEN

from poller import log
from poller.app import Ears, serve
from poller.config import Settings
from poller.model import fields_of
from poller.simulators.drum import DEMO_TOKEN
from poller.store.keys import Keys
from poller.watch.events import Bounds, Known, make

KEYS = Keys()

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def _browser() -> None:
    """Skip without a browser, before anything is started."""
    browsing.demand()


@dataclass
class Running:
    """The service, its CRM and its receiver."""

    url: str
    crm: Any
    receiver: Receiver


@asynccontextmanager
async def running(
    redis_url: str,
    *,
    sources: bool = True,
    token: str = TOKEN,
    every: str = "200ms",
    budget: str = "60000/5m",
    **more: Mapping[str, Any],
) -> AsyncIterator[Running]:
    """The whole service in this loop, its first reading done; `more` are further endpoints."""
    log.configure(level="error", secrets=())
    async with crm(records=90) as world, receiving(Receiver()) as receiver:
        acme = {
            "kind": "drum",
            "token": DEMO_TOKEN,
            "base_url": world.url,
            "every": every,
            "budget": budget,
        }
        billing = {"url": receiver.url, "secrets": [SECRET], "allow_private": ["127.0.0.0/8"]}
        settings = Settings.model_validate(
            {
                "redis": {"url": redis_url},
                "web": {"port": 0, "token": token},
                "sources": {"acme": acme} if sources else {},
                "webhooks": {"billing": billing, **more} if sources else {},
            }
        )
        urls: list[str] = []
        swept: set[str] = set()
        ears = Ears(serving=[urls.append])
        ears.swept.append(lambda name, told: swept.add(told.kind) if told.complete else None)
        stop = asyncio.Event()
        task = asyncio.create_task(serve(settings, ears=ears, stop=stop))
        try:
            await wait_until(lambda: urls or task.done(), "the port", 10)
            if sources:
                await wait_until(lambda: len(swept) == 2 or task.done(), "the first sweeps", 30)
            yield Running(urls[0], world, receiver)
        finally:
            stop.set()
            await task


def opportunities(world: Any) -> list[int]:
    """Ids of opportunities that can be worked with."""
    return [
        int(key)
        for key, row in sorted(world.world.rows.items())
        if row.kind == "opportunity" and not row.archived
    ]


async def log_in(page: Tab, token: str = TOKEN) -> None:
    """Log in by the form."""
    await page.go("/login")
    await page.page.get_by_label("Token").fill(token)
    await page.click("Log in", role="button")


async def until(page: Tab, pattern: str, *, within_s: float = 30.0) -> None:
    """Load the page anew until it says something."""
    said = ""

    async def says() -> bool:
        nonlocal said
        await page.page.reload()
        said = await page.text()
        return bool(re.search(pattern, said))

    try:
        await wait_until(says, f"the page says {pattern!r}", within_s)
    except pytest.fail.Exception as exc:
        pytest.fail(f"{exc}; it says\n{said}")


async def test_first_run(redis_url: str) -> None:
    """With nothing set up the page says what to do and offers the simulator; readiness says the same."""
    async with running(redis_url, sources=False) as here, browser() as opened, tab(opened, here.url) as page:
        await page.go("/")
        said = await page.text()
        for words in ("Nothing is set up yet", "poller demo", "poller simulate drum", "poller init"):
            assert words in said
        assert await faults(page) == []
        await shoot(page, "first-run-1440-light")
        proof = {"authorization": f"Bearer {TOKEN}"}
        ready = await page.page.request.get(f"{here.url}/readyz", headers=proof)
        assert ready.status == 503
        assert "no source is set up" in await ready.text()


async def test_an_event_arrives_live_and_opens(redis_url: str) -> None:
    """A change shows within a second of its commit, by filter; it opens to before, after and its delivery."""
    async with running(redis_url) as here, browser() as opened, tab(opened, here.url) as page:
        await page.go("/events?type=drum.opportunity.*")
        await page.page.get_by_text("live", exact=True).wait_for()
        await page.page.evaluate(
            """() => { window.delays = {}; new MutationObserver(() => {
                for (const link of document.querySelectorAll("ol.events a.main")) {
                    const place = link.getAttribute("href").split("/").pop();
                    window.delays[place] ??= Date.now() - Number(place.split("-")[0]);
                } }).observe(document.querySelector("ol.events"), {childList: true}); }"""
        )
        deal = opportunities(here.crm)[0]
        here.crm.orders.update(deal, amount="43210.00")
        row = page.page.locator("li.event", has_text="43210.00")
        await row.wait_for()
        delays = await page.page.evaluate("Object.values(window.delays)")
        assert max(delays) < 1000, delays
        await wait_until(lambda: here.receiver.got, "the delivery")
        await row.locator("a.main").click()
        await until(page, "delivered")
        said = await page.text()
        assert f"opportunity/{deal}" in said
        assert re.search(r"happened between\s+\d{4}-\S+Z and \d{4}-\S+Z", said)
        changed = page.page.locator("tr.changed", has_text="amount").first
        assert await changed.locator("ins").inner_text() == "43210.00"
        assert await changed.locator("del").inner_text() != "43210.00"
        await page.page.get_by_text("As curl").click()
        assert "curl http://localhost:3000/hooks" in await page.page.locator("#curl").inner_text()
        await page.click(f"opportunity/{deal}")
        assert "1 drum.opportunity.updated" in " ".join((await page.text()).split())
        await page.go("/events?type=*.won")
        assert "No event matches" in await page.text()
        assert page.complaints == []


async def test_nothing_is_done_without_a_log_in(redis_url: str) -> None:
    """Reading is free on this machine; acting is refused until the token is given, and after log-out."""
    async with running(redis_url) as here, browser() as opened, tab(opened, here.url) as page:
        await page.go("/sources/acme/pause")
        assert "Log in to act" in await page.text()
        assert await page.page.get_by_role("button", name="Pause").count() == 0
        refused = await page.page.request.post(f"{here.url}/sources/acme/pause")
        assert refused.status == 401
        await log_in(page, "not the token")
        assert "That is not the token" in await page.text()
        await log_in(page)
        (cookie,) = await page.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert TOKEN not in cookie["value"]
        await page.go("/sources/acme/pause")
        await page.click("Pause", role="button")
        assert "Done: Pause acme" in await page.text()
        await page.page.get_by_text("an operator paused it").wait_for()  # without a reload
        await page.click("Resume…")
        await page.click("Resume", role="button")
        await until(page, "polling every")
        await page.click("Log out", role="button")
        await page.go("/sources/acme/pause")
        assert "Log in to act" in await page.text()


async def test_disable_enable_and_resend(redis_url: str) -> None:
    """Each action says first what it will do and how many events it touches, and then does it."""
    async with running(redis_url) as here, browser() as opened, tab(opened, here.url) as page:
        await log_in(page)
        await page.go("/webhooks/billing")
        await until(page, "nothing sent yet")  # the word of the baseline was passed over, too
        await page.click("Disable…")
        assert "0 events touched" in " ".join((await page.text()).split())
        await page.click("Disable", role="button")
        await until(page, "an operator disabled it")
        await page.go("/events?type=poller.webhook.*")
        await until(page, "poller.webhook.disabled")  # whoever serves it looks for orders once a second
        await page.go("/webhooks/billing")
        first, second, *_ = opportunities(here.crm)
        here.crm.orders.update(first, amount="101.00")
        here.crm.orders.update(second, amount="102.00")
        await until(page, r"waiting: [23] events")  # a read that blocked may have passed over the notice
        assert here.receiver.got == []
        await page.click("Enable…")
        said = " ".join((await page.text()).split())
        assert re.search(r"waiting for it: ([23]) events.* \1 events touched", said)
        await page.click("Enable", role="button")
        await wait_until(lambda: len(here.receiver.got) >= 2, "both events", 15)
        await until(page, "everything is delivered")
        sent = here.receiver.got[0].id
        await page.go(f"/webhooks/billing/resend?event={sent}")
        assert "1 event touched" in " ".join((await page.text()).split())
        await page.click("Send it again", role="button")
        await wait_until(lambda: here.receiver.ids.count(sent) == 2, "the same event once more", 15)
        await page.go("/webhooks/billing")
        await page.click("Recover…", role="button")
        assert re.search(r"\d+ events touched", " ".join((await page.text()).split()))
        await page.go("/webhooks/billing/test")
        await page.click("Send a test", role="button")
        assert "delivered: 200" in await page.text()


async def test_hold_and_release(redis_url: str) -> None:
    """Records that go missing all at once are held and shown first; the button releases them."""
    async with running(redis_url) as here, browser() as opened, tab(opened, here.url) as page:
        for deal in opportunities(here.crm)[:25]:
            here.crm.orders.archive(deal)
        await page.go("/")
        await until(page, "acme is held: 25 records went missing at once", within_s=30)
        await shoot(page, "held-1440-light")
        assert await faults(page) == []
        await log_in(page)
        await page.go("/")
        await page.page.get_by_role("link", name=re.compile("^Release")).first.click()
        said = " ".join((await page.text()).split())
        assert "25 records touched" in said
        assert "This cannot be taken back" in said
        await page.click("They are really gone", role="button")
        await page.go("/events?type=*.removed")
        await until(page, "drum.opportunity.removed", within_s=40)


async def test_it_works_without_a_script(redis_url: str) -> None:
    """Without JavaScript everything but the live part works: filters, log-in, actions."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(running(redis_url))
        opened = await stack.enter_async_context(browser())
        page = await stack.enter_async_context(tab(opened, here.url, java_script_enabled=False))
        here.crm.orders.update(opportunities(here.crm)[0], amount="77.00")
        await page.go("/events")
        await until(page, "77.00")
        await page.page.get_by_label("Type").fill("*.won")
        await page.click("Filter", role="button")
        assert "No event matches" in await page.text()
        await log_in(page)
        await page.go("/webhooks/billing/disable")
        await page.click("Disable", role="button")
        assert "Done: Disable billing" in await page.text()
        await page.go("/webhooks/billing")
        assert "Done:" not in await page.text()


async def test_by_keyboard(redis_url: str) -> None:
    """The first Tab reaches the way past the navigation, and every control can be reached and is named."""
    async with running(redis_url) as here, browser() as opened, tab(opened, here.url) as page:
        await page.go("/webhooks/billing")
        await page.page.keyboard.press("Tab")
        assert await page.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        await page.page.keyboard.press("Enter")
        assert await page.page.evaluate("document.activeElement.id") == "main"
        reached = set()
        for _ in range(40):
            await page.page.keyboard.press("Tab")
            reached.add(await page.page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
        assert {"Send a test…", "Disable…", "Recover…"} <= reached


async def test_every_page_is_accessible_and_fits(redis_url: str) -> None:
    """axe-core finds nothing at both widths and schemes; nothing is too wide; no policy is broken."""
    async with AsyncExitStack() as stack:
        broken = await stack.enter_async_context(receiving(Receiver(always=500)))
        archive = {
            "url": broken.url,
            "schedule": ["0s"],
            "allow_private": ["127.0.0.0/8"],
            "secrets": [SECRET],
        }
        here = await stack.enter_async_context(running(redis_url, archive=archive))
        opened = await stack.enter_async_context(browser())
        deals = opportunities(here.crm)
        here.crm.orders.win(deals[0])
        here.crm.orders.update(
            deals[1], amount="31500.00", name="A name that goes on for long enough to be folded"
        )
        await wait_until(lambda: len(here.receiver.got) >= 2 and len(broken.got) >= 2, "deliveries", 20)
        place = await _place(opened, here.url)
        pages = {
            "overview": "/",
            "events": "/events",
            "event": f"/events/acme/{place}",
            "record": f"/records/acme/opportunity/{deals[1]}",
            "source": "/sources/acme",
            "webhooks": "/webhooks",
            "webhook": "/webhooks/billing",
            "failing": "/webhooks/archive",
            "recover": "/webhooks/billing/recover?since=1h",
            "login": "/login",
            "missing": "/events/acme/1-0",
        }
        for width in WIDTHS:
            for scheme in SCHEMES:
                async with tab(opened, here.url, width=width, scheme=scheme) as page:
                    for name, path in pages.items():
                        answer = await page.go(path)
                        assert len(await answer.body()) < 300_000
                        assert await faults(page) == [], (name, width, scheme)
                        assert await overflow(page) <= 0, (name, width)
                        await shoot(page, f"{name}-{width}-{scheme}")
                    assert [each for each in page.complaints if "404" not in each] == []


async def _place(opened: Any, url: str, type_: str = "*.updated") -> str:
    async with tab(opened, url) as page:
        await page.go(f"/events?type={type_}")
        href = await page.page.locator("li.event a.main").first.get_attribute("href")
        return str(href).rpartition("/")[2]


async def test_the_pictures_of_the_readme(redis_url: str) -> None:
    """A day of a lively account, as deploy/screenshots shows it: PAGE_SHOTS=deploy/screenshots makes them."""
    slack = {"format": "slack", "events": ["*.won"], "allow_private": ["127.0.0.0/8"]}
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(receiving(Receiver()))
        await _lived(redis_url)
        sales = {**slack, "url": channel.url}
        here = await stack.enter_async_context(running(redis_url, every="2s", budget="1800/5m", sales=sales))
        opened = await stack.enter_async_context(browser())
        deals = iter(opportunities(here.crm))
        for _ in range(3):
            here.crm.orders.update(next(deals), amount="31500.00")
        here.crm.orders.win(next(deals))
        here.crm.orders.lose(next(deals))
        await wait_until(lambda: channel.got and len(here.receiver.got) >= 5, "deliveries", 20)
        async with tab(opened, here.url, width=1100) as page:
            await page.go("/")
            await until(page, "details at most", within_s=30)
            assert "Everything is well" in await page.page.inner_text("main")
            await shoot(page, "overview", whole=False)
        place = await _place(opened, here.url, "*.won")
        async with tab(opened, here.url, width=1100, scheme="dark") as page:
            await page.go(f"/events/acme/{place}")
            await until(page, "delivered")
            await shoot(page, "event", whole=False)


async def _lived(redis_url: str) -> None:
    """Put a day of events into the stream, as poller would have."""
    chance, now = random.Random(5), time.time()
    names = ["won", "lost", "created", "updated", "status_changed"]
    async with Redis.from_url(redis_url) as client:
        await client.sadd(KEYS.sources(), "acme")
        for at in sorted(now - 3700 - 82_000 * chance.random() for _ in range(240)):
            suffix = chance.choices(names, [2, 1, 3, 6, 5])[0]
            event = make(
                Known(),
                source="/drum/acme",
                subject=f"opportunity/{chance.randrange(100, 190)}",
                type_=f"drum.opportunity.{suffix}",
                bounds=Bounds(at - 30, at - 1),
                object_={"id": 1, "name": "Brand Refresh"},
                detected_at=at,
            )
            await client.xadd(KEYS.events("acme"), dict(fields_of(event)), id=f"{int(at * 1000)}-*")


async def test_stop_while_somebody_looks(redis_url: str, tmp_path: Path) -> None:
    """With a page open and listening the service still ends at once."""
    async with browser() as opened:
        began = 0.0
        async with running(redis_url) as here:
            context = tab(opened, here.url)
            page = await context.__aenter__()
            await page.go("/events")
            await page.page.get_by_text("live", exact=True).wait_for()
            began = time.monotonic()
        assert time.monotonic() - began < 10
        await context.__aexit__(None, None, None)
