"""What `data.object` is for events about sources and endpoints themselves (contract §5)."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Told(BaseModel):
    model_config = ConfigDict(extra="allow")


class BaselineCompleted(_Told):
    """Every list of the source was read to its end for the first time; from now on changes are said."""

    counts: dict[str, int] = Field(description="Records by list.", examples=[{"opportunity": 120}])


class Suspended(_Told):
    """The token is refused (401 or 403): nothing is read, and it is asked again with growing pauses."""

    reason: str = Field(examples=["app.getdrum.com refuses the token (401 for /api/v1/opportunities)"])


class Resumed(_Told):
    """The token is accepted again."""

    reason: str = Field(examples=["the token is accepted again"])


class Held(_Told):
    """Too much is missing, a list looks like another account's, or a record answers 403: removals wait."""

    list: str = Field(examples=["opportunity"])
    reason: str = Field(examples=["45 of 300 are missing at once"])
    suspects: int | None = Field(None, description="Records that are missing.", examples=[45])
    record: str | None = Field(None, description="The one that answers 403; the reason is `forbidden`.")


class Released(_Told):
    """What was held goes on: the records are back, or an operator released them."""

    list: str = Field(examples=["opportunity"])
    reason: str = Field(examples=["the missing records are back"])
    record: str | None = Field(None, description="The one that answers again after a 403.")


class Renamed(_Told):
    """A status, client, team, user or the like is called otherwise now: said once, not for each record."""

    what: str = Field(examples=["status"])
    id: str = Field(examples=["2"])
    name: str = Field(
        description="Its name now; the old one is in data.previous.", examples=["Proposal sent"]
    )


class FieldsHidden(_Told):
    """Fields that the token may no longer read: unknown from now on, not changed."""

    fields: list[str] = Field(
        description="Kind and field; one event for all that one change of the token's role concerns.",
        examples=[["opportunity.total_budget", "task.budget"]],
    )


class FieldsShown(_Told):
    """Fields that the token may read now and could not before."""

    fields: list[str] = Field(
        description="Kind and field; one event for all that one change of the token's role concerns.",
        examples=[["opportunity.total_budget", "task.budget"]],
    )


class _Endpoint(_Told):
    id: str = Field(
        description="The same each time this is said.", examples=["webhook.billing.1795350000000"]
    )
    endpoint: str = Field(examples=["billing"])
    host: str = Field(examples=["hooks.example.com"])
    reason: Literal["gone", "silent", "operator"] | None = Field(None, examples=[None])
    failures: int = Field(description="In a row.", examples=[12])
    failing_since: datetime | None = Field(None, examples=["2026-11-21T08:00:00.000Z"])
    last_success: datetime | None = Field(None, examples=["2026-11-21T07:59:58.000Z"])


class Failing(_Endpoint):
    """The endpoint took nothing for 24 hours."""


class Disabled(_Endpoint):
    """Nothing more is sent to the endpoint: 410, 72 hours without success, or an operator."""


class Recovered(_Endpoint):
    """The endpoint takes events again."""


class Tested(_Told):
    """An example that an operator sent with `poller webhooks test`: nothing has changed."""

    endpoint: str = Field(examples=["billing"])
    message: str = Field(examples=["A test from poller: nothing has changed."])


OF_SOURCES: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "baseline_completed": BaselineCompleted,
        "suspended": Suspended,
        "resumed": Resumed,
        "held": Held,
        "released": Released,
        "renamed": Renamed,
        "fields_hidden": FieldsHidden,
        "fields_shown": FieldsShown,
    }
)
OF_WEBHOOKS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {"failing": Failing, "disabled": Disabled, "recovered": Recovered, "test": Tested}
)
