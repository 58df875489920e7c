"""What can be set about the simulated Drum, also while it runs: what the documents leave open."""

from typing import Any, Literal

from pydantic import Field

from poller.simulators.wire import WireSwitches


class Switches(WireSwitches):
    """Frozen: changed as a whole. The defaults are what the documents say, or the likeliest."""

    items_cap: int = Field(100, ge=1, description="Most rows of one page, whatever `items` asks for.")
    items_default: int = Field(20, ge=1, description="Rows of a page when `items` is left out.")
    past_end: Literal["empty", "last", "404", "500"] = Field("empty", description="A page after the last.")
    headers: Literal["off", "pagy8", "pagy9", "renamed"] = Field("off", description="Pagination headers.")
    sort: Literal["id", "updated", "name", "random"] = Field(
        "id", description="Order of a list; `updated` is latest first, `random` another at each request."
    )
    numbers: Literal["places", "short", "string"] = Field(
        "places", description='250000.00, 250000.0 or "250000.0".'
    )
    errors: Literal["documented", "string", "object", "html"] = Field(
        "documented", description="Body of 401, 403, 404: by resource as documented, or one shape for both."
    )
    retention: bool = Field(False, description="Projects carry the retention_* keys.")
    phases: bool = Field(False, description="Deliverables carry project_phase_id.")
    shuffled: bool = Field(False, description="People and tags come in another order after each change.")
    hidden_keys: tuple[str, ...] = Field((), description="Top-level keys, or `tasks`, that it lacks.")
    extra_keys: dict[str, Any] = Field({}, description="Top-level keys that no document knows.")
    conversion_after: int | None = Field(
        0,
        ge=0,
        description="Transitions between a won status and the project; 0: at once, None: by order only.",
    )
    number_on_win: bool = Field(True, description="A won opportunity gets a number of the projects' series.")
    drift: int = Field(0, ge=0, description="Transitions of the life before each page after the first.")
