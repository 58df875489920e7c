"""The orders for leads: deleted with all that is in them, merged, brought back."""

from collections.abc import Callable

from poller.simulators.truth import Entries

from .journal import Request
from .tables import Named, Row
from .world import World
from .writes import Writes


class Leads:
    """Orders for leads; each is one transition of all the opportunities in it."""

    def __init__(self, world: World, writes: Writes) -> None:
        self._world, self._writes = world, writes
        self._bin: dict[str, tuple[Named, list[Row]]] = {}

    def orders(self) -> tuple[Callable[..., Entries], ...]:
        """What the admin port takes of them."""
        return (self.delete_lead, self.merge_leads, self.restore_lead)

    def delete_lead(self, lead: str) -> Entries:
        """Delete a lead: its opportunities go with it, each with an event of its own.

        Raises:
            ValueError: there is no such lead.
        """
        named, rows = self._open(lead)

        def act(at_ms: int) -> None:
            request = self._request()
            self._tell(lead, "deleted", at_ms, request)
            for row in rows:
                self.drop(row, at_ms, request)
            self._bin[lead] = named, rows
            del self._world.tables.leads[lead]

        return self._writes.write([row.id for row in rows], act, at_once=True)

    def merge_leads(self, source: str, destination: str) -> Entries:
        """Merge a lead into another: its opportunities move over, it is deleted.

        Raises:
            ValueError: there is no such lead, or both are one.
        """
        named, rows = self._open(source)
        self._open(destination)
        if source == destination:
            msg = f"lead {source} cannot be merged into itself."
            raise ValueError(msg)

        def act(at_ms: int) -> None:
            request = self._request(merge_source_lead_id=source, merge_destination_lead_id=destination)
            for row in rows:
                self._move(row, destination, at_ms, request)
            self._world.tables.leads[destination].contacts.extend(named.contacts)
            self._tell(destination, "updated", at_ms, request)
            self._tell(source, "deleted", at_ms, request)
            del self._world.tables.leads[source]

        quiet = "merge" in self._world.switches.quiet
        return self._writes.write([row.id for row in rows], act, quiet=quiet, at_once=True)

    def restore_lead(self, lead: str) -> Entries:
        """Bring a deleted lead back with its opportunities, under their ids.

        Raises:
            ValueError: no such lead was deleted.
        """
        self._writes.catch()
        if lead not in self._bin:
            msg = f"no lead {lead} was deleted."
            raise ValueError(msg)
        named, rows = self._bin.pop(lead)

        def act(at_ms: int) -> None:
            self._world.tables.leads[lead] = named
            for row in rows:
                if "restore" not in self._world.switches.quiet:
                    row.updated_ms = at_ms
                row.forget()
                self._world.rows[row.id] = row

        quiet = "restore" in self._world.switches.quiet
        return self._writes.write([row.id for row in rows], act, quiet=quiet, at_once=True)

    def drop(self, row: Row, at_ms: int, request: Request) -> None:
        """Delete one opportunity, as part of a write."""
        before = self._world.shown(row)
        del self._world.rows[row.id]
        self._world.note(row, action="deleted", at_ms=at_ms, request=request, before=before, after=None)

    def _open(self, lead: str) -> tuple[Named, list[Row]]:
        self._writes.catch()
        if lead not in self._world.tables.leads:
            msg = f"there is no lead {lead}."
            raise ValueError(msg)
        rows = [row for row in self._world.live() if row.values["lead_id"] == lead]
        return self._world.tables.leads[lead], rows

    def _move(self, row: Row, lead: str, at_ms: int, request: Request) -> None:
        before = self._world.shown(row)
        row.values["lead_id"] = lead
        if "merge" not in self._world.switches.quiet:
            row.updated_ms = at_ms
        row.forget()
        after = self._world.shown(row)
        self._world.note(row, action="updated", at_ms=at_ms, request=request, before=before, after=after)

    def _request(self, **meta: str) -> Request:
        return Request(id=self._world.new_id("req"), user=self._world.main.user, meta=dict(meta))

    def _tell(self, lead: str, action: str, at_ms: int, request: Request) -> None:
        name = self._world.tables.leads[lead].name
        self._world.journal.add(
            at_ms=at_ms,
            action=action,
            object_type="lead",
            object_id=lead,
            lead_id=lead,
            request=request,
            switches=self._world.switches,
            before={"id": lead, "display_name": name},
        )
