"""Tokens: whose they are, of which kind, what they may read, until when."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Reach: TypeAlias = Literal["all", "own", "none"]
SCOPES = frozenset({"deals:read", "projects:read", "recents:read", "contacts:read", "users:read"})
"""What an OAuth token can be granted of what is served here."""
OAUTH_S = 3_600.0
"""How long an access token holds, in seconds, unless it is told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One user's token. It sees what that user sees: all deals and projects, their own, or none."""

    secret: str
    kind: Literal["api", "oauth"] = "api"
    user: int = 1
    reach: Reach = "all"
    scopes: frozenset[str] = SCOPES
    expires_at: float | None = None
    """Unix seconds; None: never."""

    def holds(self, *, now: float) -> bool:
        """Whether it is still taken."""
        return self.expires_at is None or now < self.expires_at

    def reads(self, scopes: frozenset[str]) -> bool:
        """Whether it may call what needs one of these scopes; none needed: anybody."""
        return self.kind == "api" or not scopes or bool(self.scopes & scopes)

    def sees(self, owner: int) -> bool:
        """Whether its user sees what that user owns."""
        return self.reach == "all" or (self.reach == "own" and owner == self.user)
