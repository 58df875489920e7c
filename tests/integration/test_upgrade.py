"""State that another version wrote: a newer poller re-bases it in silence, an older one leaves it alone."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from processes import home, inside
from waiting import wait_until
from watching import Watched, drum

from poller.errors import StoreRefused
from poller.model import dumps, loads
from poller.simulators import Options, serve
from poller.simulators.drum import World
from poller.store.connection import Connection
from poller.store.keys import STATE_VERSION, Keys

KINDS = ("opportunity", "project", "deliverable", "task")


async def written_by(
    connection: Connection, version: int, read: Callable[[Any], Any] = lambda view: view
) -> None:
    """Make the state what a poller of this version wrote, which `read` values and hashed rows in its way."""
    redis: Any = connection.commands
    for kind in KINDS:
        for record, data in (await redis.hgetall(Keys().records("acme", kind))).items():
            known = loads(data)
            for view in ("row", "detail"):
                if known.get(view):
                    known[view] = read(known[view])
            await redis.hset(Keys().records("acme", kind), record, dumps(known))
        for record, found in (await redis.hgetall(Keys().prints("acme", kind))).items():
            await redis.hset(Keys().prints("acme", kind), record, b"old" + found[:5])
    await redis.hset(Keys().head("acme"), "state", version)


def in_its_own_way(view: Any) -> Any:
    """Names without spaces, amounts cut to whole numbers, and a field that is read no longer."""
    changed = {"budget": "0", "name": str(view["name"]).replace(" ", ""), "of_old": True}
    changed |= {"amount": 0} if "amount" in view else {}
    if isinstance(view.get("client"), dict):
        changed["client"] = {**view["client"], "name": "?"}
    return {**view, **changed}


async def everything(connection: Connection) -> dict[bytes, Any]:
    """Every key of the source but its lease, with what it holds."""
    redis: Any = connection.commands
    read = {b"stream": redis.xrange, b"hash": redis.hgetall, b"string": redis.get}
    names = sorted(key for key in await redis.keys("*{acme}*") if not key.endswith(b":lease"))
    return {key: await read[await redis.type(key)](key) for key in names}


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Connection]:
    """The real server, as a service uses it."""
    opened = Connection.open(redis_url)
    yield opened
    await opened.close()


async def baselined(sim: Any, watched: Watched) -> None:
    """A deal with work in it, read in both views."""
    made = sim.orders.work.add_deliverable(101, name="Phase one")
    sim.orders.work.add_task(int(made[0].subject.partition("/")[2]), name="First task")
    await watched.cycle()


async def test_another_hash_makes_no_event_and_what_changed_meanwhile_is_told(connection: Connection) -> None:
    """Fingerprints are nobody's news: values are compared, and a change in the gap is found."""
    async with drum(connection, records=30) as (sim, watched):
        await baselined(sim, watched)
        await written_by(connection, STATE_VERSION)
        sim.orders.update(102, name="Changed while away")
        await watched.restart()
        assert await watched.cycle() == [("drum.opportunity.updated", "opportunity/102")]
        assert await watched.cycle() == []


async def test_values_read_otherwise_are_re_based_in_silence(connection: Connection) -> None:
    """Rows, detail views and nested records alike: no event, and what is kept is as it is read now."""
    async with drum(connection, records=30) as (sim, watched):
        await baselined(sim, watched)
        before = await watched.known("opportunity/101")
        await written_by(connection, STATE_VERSION - 1, in_its_own_way)
        await watched.restart()
        assert await watched.cycle() == []
        after = await watched.known("opportunity/101")
        assert before is not None
        assert after is not None
        assert (after.row, after.detail, after.revision) == (before.row, before.detail, before.revision)
        assert int(await connection.commands.hget(Keys().head("acme"), "state")) == STATE_VERSION  # type: ignore[misc]
        assert not any(mine.recheck for mine in watched.session.memory.lists.values())


async def test_after_the_re_base_every_change_is_told_again(connection: Connection) -> None:
    """Also of what had not changed for long before it: rows, detail views and nested records."""
    async with drum(connection, records=30) as (sim, watched):
        await baselined(sim, watched)
        await written_by(connection, STATE_VERSION - 1, in_its_own_way)
        await watched.restart()
        await watched.cycle()
        await watched.restart()
        made = max(each for each in sim.world.state(101).parts if each.startswith("task/"))
        sim.orders.update(101, name="Told", due_date="2026-05-01T00:00:00Z")
        sim.orders.work.update_task(int(made.partition("/")[2]), name="Told, too")
        assert sorted(await watched.cycle()) == [
            ("drum.opportunity.updated", "opportunity/101"),
            ("drum.opportunity.updated", "opportunity/101"),
            ("drum.task.updated", made),
        ]


@pytest.mark.parametrize("crash", [False, True])
async def test_what_is_more_than_an_update_is_told_through_an_upgrade(
    connection: Connection, crash: bool
) -> None:
    """A win, a loss, a removal and a new deal during an upgrade are told once, even if begun twice."""
    async with drum(connection, records=30, conversion_after=None) as (sim, watched):
        await baselined(sim, watched)
        listed = [row.id for row in sim.world.live("opportunity") if row.values["project_status"] in "123"]
        won, lost, gone, turned = listed[1:5]
        await written_by(connection, STATE_VERSION - 1, in_its_own_way)
        sim.orders.win(won)
        sim.orders.lose(lost)
        sim.orders.archive(gone)
        sim.orders.win(turned)
        sim.orders.convert(turned)
        (made,) = sim.orders.create_opportunity(name="New")
        await watched.restart()
        if crash:
            sim.fail_next("http502", path="projects")
            await watched.sweep()
            await watched.restart()
        await watched.cycle_quietly()
        await watched.cycle_quietly()
        assert sorted(await watched.told()) == sorted(
            [
                ("drum.opportunity.won", f"opportunity/{won}"),
                ("drum.opportunity.lost", f"opportunity/{lost}"),
                ("drum.opportunity.removed", f"opportunity/{gone}"),
                ("drum.opportunity.won", f"opportunity/{turned}"),
                ("drum.project.created", f"project/{turned}"),
                ("drum.opportunity.created", made.subject),
            ]
        )


async def test_a_new_source_and_an_empty_state_are_not_re_based(connection: Connection) -> None:
    """There is nothing that anybody read otherwise."""
    async with drum(connection, world=World()) as (_, watched):
        await watched.restart()
        assert watched.session.memory.rebased_at == 0.0


async def test_an_older_poller_refuses_newer_state_and_writes_nothing(connection: Connection) -> None:
    """It says which version is needed; not a key of the source has moved, and nor has its stream."""
    async with drum(connection, records=12) as (_, watched):
        await written_by(connection, STATE_VERSION + 1)
        before = await everything(connection)
        with pytest.raises(StoreRefused) as refused:
            await watched.restart()
        assert str(refused.value) == (
            f"source 'acme': its state has version {STATE_VERSION + 1}, this poller knows {STATE_VERSION}: "
            "run the newer poller, or another redis.prefix"
        )
        assert await everything(connection) == before


async def test_a_service_does_not_start_on_newer_state(
    tmp_path: Path, redis_url: str, store: Connection
) -> None:
    """Exit 69, the reason on its last line, and nothing of the source was touched."""
    async with serve("drum", options=Options(records=12)) as sim:
        given = {"acme": {"base_url": sim.url, "token": sim.token}}
        async with home(tmp_path, sources=given, redis={"url": redis_url}) as place:
            first = await place.run()
            await wait_until(lambda: first.logged("source.swept", complete=True), "a sweep", 20)
            first.terminate()
            assert await first.end() == 0
            await written_by(store, STATE_VERSION + 1)
            before, asked = await everything(store), len(sim.requests)
            second = await place.run()
            assert await second.end() == 69
            assert f"its state has version {STATE_VERSION + 1}" in second.words(1)
            assert "run the newer poller" in second.words(1)
            assert await everything(store) == before
            assert len(sim.requests) == asked


async def test_an_older_replica_that_runs_is_unready_and_leaves_the_source_alone(redis_url: str) -> None:
    """When it gets the lease of a source with newer state it gives it back, and says why it is not ready."""
    async with serve("drum", options=Options(records=12)) as sim:
        given = {"acme": {"kind": "drum", "base_url": sim.url, "token": sim.token, "budget": "100000/5m"}}
        async with inside(redis_url, sources=given) as (service, connection):
            redis: Any = connection.commands
            head, lease = Keys().head("acme"), Keys().source_lease("acme")

            async def has_begun() -> bool:
                return bool(await redis.hget(head, "memory"))

            await wait_until(has_begun, "a first commit", 20)
            await written_by(connection, STATE_VERSION + 1)
            # Another one took over, wrote and died: between the two no commit of ours may come.
            async with redis.pipeline(transaction=True) as pipe:
                pipe.hincrby(lease, "fence", 1)
                pipe.hset(head, "state", STATE_VERSION + 1)
                await pipe.execute()

            def is_refused() -> bool:
                return any("its state has version" in reason for reason in service.pulse().reasons)

            await wait_until(is_refused, "word of the newer state", 20)
            assert await redis.hget(head, "state") == str(STATE_VERSION + 1).encode()
            await wait_until(
                lambda: not service.pulse().held["source/acme"], "the lease to be given back", 20
            )
