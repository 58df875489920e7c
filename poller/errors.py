"""The tree of faults: whose fault it is, and what to do next.

    PollerError
    ├── SettingsError       yours: change the settings (exit 2)
    ├── StoreError          Redis
    │   ├── StoreUnavailable    it cannot be reached, or is loading: try again for ever (exit 69)
    │   └── StoreRefused        it is the wrong server, or wrongly set up: an operator must act (exit 69)
    ├── Fenced              another replica holds this now: drop the work, nothing was written
    ├── Conflict            somebody else committed in between: read again, nothing was written
    └── UpstreamError       the CRM
        ├── Unreachable         no answer: try again later, conclude nothing
        ├── Limited             429 or 503: the host is left alone for a while
        ├── Refused             401, 402 or 403: the source is suspended; never a removal
        └── BadAnswer           an answer that cannot be what it claims: conclude nothing from it

A message names the thing, the value and the remedy. It never holds a secret.
"""

from collections.abc import Sequence


class PollerError(Exception):
    """Base of every fault that this project raises on purpose."""


class SettingsError(PollerError):
    """The settings cannot be used; `problems` names each one with its remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class StoreError(PollerError):
    """Redis did not do what was asked."""


class StoreUnavailable(StoreError):
    """Redis cannot be reached, is loading, or gave no answer: what was asked may or may not be done."""


class StoreRefused(StoreError):
    """Redis answers but cannot be used as it is (version, policy, memory, a second server)."""


class Fenced(PollerError):
    """A newer holder of the lease exists; nothing was written."""


class Conflict(PollerError):
    """The expected version has moved on; nothing was written."""


class UpstreamError(PollerError):
    """The CRM did not give a usable answer."""


class Unreachable(UpstreamError):
    """No answer: refused, unresolved, reset or too slow."""


class Limited(UpstreamError):
    """The host asks to be left alone; `retry_after` is in seconds, or None where it named no time.

    `why` is what its answer said, without the time; empty where there was none.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, why: str = "") -> None:
        self.retry_after = retry_after
        self.why = why
        super().__init__(message)


class Refused(UpstreamError):
    """401, 402 or 403: the token is missing, expired, unpaid or not allowed; `status` says which."""

    def __init__(self, message: str, *, status: int) -> None:
        self.status = status
        super().__init__(message)


class BadAnswer(UpstreamError):
    """An answer that is not what the API documents: nothing is concluded from it.

    `status` is set where the status itself is the fault, such as a 422 for a page of that size.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)
