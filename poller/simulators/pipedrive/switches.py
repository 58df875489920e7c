"""What can be set about the simulated Pipedrive, also while it runs: what the documents leave open."""

from typing import Literal

from pydantic import Field

from poller.simulators.wire import WireSwitches


class Switches(WireSwitches):
    """Frozen: changed as a whole. The defaults are what the documents say, or the likeliest.

    `limit` of the wire is a limiter in front of the host, per address; the API's own are below.
    """

    # --- limits ---------------------------------------------------------------------------
    burst: int | None = Field(
        None, ge=1, description="Requests per token in any 2 seconds (20, 40, 100 or 120 by plan); None: any."
    )
    daily_tokens: int | None = Field(
        None, ge=0, description="Tokens of the company per day (30,000 for one seat of Lite); None: any."
    )
    day_begins_h: float = Field(0.0, ge=0, lt=24, description="Hours after UTC midnight: the server's own.")
    limit_headers: Literal["all", "burst", "off"] = Field(
        "all", description="Whether answers carry x-ratelimit-* and x-daily-ratelimit-token-*."
    )
    limit_body: Literal["json", "text", "empty"] = Field("json", description="Body of a 429.")
    ban_after: int = Field(
        10, ge=1, description="429s in a row (without 2 quiet seconds between) before HTML 403s begin."
    )
    ban_s: float = Field(60.0, ge=0, description="How long the HTML 403s last, in seconds.")

    # --- lists ----------------------------------------------------------------------------
    page_most: int = Field(
        500, ge=1, description="Most rows of a page of v2, whatever `limit` asks; above 500 is 400 anyway."
    )
    last_page: Literal["null", "absent", "bare"] = Field(
        "null", description="The last page: next_cursor null, no next_cursor, or no additional_data."
    )
    drift: int = Field(0, ge=0, description="Transitions of the life before each page after the first.")
    replica_lag_s: float = Field(
        0.0, ge=0, description="Seconds until a write that lags is visible, with the update_time it had."
    )
    replica_lag_share: float = Field(1.0, ge=0, le=1, description="Share of the writes that lag.")

    # --- what the documents do not say ------------------------------------------------------
    deleted_status: Literal["deleted", "kept"] = Field(
        "deleted", description="`status` of a deleted deal of v2; is_deleted is true either way."
    )
    deleted_by_id: Literal["200", "404", "410"] = Field(
        "200", description="GET of a deleted record within its 30 days."
    )
    forbidden_by_id: Literal["403", "404"] = Field(
        "403", description="GET of a record that the token's user may not see."
    )
    untouched: frozenset[Literal["archive", "unarchive", "delete", "restore", "merge"]] = Field(
        frozenset(), description="What leaves update_time as it was."
    )
    stale_times: bool = Field(False, description="won_time and lost_time stay when a deal is reopened.")
    null_custom_fields: bool = Field(True, description="custom_fields of v2 name the empty ones too.")
    errors: Literal["live", "documented", "html"] = Field(
        "live", description="Body of an error: the envelope as seen live, with data: null, or HTML."
    )

    # --- v1 -------------------------------------------------------------------------------
    deprecated: Literal["on", "404", "410"] = Field(
        "on", description="The endpoints of v1 that are out of support: /stages, /stages/{id}/deals."
    )
    people_v1: Literal["ids", "objects"] = Field(
        "ids", description="user_id, person_id, org_id of a deal of v1: numbers, or objects as captured."
    )
    recents_order: Literal["asc", "desc"] = Field("asc", description="Order of /recents, by time.")
    recents_inclusive: bool = Field(True, description="Whether since_timestamp itself is within.")
    tombstones: bool = Field(True, description="What was purged shows in /recents, its data null.")

    # --- the account ------------------------------------------------------------------------
    projects: Literal["on", "402", "403", "404"] = Field(
        "on", description="Without the add-on every endpoint of projects answers so."
    )
    query_token: bool = Field(True, description="?api_token= is taken besides the header.")
