"""Every key of Redis, built in one place.

Keys of one source share the hash tag `{source}`, so that one script moves them together, on
Redis Cluster too. What is an endpoint's own has the tag `{webhook.NAME}`, a host's budget
`{budget.HOST.EGRESS}`: a source's name has no dot, so no two tags meet.
"""

from dataclasses import dataclass

STATE_VERSION = 1
"""Version of what is kept: one more whenever what a list or a detail view says is read into other values.

A newer program compares everything anew and takes what differs in silence, `updated` alone: a status, a
date, a removal is told as ever. An older one refuses newer state and writes nothing.
"""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys under one prefix."""

    prefix: str = "poller"

    # --- one source -------------------------------------------------------------------
    def events(self, source: str) -> str:
        """The stream to consume: fields id, type, subject, time, event (contract §6)."""
        return f"{self.prefix}:{{{source}}}:events"

    def group_dead(self, source: str, group: str) -> str:
        """Stream: what a consumer group of the client gave up on."""
        return f"{self.prefix}:{{{source}}}:events:dead:{group}"

    def group_tries(self, source: str, group: str) -> str:
        """Hash: entry that a consumer of the client left -> how often it was tried again."""
        return f"{self.prefix}:{{{source}}}:events:tries:{group}"

    def head(self, source: str) -> str:
        """Hash: version, last commit, and what the source as a whole remembers."""
        return f"{self.prefix}:{{{source}}}:head"

    def records(self, source: str, kind: str) -> str:
        """Hash: record id -> what is known of it."""
        return f"{self.prefix}:{{{source}}}:records:{kind}"

    def prints(self, source: str, kind: str) -> str:
        """Hash: id of a record that is listed -> fingerprint of its row as last seen."""
        return f"{self.prefix}:{{{source}}}:prints:{kind}"

    def source_lease(self, source: str) -> str:
        """Hash: who polls the source, until when, and its fence."""
        return f"{self.prefix}:{{{source}}}:lease"

    def requests(self, source: str) -> str:
        """List: what operators asked of the source (poll, pause, resume, resync, release)."""
        return f"{self.prefix}:{{{source}}}:requests"

    def report(self, source: str) -> str:
        """String: what the replica that polls the source last said of it, as JSON."""
        return f"{self.prefix}:{{{source}}}:report"

    def spent(self, source: str, day: int) -> str:
        """Hash: five minutes of a day (counted from 1970) -> most of the budget that counted in them."""
        return f"{self.prefix}:{{{source}}}:spent:{day}"

    # --- one endpoint, in one source's slot ------------------------------------------------
    def place(self, source: str, endpoint: str) -> str:
        """Hash: an endpoint's place in the source's stream, and its counters."""
        return f"{self.prefix}:{{{source}}}:hook:{endpoint}:place"

    def waiting(self, source: str, endpoint: str) -> str:
        """Sorted set: entries that wait for their next attempt, by its time."""
        return f"{self.prefix}:{{{source}}}:hook:{endpoint}:waiting"

    def tries(self, source: str, endpoint: str) -> str:
        """Hash: entry id -> attempts made and when the first was."""
        return f"{self.prefix}:{{{source}}}:hook:{endpoint}:tries"

    def dead(self, source: str, endpoint: str) -> str:
        """Sorted set: dead letters by the time they died; kept for 14 days."""
        return f"{self.prefix}:{{{source}}}:hook:{endpoint}:dead"

    # --- one endpoint's own ------------------------------------------------------------
    def endpoint(self, endpoint: str) -> str:
        """Hash: pause, probing, disabled, pace: what holds over all sources."""
        return f"{self.prefix}:{{webhook.{endpoint}}}:state"

    def endpoint_lease(self, endpoint: str) -> str:
        """Hash: who serves the endpoint, until when, and its fence."""
        return f"{self.prefix}:{{webhook.{endpoint}}}:lease"

    def endpoint_sources(self, endpoint: str) -> str:
        """Set: the sources that an endpoint has known so far, those it leaves out too."""
        return f"{self.prefix}:{{webhook.{endpoint}}}:sources"

    def attempts(self, endpoint: str) -> str:
        """Stream: the endpoint's last 1,000 attempts."""
        return f"{self.prefix}:{{webhook.{endpoint}}}:attempts"

    # --- shared -----------------------------------------------------------------------
    def budget(self, host: str, egress: str) -> str:
        """Sorted set: requests that still count against the host's budget."""
        return f"{self.prefix}:{{budget.{host}.{egress}}}:log"

    def blocked(self, host: str, egress: str) -> str:
        """Hash: until when the host is left alone, and what was learned of its limit."""
        return f"{self.prefix}:{{budget.{host}.{egress}}}:blocked"

    def sources(self) -> str:
        """Set: the names of all sources that have a stream."""
        return f"{self.prefix}:sources"

    def group_sources(self, group: str) -> str:
        """Set: the sources that a consumer group of the client has known so far, those it leaves out too."""
        return f"{self.prefix}:sources:{group}"

    def replicas(self) -> str:
        """Hash: replica id -> when it was last alive."""
        return f"{self.prefix}:replicas"
