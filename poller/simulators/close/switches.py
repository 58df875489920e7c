"""What can be set about the simulated Close, also while it runs: what documents leave open, and hazards."""

from typing import Literal

from pydantic import Field

from poller.simulators.wire import WireSwitches

Quiet = Literal["rename", "merge", "custom", "currency", "stall", "restore"]


class Switches(WireSwitches):
    """Frozen: changed as a whole. The defaults are what the documents say, or the likeliest."""

    # --- pages ------------------------------------------------------------------------------
    limit_cap: int = Field(100, ge=1, description="Most rows of one page; a larger `_limit` is answered 400.")
    skip_cap: int = Field(10_000, ge=0, description="Largest `_skip`; a larger one is answered 400.")
    tie_order: Literal["id", "random"] = Field(
        "id", description="Rows that the order leaves equal; `random`: another way at each request."
    )
    drift: int = Field(0, ge=0, description="Transitions of the life before each page after the first.")

    # --- time -------------------------------------------------------------------------------
    resolution_ms: int = Field(1, ge=1, description="Timestamps are multiples of it: 1000 makes many equal.")
    filter_precision_ms: int = Field(
        1, ge=1, description="Filters compare dates cut down to multiples of it: 1000, 60000."
    )
    tick_s: float = Field(0.0, ge=0, description="Seconds that the account's clock gains at each transition.")
    lag: int = Field(
        0,
        ge=0,
        description="A write shows 0 to this many transitions later than its date_updated says, by chance.",
    )
    replica_lag: int = Field(
        0, ge=0, description="Lists and the event log stand this many transitions back; GET by id does not."
    )
    quiet: frozenset[Quiet] = Field(
        frozenset({"rename", "stall"}), description="Kinds of change that do not move date_updated."
    )

    # --- the event log ----------------------------------------------------------------------
    event_delay: int = Field(
        0, ge=0, description="An event shows 0 to this many transitions late, by chance, under its own date."
    )
    consolidate_s: float = Field(
        5.0, ge=0, description="Updates of one object within it become one event, whose date_updated moves."
    )
    event_days: float = Field(30.0, gt=0, description="How long events are kept.")
    event_dates: Literal["naive", "offset"] = Field("naive", description="How the event log prints moments.")

    # --- limits ------------------------------------------------------------------------------
    rate_limit: int | None = Field(
        100, ge=0, description="Requests per window, endpoint group and key; None: no limit, no header."
    )
    rate_window_s: float = Field(5.0, gt=0, description="Seconds of a window; windows begin on the clock.")
    org_factor: int = Field(3, ge=1, description="The organization's limit, in limits of one key.")
    group_limits: dict[str, int] = Field(
        {}, description="Tighter limits of single groups: opportunity, opportunity_id, event, status …"
    )
    refusal: Literal["header", "retry_after", "body", "silent"] = Field(
        "header", description="What a 429 tells: its header, Retry-After only, the old body only, nothing."
    )
    fractional: bool = Field(False, description="Resets are told as 0.870663 instead of whole seconds.")
