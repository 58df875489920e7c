"""API keys and OAuth tokens: whose they are, what they may see, until when."""

from dataclasses import dataclass
from typing import Literal

Scope = Literal["all", "own", "none"]
SCOPES: tuple[Scope, ...] = ("all", "own", "none")


@dataclass(slots=True, kw_only=True)
class Token:
    """One user's key for one organization; taken as the name of Basic and as Bearer."""

    secret: str
    user: str
    admin: bool = True
    """Others see what events changed for an hour only."""
    scope: Scope = "all"
    """Which opportunities: all, those of the user, none."""
    expires_at: float | None = None
    """Unix seconds; None: never."""
    allowed: bool = True
    """False: the user was deactivated, or may not use the API."""
    paid: bool = True
    """False: the organization's plan has lapsed."""

    def verdict(self, *, now: float) -> Literal[200, 401, 402, 403]:
        """200 where the token may read, else what it is answered."""
        if self.expires_at is not None and now >= self.expires_at:
            return 401
        if not self.paid:
            return 402
        return 200 if self.allowed else 403
