"""What the web room is given of the settings: small values, as everything below `app` gets them."""

from collections.abc import Callable

from poller.config import Settings, SourceSettings, is_loopback, parse_duration
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.sources import SOURCES
from poller.web import Door, Pulse, SourceFacts, WebContext

from .status import Inspector
from .wiring import endpoint_of


def context_of(
    settings: Settings, connection: Connection, keys: Keys, *, pulse: Callable[[], Pulse]
) -> WebContext:
    """Put together what pages, API and metrics show and touch."""
    webhooks = settings.webhooks
    return WebContext(
        door=door_of(settings),
        connection=connection,
        keys=keys,
        sources={name: _facts(given) for name, given in settings.sources.items()},
        endpoints={name: endpoint_of(name, given) for name, given in webhooks.items()},
        shown_urls={name: given.shown_url for name, given in webhooks.items()},
        look=Inspector(settings, connection, keys).everything,
        pulse=pulse,
        duration=parse_duration,
    )


def door_of(settings: Settings) -> Door:
    """`[web]` as values."""
    web = settings.web
    return Door(
        host=web.host,
        loopback=is_loopback(web.host),
        token=web.token.get_secret_value() if web.token else "",
        hosts=tuple(name.strip("[]") for name in web.hosts),
        metrics_token=web.metrics_token.get_secret_value() if web.metrics_token else "",
    )


def _facts(given: SourceSettings) -> SourceFacts:
    return SourceFacts(
        kind=given.kind,
        lists=SOURCES[given.kind].lists,
        hook_secret=given.hook_secret.get_secret_value() if given.hook_secret else "",
    )
