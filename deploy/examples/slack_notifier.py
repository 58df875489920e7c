"""Wins and losses of all sources into a Slack channel, read from the stream.

    pip install poller slack-sdk
    REDIS_URL=redis://127.0.0.1:6379/0 SLACK_WEBHOOK_URL=https://hooks.slack.com/… python slack_notifier.py

Start as many as you like: they share the group, and what one leaves when it dies another takes over.
"""

import asyncio
import os

from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.webhook.async_client import AsyncWebhookClient

import poller

SIGNS = {"won": ":tada:", "lost": ":wave:"}


def text(message: poller.Message) -> str:
    """One line such as: 🎉 *won* Brand Refresh · Eucalypt Homes · 29150.00 AUD <https://…|open>"""
    verb = message.type.rpartition(".")[2]
    deal = message.json["data"]["deal"]
    amount = f"{deal['amount']} {deal['currency'] or ''}".strip() if deal["amount"] else None
    facts = " · ".join(escaped(part) for part in (deal["name"], deal["client"], amount) if part)
    link = f" <{deal['url']}|open>" if deal["url"] else ""
    return f"{SIGNS[verb]} *{verb}* {facts}{link}"


def escaped(words: str) -> str:
    """Whoever names a deal "<!channel>" must not wake everybody."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def main() -> None:
    """Post each event; it is acknowledged when the body of the loop is through."""
    slack = AsyncWebhookClient(
        os.environ["SLACK_WEBHOOK_URL"],
        retry_handlers=[AsyncRateLimitErrorRetryHandler(max_retry_count=5)],
    )
    events = poller.subscribe(
        os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
        group="slack-notifier",
        types=["*.won", "*.lost"],
        # Where a new group begins: now, or with what is still in the streams.
        start="oldest" if os.environ.get("START") == "oldest" else "now",
    )
    async for message in events:
        answer = await slack.send(text=text(message))
        if answer.status_code != 200:
            # Not acknowledged: it is handed out again after a minute, five times in all.
            raise SystemExit(f"Slack answered {answer.status_code}: {answer.body}")
        print(f"sent {message.type} {message.subject} ({message.id})", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
