"""Tokens: whose they are, what they may do, until when."""

from dataclasses import dataclass
from typing import Literal

from .fields import Role


@dataclass(slots=True, kw_only=True)
class Token:
    """One account user's token; `expires_at` is in Unix seconds, None: never."""

    secret: str
    role: Role
    expires_at: float | None = None
    archived: bool = False
    """The user was archived or deactivated."""

    def verdict(self, *, now: float) -> Literal[200, 401, 403]:
        """200 where the token may read, 401 where it has expired, 403 where its user may not."""
        if self.expires_at is not None and now >= self.expires_at:
            return 401
        return 403 if self.archived or not self.role.api_read else 200
