"""The orders for projects: they begin, move on, are completed, archived, deleted and come back."""

from collections.abc import Callable
from typing import Any

from poller.simulators.truth import Entries

from .columns import checked
from .fields import PROJECT_COLUMNS
from .tables import Row, Write
from .world import World


class Projects:
    """Orders for the projects of one company; each is one transition."""

    def __init__(self, world: World) -> None:
        self._world = world

    def orders(self) -> tuple[Callable[..., Entries], ...]:
        """What the admin port takes of them."""
        return (
            self.create_project, self.update_project, self.move_project, self.complete_project,
            self.cancel_project, self.resume_project, self.archive_project, self.unarchive_project,
            self.delete_project, self.restore_project,
        )  # fmt: skip

    def create_project(self, **fields: Any) -> Entries:
        """A new project; fields by the names of API v2."""
        values = self._checked(fields, PROJECT_COLUMNS)
        values.setdefault("title", "New project")
        project, at = self._world.next_id("project"), self._world.stamp("project")
        return self._write(project, **values, add_time=at, status_change_time=at)

    def update_project(self, project: int, **fields: Any) -> Entries:
        """Change fields of a project.

        Raises:
            ValueError: there is no such project, field or reference, or it is archived or deleted.
        """
        return self._write(project, **self._checked(fields, self._editable(project).values))

    def move_project(self, project: int, phase: int) -> Entries:
        """Put a project into another phase, also of another board."""
        return self.update_project(project, phase_id=phase)

    def complete_project(self, project: int) -> Entries:
        """Mark a project as completed."""
        return self._reach(project, "completed")

    def cancel_project(self, project: int) -> Entries:
        """Mark a project as canceled."""
        return self._reach(project, "canceled")

    def resume_project(self, project: int) -> Entries:
        """Make a completed or canceled project open again."""
        return self._reach(project, "open")

    def archive_project(self, project: int) -> Entries:
        """Put a project among the archived ones."""
        self._editable(project)
        return self._write(project, "archive", archive_time=self._world.stamp("project"))

    def unarchive_project(self, project: int) -> Entries:
        """Take a project back from the archived ones."""
        if self._world.row("project", project).deleted:
            msg = f"project {project} is deleted: restore it first."
            raise ValueError(msg)
        return self._write(project, "unarchive", archive_time=None)

    def delete_project(self, project: int) -> Entries:
        """Mark a project as deleted."""
        row = self._world.row("project", project)
        return self._write(project, "delete", delete_time=row.values["delete_time"] or self._world.now())

    def restore_project(self, project: int) -> Entries:
        """Take a deleted project back."""
        self._world.row("project", project)
        return self._write(project, "restore", delete_time=None)

    # --- how ------------------------------------------------------------------------------------
    def _editable(self, project: int) -> Row:
        row = self._world.row("project", project)
        if row.archived or row.deleted:
            now = "deleted" if row.deleted else "archived"
            msg = f"project {project} is {now}: this order is for one that is neither archived nor deleted."
            raise ValueError(msg)
        return row

    def _checked(self, fields: dict[str, Any], old: Any) -> dict[str, Any]:
        values = checked("project", fields, self._world.tables, old=old)
        if "phase_id" in values:
            values["board_id"] = self._world.tables["phase"][values["phase_id"]].home
        return values

    def _reach(self, project: int, status: str) -> Entries:
        row = self._editable(project)
        if row.values["status"] == status:
            return ()
        return self._write(project, status=status, status_change_time=self._world.stamp("project"))

    def _write(self, project: int, why: str = "", **values: Any) -> Entries:
        row = self._world.rows.get(f"project/{project}")
        if row and all(row.values[name] == value for name, value in values.items()):
            return ()
        touch = why not in self._world.switches.untouched
        return self._world.commit(Write(kind="project", id=project, values=values, touch=touch))
