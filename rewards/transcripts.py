"""Episodes as plain text, for models that read them whole."""

import sys
from collections.abc import Sequence

import duckdb

from tracemill.rewards.llm.logged import Story, stories

_READ = 1_000
"""Episodes that are read at once: uncut, they may be long."""


def transcripts(con: duckdb.DuckDBPyConnection, trajectories: Sequence[str], *, max_chars: int) -> dict[str, str]:
    """By trajectory: the task, and what users and each call said and its tools answered, each cut at `max_chars`."""
    limits = {"max_chars": max_chars, "max_steps": sys.maxsize, "max_log": sys.maxsize}
    told: dict[str, str] = {}
    for begin in range(0, len(trajectories), _READ):
        read = stories(con, trajectories[begin : begin + _READ], **limits)
        told |= {name: "\n".join(_lines(story)) for name, story in read.items()}
    return told


def _lines(story: Story) -> list[str]:
    lines = [f"Task: {story.task or ''}"]
    for step in story.steps:
        if step.get("user"):
            lines.append(f"User: {step['user']}")
        lines.append(f"{step.get('agent') or 'agent'}: {step.get('said') or ''}")
        if step.get("answered"):
            lines.append(f"Tools: {step['answered']}")
    return lines
