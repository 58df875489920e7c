"""Made-up but plausible records of an agency's CRM: names, clients, amounts, deliverables, tasks."""

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol

from .columns import DELIVERABLE, RECORD, TASK, filled, money, plain
from .fields import Kind
from .tables import Named, Part, Row

_CLIENTS = (
    "Harbour & Pine", "Northside Dental Group", "Wattle Energy", "Koala Logistics", "Tasman Air Charter",
    "Bluegum Brewing",
    "Yarra Valley Estates", "Southern Cross Credit Union", "Lumen Optics", "Ironbark Legal",
    "Coastal Councils Alliance", "Redgum Robotics", "Pacific Pantry", "Banksia Health", "Outback Outfitters",
    "Sundial Solar", "Mercer Street Studios", "Fremantle Freight", "Opal Insurance", "Magpie Media",
    "Eucalypt Homes", "Kingfisher Capital", "Riverbend Schools", "Daintree Tours",
)  # fmt: skip
_WORK = (
    "Website Redesign", "Brand Refresh", "Mobile App", "Annual Report", "SEO Retainer",
    "Product Launch Campaign",
    "Customer Portal", "Packaging Design", "Content Strategy", "Data Migration", "E-commerce Build",
    "Intranet Upgrade", "Video Series", "Design System", "Analytics Dashboard", "Accessibility Audit",
    "CRM Rollout", "Trade Show Stand", "Email Automation", "Wayfinding Signage",
)  # fmt: skip
_PHASES = ("Discovery", "Strategy", "Design", "Build", "Content", "Testing", "Launch", "Handover", "Support")
_TASKS = (
    "Stakeholder workshops", "Wireframes", "Copywriting", "Front-end build",
    "API integration", "User testing",
    "Visual design", "Content entry", "Photography", "Quality assurance", "Project management", "Training",
    "Data clean-up", "Prototype", "Accessibility review", "Go-live support",
)  # fmt: skip
_TAGS = ("enterprise", "retainer", "rush", "referral", "government", "web", "brand", "video", "high-priority")
_FIRST_CLIENT = 500
_RATES = (95, 110, 125, 140, 150, 165, 180)


class Ground(Protocol):
    """What a population needs of the account it is made for."""

    tables: dict[str, dict[str, Named]]
    today: Any

    def next_id(self, what: str) -> int: ...
    def next_number(self, kind: Kind) -> str: ...


class Population:
    """Makes rows; the same generator makes the same."""

    def __init__(self, ground: Ground, *, rng: random.Random) -> None:
        self._ground, self._rng = ground, rng
        clients = ground.tables["client"]
        for index, name in enumerate(_CLIENTS, start=_FIRST_CLIENT):
            clients.setdefault(str(index), Named(index, name, {"type": "Company"}))

    def opportunity(self, *, fresh: bool = False) -> Row:
        """An open or (unless `fresh`) lost opportunity with some deliverables."""
        row = self._row("opportunity")
        values, rng = row.values, self._rng
        values["project_status"] = rng.choice("14") if fresh else rng.choices("12347", (3, 4, 2, 3, 1))[0]
        if values["project_status"] == "7":
            values["deal_lost_date"] = self._day(-40, -1)
        return row

    def project(self) -> Row:
        """A project under way, sometimes the agency's own."""
        row = self._row("project")
        values, rng = row.values, self._rng
        values["project_status"] = rng.choices(("5", "9", "10", "11"), (6, 2, 1, 1))[0]
        values["completed_date"] = self._day(-30, 0) if values["project_status"] == "11" else None
        if rng.random() < 0.05:
            values["client"] = "458"
        values["company_id"] = None if values["client"] == "458" else int(values["client"])
        values["contract_type"] = rng.choice(("fixed_price", "time_and_materials"))
        values["start_date"], values["end_date"] = self._day(-90, -5), self._day(10, 180)
        return row

    def amount(self) -> Decimal:
        """A deal's value: most are small, few are large."""
        return money(round(min(950_000.0, self._rng.lognormvariate(10.6, 0.9)) / 50) * 50)

    def name(self) -> str:
        """A piece of work."""
        return self._rng.choice(_WORK)

    def client(self) -> str:
        """Key of a company."""
        return str(_FIRST_CLIENT + self._rng.randrange(len(_CLIENTS)))

    def tags(self) -> list[str]:
        """Up to three tags."""
        return sorted(self._rng.sample(_TAGS, self._rng.randrange(4)))

    def users(self) -> list[str]:
        """Keys of one or two people."""
        return sorted(self._rng.sample(sorted(self._ground.tables["user"]), self._rng.randint(1, 2)))

    def deliverable(self, position: int, *, tasks: int) -> Part:
        """A deliverable with its tasks, none of them begun."""
        rng = self._rng
        parts = [self.task(place) for place in range(1, tasks + 1)]
        values = filled(
            DELIVERABLE,
            {
                "name": rng.choice(_PHASES),
                "position": position,
                "duration": sum((task.values["original_duration"] for task in parts), Decimal(0)),
                "budget": sum((task.values["budget"] for task in parts), Decimal(0)),
            },
        )
        return Part({"id": self._ground.next_id("deliverable"), **values}, parts)

    def task(self, position: int) -> Part:
        """A task, not begun."""
        rng = self._rng
        rate, hours = money(rng.choice(_RATES)), plain(rng.randint(2, 60))
        total = money(rate * hours)
        values = filled(
            TASK,
            {
                "name": rng.choice(_TASKS),
                "position": position,
                "original_rate": rate,
                "original_duration": hours,
                "original_total": total,
                "budget": total,
                "total": total,
                "remaining": total,
            },
        )
        values["resource_type"] = rng.choice(("5", "6", "7", "9", None))
        return Part({"id": self._ground.next_id("task"), **values})

    def _row(self, kind: Kind) -> Row:
        rng, amount, client = self._rng, self.amount(), self.client()
        name = f"{self.name()} for {self._ground.tables['client'][client].name}"
        values = filled(RECORD, {"name": name, "amount": amount, "total_budget": amount})
        values |= {
            "project_number": self._ground.next_number(kind),
            "description": f"{name}, {rng.choice(('fixed scope', 'in stages', 'as quoted', 'by the hour'))}",
            "client": client,
            "team": rng.choice("1234"),
            "lead_score": rng.choice("234"),
            "assigned_users": self.users(),
            "enquiry_date": self._day(-60, 0),
            "target_date": self._day(5, 90),
            "estimated_start_date": self._day(20, 60),
            "estimated_end_date": self._day(90, 240),
            "estimated_deposit": money(amount / 5),
            "remaining_cost_to_complete": money(amount * Decimal("0.78")),
            "quotes_count": rng.randrange(3),
            "invoicing_structure": rng.choice(("payment_on_delivery", "monthly", None)),
            "opportunity_tags": self.tags(),
            "project_tags": self.tags(),
        }
        parts = [
            self.deliverable(place, tasks=rng.randint(0, 3)) for place in range(1, rng.randint(0, 3) + 1)
        ]
        return Row(id=self._ground.next_id("record"), kind=kind, values=values, deliverables=parts)

    def _day(self, first: int, last: int) -> str:
        day: str = (self._ground.today + timedelta(days=self._rng.randint(first, last))).isoformat()
        return day
