"""Laws of event ids and envelopes (contract §4)."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from poller.model import CloudEvent, Event, loads
from poller.watch.diff import Shape
from poller.watch.events import Bounds, Known, kept, known_of, make

BOUNDS = Bounds(1763800000.0, 1763800030.5)


def updated(
    known: Known, view: dict[str, object], changed: tuple[str, ...], at: float = 1763800031.0
) -> Event:
    return make(
        known,
        source="/drum/acme",
        subject="opportunity/101",
        type_="drum.opportunity.updated",
        bounds=BOUNDS,
        object_=view,
        changed=changed,
        detected_at=at,
    )


def test_a_to_b_to_a_to_b_gives_three_ids() -> None:
    """Every real transition has an id of its own, also one that happened before."""
    known = Known(row={"name": "A"})
    ids = [updated(known, {"name": name}, ("name",)).id for name in ("B", "A", "B")]
    assert len(set(ids)) == 3


@given(st.floats(1e9, 2e9), st.decimals(0, 10**6, places=2))
def test_the_same_transition_found_again_has_the_same_id(at: float, amount: Decimal) -> None:
    """Another moment, another spelling, another field beside it: after a crash, or a lost tail of Redis."""
    one = updated(Known(revision=4), {"amount": amount, "name": "x"}, ("amount",))
    two = updated(Known(revision=4), {"amount": amount + Decimal("0.000"), "name": "y"}, ("amount",), at)
    assert one.id == two.id


@given(st.permutations(["a", "b", "c"]), st.permutations([1, 2, 3]), st.text())
def test_an_order_that_means_nothing_gives_no_other_id(tags: list[str], ids: list[int], name: str) -> None:
    """Tags and people are sets, a name may be another by now, 1.5 may be sent as a string: one transition."""
    shape = Shape(
        sets=frozenset({"tags"}), refs={"users": "user", "team": "team"}, numbers=frozenset({"amount"})
    )

    def said(view: dict[str, object]) -> str:
        known = Known(revision=4)
        return make(
            known,
            source="/drum/acme",
            subject="opportunity/101",
            type_="drum.opportunity.updated",
            bounds=BOUNDS,
            object_=view,
            changed=tuple(view),
            shape=shape,
            detected_at=1.0,
        ).id

    users = [{"id": each, "name": "x"} for each in (1, 2, 3)]
    first = {"tags": ["a", "b", "c"], "users": users, "team": {"id": 1, "name": "x"}, "amount": "1.50"}
    again = {
        "tags": tags,
        "users": [{"id": each, "name": name} for each in ids],
        "team": {"id": 1, "name": name},
        "amount": Decimal("1.5"),
    }
    assert said(first) == said(again)
    assert said(first) != said({**first, "tags": ["a", "b"]})


def test_a_win_found_again_has_the_same_id_whatever_else_moved() -> None:
    """Two ids for one win would be two invoices."""

    def won(known: Known, name: str) -> Event:
        return make(
            known,
            source="/drum/acme",
            subject="opportunity/101",
            type_="drum.opportunity.won",
            bounds=BOUNDS,
            object_={"name": name},
            detected_at=1.0,
        )

    first = Known(revision=3)
    assert won(first, "A").id == won(Known(revision=5), "B").id
    assert won(first, "A").id != won(Known(), "A").id


def test_the_envelope_is_a_cloud_event_with_exact_numbers() -> None:
    """JSON numbers keep the places that the API sent, and the id has no dot in it."""
    event = updated(Known(), {"amount": Decimal("250000.00"), "rate": Decimal("1.10")}, ("amount",))
    assert b'"amount":250000.00' in event.body
    assert b'"rate":1.10' in event.body
    parsed = CloudEvent[dict[str, object]].model_validate(loads(event.body))
    assert (parsed.id, parsed.subject, parsed.data.revision) == (event.id, "opportunity/101", 1)
    assert parsed.data.observed.not_before.timestamp() == BOUNDS.not_before
    assert "." not in event.id


def test_what_is_kept_of_a_record_comes_back_as_it_was() -> None:
    """Decimals keep their places in Redis too."""
    known = Known(row={"amount": Decimal("1.10")}, row_at=1763800000.25, revision=7, counts={"won": 1})
    again = known_of(kept(known))
    assert again == known
    assert str(again.row["amount"]) == "1.10"
    assert known_of(None) is None


@given(st.lists(st.sampled_from(["won", "lost", "reopened", "removed", "restored"]), max_size=8))
def test_revisions_and_counts_go_on_whatever_happens(suffixes: list[str]) -> None:
    """Revisions count every event from 1; the id of a type depends on how often it has happened."""
    known, ids = Known(), []
    for suffix in suffixes:
        event = make(
            known,
            source="/drum/acme",
            subject="opportunity/101",
            type_=f"drum.opportunity.{suffix}",
            bounds=BOUNDS,
            object_={},
            detected_at=1.0,
        )
        ids.append(event.id)
        assert loads(event.body)["data"]["revision"] == len(ids)
    assert len(set(ids)) == len(ids)
    assert sum(known.counts.values()) == known.revision == len(ids)


@given(st.floats(1e9, 2e9))
def test_the_later_bound_is_never_before_the_moment(at: float) -> None:
    """Written to the millisecond, the earlier bound goes down and the later one up."""
    event = make(
        Known(),
        source="/drum/acme",
        subject="opportunity/101",
        type_="drum.opportunity.updated",
        bounds=Bounds(at, at),
        object_={},
        detected_at=at,
    )
    observed = CloudEvent[dict[str, object]].model_validate(loads(event.body)).data.observed
    assert observed.not_before.timestamp() <= at + 1e-6
    assert at - 1e-6 <= observed.not_after.timestamp() <= at + 0.0011
