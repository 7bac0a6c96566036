"""A logged call as verifiers are given it."""

from typing import Any

from tracemill.records import Case


def case(**more: Any) -> Case:
    """One of which nothing is known but `more`."""
    blank: dict[str, Any] = {
        "case_id": "t/0",
        "trajectory_id": "t",
        "step": 0,
        "site_id": "",
        "task_key": None,
        "task_group": "g",
        "pool": "learn",
        "values": {},
        "logged_messages": (),
        "logged_output": "",
        "reward": None,
    }
    return Case(**{**blank, **more})
