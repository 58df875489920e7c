"""The orders for deliverables and tasks: they come, move, are worked on, done, reopened and removed."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from poller.simulators.truth import Entries

from .columns import DELIVERABLE, TASK, WORK_STATUSES, checked, filled, money, plain
from .tables import Named, Part, Row


class Ground(Protocol):
    """What these orders need of the account."""

    homes: dict[tuple[str, int], int]
    rows: dict[int, Row]
    tables: dict[str, dict[str, Named]]
    today: Any

    def row(self, record: int) -> Row: ...
    def apply(self, record: int, mutate: Callable[[], None]) -> Entries: ...
    def next_id(self, what: str) -> int: ...


class Work:
    """Orders for what is nested in records; each is one transition of its record."""

    def __init__(self, world: Ground) -> None:
        self._world = world

    def orders(self) -> tuple[Callable[..., Entries], ...]:
        """What the admin port takes of them."""
        return (
            self.add_deliverable, self.update_deliverable, self.move_deliverable, self.remove_deliverable,
            self.add_task, self.update_task, self.move_task, self.remove_task, self.track_time,
        )  # fmt: skip

    # --- deliverables -----------------------------------------------------------------------
    def add_deliverable(self, record: int, **fields: Any) -> Entries:
        """Add a deliverable at the end of a record."""
        row = self._world.row(record)
        values = self._values(DELIVERABLE, fields) | {"position": len(row.deliverables) + 1}
        return self.insert(
            row, Part({"id": self._world.next_id("deliverable"), **filled(DELIVERABLE, values)})
        )

    def insert(self, row: Row, deliverable: Part) -> Entries:
        """Add a deliverable made elsewhere, with its tasks."""

        def mutate() -> None:
            row.deliverables.append(deliverable)
            for part in (deliverable, *deliverable.tasks):
                self._world.homes["task" if part is not deliverable else "deliverable", part.id] = row.id

        return self._world.apply(row.id, mutate)

    def update_deliverable(self, deliverable: int, **fields: Any) -> Entries:
        """Change fields of a deliverable; `completed` makes it 100 % complete."""
        row, part = self._deliverable(deliverable)
        values = self._values(DELIVERABLE, fields)
        if values.get("status") == "completed":
            values.setdefault("percentage_complete", 100)
        return self._world.apply(row.id, lambda: part.values.update(values))

    def move_deliverable(self, deliverable: int, position: int) -> Entries:
        """Put a deliverable elsewhere (from 1); the others are renumbered."""
        row, part = self._deliverable(deliverable)
        return self._world.apply(row.id, lambda: _place(part, row.deliverables, row.deliverables, position))

    def remove_deliverable(self, deliverable: int) -> Entries:
        """Remove a deliverable and the tasks in it."""
        row, part = self._deliverable(deliverable)

        def mutate() -> None:
            row.deliverables.remove(part)
            _renumber(row.deliverables)

        return self._world.apply(row.id, mutate)

    # --- tasks ------------------------------------------------------------------------------
    def add_task(self, deliverable: int, **fields: Any) -> Entries:
        """Add a task at the end of a deliverable."""
        row, part = self._deliverable(deliverable)
        values = self._values(TASK, fields) | {"position": len(part.tasks) + 1}
        task = Part({"id": self._world.next_id("task"), **filled(TASK, values)})

        def mutate() -> None:
            part.tasks.append(task)
            self._world.homes["task", task.id] = row.id

        return self._world.apply(row.id, mutate)

    def update_task(self, task: int, **fields: Any) -> Entries:
        """Change fields of a task; `completed_date` follows its status."""
        row, part, _ = self._task(task)
        values = self._values(TASK, fields)
        if "status" in values:
            done = f"{self._world.today.isoformat()}T16:00:00Z"
            values.setdefault("completed_date", done if values["status"] == "completed" else None)
        return self._world.apply(row.id, lambda: part.values.update(values))

    def move_task(self, task: int, deliverable: int, position: int) -> Entries:
        """Put a task elsewhere, also into another deliverable of its record; the others are renumbered.

        Raises:
            ValueError: the deliverable is another record's.
        """
        row, part, home = self._task(task)
        goal_row, goal = self._deliverable(deliverable)
        if goal_row is not row:
            msg = f"deliverable {deliverable} is not of record {row.id}, as task {task} is."
            raise ValueError(msg)
        return self._world.apply(row.id, lambda: _place(part, home.tasks, goal.tasks, position))

    def remove_task(self, task: int) -> Entries:
        """Remove a task."""
        row, part, home = self._task(task)

        def mutate() -> None:
            home.tasks.remove(part)
            _renumber(home.tasks)

        return self._world.apply(row.id, mutate)

    def track_time(self, task: int, hours: str = "1.5") -> Entries:
        """Book hours on a task: counters and computed money move, in the task and all above it."""
        row, part, home = self._task(task)

        def mutate() -> None:
            cost = _book(part.values, Decimal(str(hours)))
            home.values["total_cost"] = money(home.values["total_cost"] + cost)
            for name, sign in _BOOKED:
                row.values[name] = money(row.values[name] + sign * cost)

        return self._world.apply(row.id, mutate)

    # --- how --------------------------------------------------------------------------------
    def _deliverable(self, number: int) -> tuple[Row, Part]:
        row = self._home("deliverable", number)
        return row, next(part for part in row.deliverables if part.id == number)

    def _task(self, number: int) -> tuple[Row, Part, Part]:
        row = self._home("task", number)
        return next((row, part, home) for part, home in row.parts() if home and part.id == number)

    def _home(self, kind: str, number: int) -> Row:
        row = self._world.rows.get(self._world.homes.get((kind, number), 0))
        if row is None or not any(
            part.id == number and (home is None) == (kind == "deliverable") for part, home in row.parts()
        ):
            msg = f"there is no {kind} {number}."
            raise ValueError(msg)
        return row

    def _values(self, columns: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        values = checked(columns, fields)
        if values.get("status", WORK_STATUSES[0]) not in WORK_STATUSES:
            msg = f"status is {values['status']!r}: it must be one of {', '.join(WORK_STATUSES)}."
            raise ValueError(msg)
        if values.get("resource_type") is not None:
            values["resource_type"] = self._resource_type(values["resource_type"])
        return values

    def _resource_type(self, key: Any) -> str:
        if str(key) not in self._world.tables["resource_type"]:
            msg = f"there is no resource_type {key}."
            raise ValueError(msg)
        return str(key)


_BOOKED = (
    ("costs_to_date", 1),
    ("unbilled_costs", 1),
    ("work_in_progress", -1),
    ("remaining_cost_to_complete", -1),
)


def _book(values: dict[str, Any], hours: Decimal) -> Decimal:
    """Book hours on a task's values; gives their cost."""
    cost = money(values["original_rate"] * hours)
    values["tracked_times_count"] += 1
    values["actual_duration"] = plain(values["actual_duration"] + hours)
    values["actual_total"] = money(values["actual_total"] + cost)
    values["remaining"] = money(values["budget"] - values["actual_total"])
    if values["budget"]:
        values["budget_used_percentage"] = plain(100 * values["actual_total"] / values["budget"])
    return cost


def _place(part: Part, old: list[Part], new: list[Part], position: int) -> None:
    old.remove(part)
    new.insert(max(0, position - 1), part)
    _renumber(old)
    _renumber(new)


def _renumber(parts: list[Part]) -> None:
    for position, part in enumerate(parts, start=1):
        part.values["position"] = position
