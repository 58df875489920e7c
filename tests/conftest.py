"""What every test may ask for: a store on fakeredis and on a real server, a clean environment."""

import inspect
import logging
import os
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from fnmatch import fnmatchcase

import pytest
import realserver
import structlog
from cluster import Cluster, every_key
from cluster import start as start_cluster
from fakeredis import FakeAsyncRedis, FakeServer
from faults import Measured, table
from hypothesis import HealthCheck, settings
from realserver import RealServer
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from poller import log
from poller.store.connection import Connection
from poller.store.keys import Keys

# A law is no stopwatch: on a busy machine an example may take as long as it takes.
settings.register_profile("poller", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("poller")

OURS = ("POLLER_", "DRUM_", "CLOSE_", "PIPEDRIVE_", "REDIS_URL")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

WITH_TTL = {"budget", "blocked"}
"""Methods of Keys whose keys must never be left without a TTL; every other one is permanent."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --full, --long and --rounds."""
    parser.addoption("--full", action="store_true", help="also run what takes long, as CI does")
    parser.addoption("--long", action="store_true", help="run the long form of each check, for hours")
    parser.addoption("--rounds", type=int, help="so many kills, stops, losses: a part of a long form")


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core: most tests wait for something, half of the time."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked full or long, with the reason, unless it was asked for."""
    long = config.getoption("--long")
    full = long or config.getoption("--full")
    for item in items:
        if "long" in item.keywords and not long:
            item.add_marker(pytest.mark.skip(reason="the long form; run with --long"))
        elif "full" in item.keywords and not full:
            item.add_marker(pytest.mark.skip(reason="takes long; run with --full, as CI does"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured of each fault, as the README quotes it."""
    reports = [each for outcome in ("passed", "failed") for each in terminalreporter.stats.get(outcome, [])]
    measured = [
        Measured(*told, held=report.passed)
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, told in report.user_properties
        if name == "fault"
    ]
    if measured:
        terminalreporter.section("faults")
        terminalreporter.write_line(table(measured))


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """How often a fault is to happen: rounds(quick, long)."""

    def choose(quick: int, long: int) -> int:
        return pytestconfig.getoption("--rounds") or (long if pytestconfig.getoption("--long") else quick)

    return choose


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Tell what was measured of a fault of faults.py: figures("0 lost", rounds=50)."""
    marker = request.node.get_closest_marker("fault")
    assert marker is not None, "a test that measures a fault is marked with its number"

    def tell(measured: str, *, rounds: int = 1, fault: int = marker.args[0]) -> None:
        request.node.user_properties.append(("fault", (fault, rounds, measured)))

    return tell


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, token or proxy of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith(OURS) or name.lower() in PROXIES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that a test ran in this process leaves no level, handler or renderer for the next one."""
    root = logging.getLogger()
    handlers, level, shown = root.handlers[:], root.level, warnings.showwarning
    yield
    logging.captureWarnings(False)
    warnings.showwarning = shown
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in log.QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def real_server() -> Iterator[RealServer]:
    """One real server for the session (with xdist: for each worker)."""
    server = realserver.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def six_servers() -> Iterator[Cluster]:
    """One cluster for the session (with xdist: for each worker)."""
    cluster = start_cluster()
    yield cluster
    cluster.stop()


@pytest.fixture
async def cluster(six_servers: Cluster) -> Cluster:
    """Three masters, three replicas, whole and emptied."""
    await six_servers.heal()
    six_servers.flush()
    return six_servers


@pytest.fixture(params=["one server", pytest.param("cluster", marks=pytest.mark.full)])
def ground(request: pytest.FixtureRequest) -> Cluster | None:
    """What the same test stands on: one server (None), and a cluster, of which a master may be killed."""
    if request.param == "one server":
        return None
    found: Cluster = request.getfixturevalue("cluster")
    return found


@pytest.fixture
def redis_url(real_server: RealServer) -> str:
    """URL of the real server, emptied."""
    real_server.flush()
    return real_server.url


@pytest.fixture
def keys() -> Keys:
    """The names of all keys under the default prefix."""
    return Keys()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What asks for a connection runs on fakeredis and on a real server; with --long on a cluster too."""
    if "connection" in metafunc.fixturenames:
        on = ["fakeredis", "valkey", *(["cluster"] if metafunc.config.getoption("--long") else [])]
        metafunc.parametrize("connection", on, indirect=True)


@pytest.fixture
async def connection(request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """A Connection to an empty store: the same test runs on fakeredis, a real server, and a cluster.

    At the end every key that is left must have a TTL or be one of the permanent ones of Keys.
    """
    if request.param == "fakeredis":
        server = FakeServer()
        opened = Connection(fake_client(server), fake_client(server))
    elif request.param == "cluster":
        servers: Cluster = request.getfixturevalue("six_servers")
        await servers.heal()
        servers.flush()
        opened = Connection.open(servers.url)
    else:
        opened = Connection.open(request.getfixturevalue("redis_url"))
    try:
        yield opened
        await no_key_without_end(opened.commands)
    finally:
        await opened.close()


@pytest.fixture
async def fakestore() -> AsyncIterator[Connection]:
    """A Connection to fakeredis alone, whose TIME follows a patched clock (time_machine)."""
    server = FakeServer()
    opened = Connection(fake_client(server), fake_client(server))
    yield opened
    await opened.close()


def fake_client(server: FakeServer) -> Redis:
    """A client on an in-process server, without retries like the real one."""
    return FakeAsyncRedis(server=server, retry=Retry(NoBackoff(), 0))


def permanent_patterns() -> list[str]:
    """Glob of every permanent key, under any prefix."""
    names = [name for name, _ in inspect.getmembers(Keys, inspect.isfunction) if not name.startswith("_")]
    every = [(name, getattr(Keys("*"), name)) for name in names if name not in WITH_TTL]
    return [build(*["*"] * len(inspect.signature(build).parameters)) for _, build in every]


async def no_key_without_end(client: Redis) -> None:
    """Fail if a key is left that has no TTL and is not permanent."""
    patterns = permanent_patterns()
    leaked = []
    for raw in await every_key(client):
        key = raw.decode()
        listed = any(fnmatchcase(key, pattern) for pattern in patterns)
        if not listed and await client.pttl(raw) == -1:
            leaked.append(key)
    if leaked:
        pytest.fail(f"keys left without a TTL that Keys does not list as permanent: {sorted(leaked)}")
