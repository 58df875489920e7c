"""What Close's opportunities are: their documented types, how their fields compare, what their changes mean.

Field by field from facts.md §2.2; the source itself is in `close.py`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

from poller.watch.diff import Diff, Shape
from poller.watch.events import Known

from .base import Kind, by_name

LATE_S = 300.0
"""How late a write may show under its own date; the documents name five minutes for the event log."""
WHOLE_EVERY_S = 3600.0
"""What does not move date_updated, and what a change of role hides, only a whole reading shows."""
APP_PATH = "/opportunities/"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Opportunity(BaseModel):
    """A deal. Unknown keys are kept, documented ones may be missing; `custom.cf_*` are the account's own."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    id: str
    organization_id: str | None = None
    lead_id: str | None = None
    lead_name: str | None = None
    contact_id: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    status_id: str
    status_label: str | None = None
    status_type: str
    """active, won or lost: this alone says how the deal stands."""
    pipeline_id: str | None = None
    note: str | None = None
    value: int | None = None
    """In whole cents of `value_currency`, per `value_period`."""
    value_currency: str | None = None
    value_period: str | None = None
    confidence: int | None = None
    date_won: str | None = None
    """While the deal is active the day on which somebody hopes to win it: never proof of a win."""
    date_lost: str | None = None
    date_created: str
    date_updated: str


_COMPUTED = frozenset(
    "value_formatted expected_value annualized_value annualized_expected_value is_stalled stall_status "
    "suggested_action comment_summary integration_links".split()
)
"""What follows from other fields, from the clock, or from the account's settings."""

_ECHOES = frozenset(
    "date_updated updated_by updated_by_name created_by_name lead_name contact_name user_name status_label "
    "status_display_name pipeline_name lead_primary_email lead_primary_phone".split()
)
"""Names of what the opportunity refers to by id, and who touched it last: no change of its own."""


def unix_us(text: str) -> int:
    """A moment in Unix microseconds; one without an offset is UTC, as pipelines and events are printed.

    Raises:
        ValueError: no moment.
    """
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def mark_us(cursor: str) -> int:
    """The moment in a cursor, by the server's clock, in Unix microseconds.

    Raises:
        ValueError: it is none of ours.
    """
    return unix_us(cursor.partition(" ")[0])


def _reached(cursor: str) -> float:
    try:
        return mark_us(cursor) / 1_000_000
    except ValueError:
        return 0.0


def _made_at(_record_id: str, row: Mapping[str, Any]) -> float:
    try:
        return unix_us(str(row.get("date_created"))) / 1_000_000
    except (ValueError, OverflowError):
        return 0.0


def _verdict(diff: Diff) -> str:
    return "status_changed" if "status_id" in diff.changed else "updated"


def _amount(cents: object) -> str | None:
    """Major units as a decimal string: 300000 is 3000.00."""
    return format(Decimal(str(cents)).scaleb(-2), "f") if isinstance(cents, int) else None


def _deal(known: Known, meaning: str, url: str, names: Mapping[str, str]) -> dict[str, str | None]:
    """An opportunity has no name of its own: people know it by its lead, on whose page it is shown."""
    seen = known.object
    lead, home = seen.get("lead_id"), url.partition(APP_PATH)[0]
    return {
        "name": seen.get("lead_name"),
        "client": seen.get("lead_name"),
        "amount": _amount(seen.get("value")),
        "currency": seen.get("value_currency"),
        "status": meaning,
        "stage": names.get(f"status/{seen.get('status_id')}", seen.get("status_label")),
        "owner": seen.get("user_name"),
        "url": f"{home}/lead/{lead}/" if lead else url,
    }


KINDS = by_name(
    Kind(
        name="opportunity",
        type_prefix="close.opportunity",
        suffixes=tuple("created appeared updated status_changed won lost reopened removed".split()),
        model=Opportunity,
        shape=Shape(noise=_COMPUTED, silent=_ECHOES, optional="custom."),
        judged=True,
        detailed=False,
        verdict=_verdict,
        deal=_deal,
        rank=_made_at,
        late=LATE_S,
        reached=_reached,
        whole_every_s=WHOLE_EVERY_S,
    )
)
