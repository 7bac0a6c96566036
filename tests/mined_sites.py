"""Calls of a triage agent, and sites recovered from them with every assignment held to the contract."""

from typing import Any

from tracemill.client import render
from tracemill.mining import sites
from tracemill.mining.lake import Messages

SYSTEM = {"role": "system", "content": "You are the triage agent of a support desk. Answer with the name of one queue."}
TICKETS = [
    "I lost my card",
    "My order has not come",
    "The app crashes: error 5",
    "Refund me!",
    "login\nfails",
    "Is the lamp in stock",
    "Damaged kettle",
    "wrong size",
]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


DEMOS = [user("Ticket: parcel lost\nQueue:"), said("shipping"), user("Ticket: paid twice\nQueue:"), said("billing")]


def ask(ticket: str) -> dict[str, Any]:
    return user(f"Ticket: {ticket}\nQueue:")


def recover(lake: Any, now: int = 1) -> sites.SiteUpdate:
    """Recovers, applies, and holds every assignment to the contract."""
    update = sites.recover(lake.con, now_ns=now)
    lake.apply(update)
    templates = {
        (s.site_id, s.site_version): s.template for row in update.sites.to_pylist() for s in versions(lake, row)
    }
    messages = Messages(lake.con)
    for row in update.assigned.to_pylist():
        logged = lake.con.execute(
            "select list_concat(system_ids, input_ids) from transitions where trajectory_id = ? and step = ?",
            [row["trajectory_id"], row["step"]],
        ).fetchone()
        assert logged is not None
        sent = [messages.get(i) for i in logged[0]]
        template = templates[row["site_id"], row["site_version"]]
        values = sites.bind(template, sent)  # type: ignore[arg-type]
        assert values is not None, (template, sent)
        assert render({"messages": template.messages}, values) == sent
    return update


def versions(lake: Any, row: dict[str, Any]) -> list[Any]:
    return sites.load(lake.con, row["site_id"], version=row["site_version"])
