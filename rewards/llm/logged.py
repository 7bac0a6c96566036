"""Logged episodes for a model's eyes: capped, as data that cannot end its block, with quotes that can be looked up.

Everything here was written by strangers. A block is one JSON text whose strings hold no angle bracket, no section mark
and no invisible character, and in which every blank is marked with `^`, so that a sentence of a log does not look like
one of the prompt (datamarking: Hines et al. 2024, arXiv 2403.14720).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from tracemill.chat import as_text
from tracemill.records import Case
from tracemill.rewards.rows import query

MARK = "^"
_MARKED = "\ue000"
_OTHER_BLANK = re.compile(r"[^\S ]")
# Controls, blanks that are no space, soft hyphens, zero-width and bidirectional characters, tags, lone surrogates.
_UNSEEN = re.compile(
    "[\x7f-\xa0\xad\u061c\u115f\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufe00-\ufe0f\ufeff\ufff9-\ufffc"
    "\ud800-\udfff\ue001-\uf8ff\U000e0000-\U000e01ef]"
)
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_BLANKS = re.compile(r"(?:[\s^]|\\[nrt])+")
_LEAST = 4
"""A shorter quote stands in any text; a field that is no longer may be quoted whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One episode as it is shown, fields capped. A step has `step`, and of agent, user, said, answered what is."""

    trajectory_id: str
    task: str | None
    steps: tuple[Mapping[str, Any], ...]
    instructions: str | None = None

    def data(self) -> dict[str, Any]:
        told = {"instructions": self.instructions, "task": self.task}
        return {key: value for key, value in told.items() if value} | {"steps": list(self.steps)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a quote stands."""

    source: str
    step: int | None


def stories(
    con: duckdb.DuckDBPyConnection, trajectories: Sequence[str], *, max_chars: int, max_steps: int, max_log: int
) -> dict[str, Story]:
    """By trajectory, those with a call of their own. Fields are cut at `max_chars`, long logs in the middle."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in query(con, "llm_story", {"trajectories": [*trajectories, ""]}).to_pylist():
        rows.setdefault(row["trajectory_id"], []).append(row)
    found: dict[str, Story] = {}
    for name, own in rows.items():
        steps = [_step(row, max_chars) for row in own]
        found[name] = Story(
            trajectory_id=name,
            task=_cut(own[0]["task"], max_chars),
            instructions=_cut(own[0]["instructions"], max_chars),
            steps=tuple(_ends(steps, max_steps, max_log)),
        )
    return found


def told(text: str, *, max_chars: int) -> Story:
    """An episode that comes as text (`role: what was said`, a line each), as bias probes do."""
    task, steps = None, []
    for at, turn in enumerate(re.split(r"\n(?=(?:user|assistant|tool|system): )", text)):
        role, mark, said = turn.partition(": ")
        if mark and role == "user" and task is None:
            task = _cut(said, max_chars)
            continue
        field = {"user": "user", "tool": "answered"}.get(role, "said") if mark else "said"
        steps.append({"step": at, field: _cut(said if mark else turn, max_chars)})
    return Story(trajectory_id="", task=task, steps=tuple(steps))


def replayed(case: Case, output: str, *, max_chars: int) -> Story:
    """One output of a case, logged or not, as an episode of one step: the task is what was asked last.

    The instructions are those of the log. What a candidate changed of them must not tell a judge what to think.
    """
    told = [str(message["content"]) for message in case.logged_messages if message.get("role") == "system"]
    asked = [as_text(message["content"]) for message in case.logged_messages if message.get("role") == "user"]
    return Story(
        trajectory_id=case.trajectory_id,
        task=_cut(asked[-1], max_chars) if asked else None,
        instructions=_cut("\n".join(told), max_chars),
        steps=({"step": case.step, "said": _cut(output, max_chars) or "(nothing)"},),
    )


def block(data: Any) -> str:
    """One line of JSON; what `json.loads` makes of it is the data with `^` before every blank that is not a space."""
    text = json.dumps(_marked(data), ensure_ascii=False, separators=(",", ":"))
    text = _UNSEEN.sub(lambda found: json.dumps(found.group())[1:-1], text)
    # json.dumps leaves ASCII as it is.
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("`", "\\u0060").replace("^", "\\u005e")
    return text.replace("[[", "[\\u005b").replace(_MARKED, MARK)


Fields = Sequence[tuple[Place, str]]


def fields(story: Story) -> Fields:
    """What of a story may be quoted, for `place`."""
    found = [] if not story.task else [(Place(source="task", step=None), _plain(story.task))]
    for step in story.steps:
        for source in ("user", "said", "answered"):
            if step.get(source):
                found.append((Place(source=source, step=step["step"]), _plain(step[source])))
    return found


def place(quote: str, quotable: Fields, sources: Sequence[str]) -> Place | None:
    """Where a quote stands in what was shown of these sources; None where it was made up, or says next to nothing."""
    wanted = _plain(_ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), quote)).strip(" \"'“”…")
    if not wanted:
        return None
    for where, text in quotable:
        if where.source in sources and wanted in text and (len(wanted) >= _LEAST or wanted == text.strip()):
            return where
    return None


def _plain(text: str) -> str:
    return _BLANKS.sub(" ", _UNSEEN.sub("", _BLANKS.sub(" ", text)))


def _marked(data: Any) -> Any:
    if isinstance(data, str):
        return _OTHER_BLANK.sub(rf"{_MARKED}\g<0>", data).replace(" ", _MARKED)
    if isinstance(data, Mapping):
        return {key: _marked(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_marked(value) for value in data]
    return data


def _step(row: Mapping[str, Any], max_chars: int) -> dict[str, Any]:
    fields = {name: _cut(row[name], max_chars) for name in ("user", "said", "answered")}
    caller = _cut(row["caller"], 80)
    return {"step": row["step"], **({"agent": caller} if caller else {}), **{k: v for k, v in fields.items() if v}}


def _cut(text: str | None, most: int) -> str | None:
    if text is None or len(text) <= most:
        return text
    head = most * 2 // 3
    return f"{text[:head]} […] {text[len(text) - (most - head) :]}"


def _ends(steps: list[dict[str, Any]], most: int, most_chars: int) -> list[dict[str, Any]]:
    """Steps from both ends, the last one first, as many as fit."""
    kept: set[int] = set()
    left = most_chars
    ends = [at for pair in zip(range(len(steps) - 1, -1, -1), range(len(steps)), strict=True) for at in pair]
    for at in dict.fromkeys(ends):
        left -= sum(len(value) for value in steps[at].values() if isinstance(value, str))
        if kept and (left < 0 or len(kept) >= most):
            break
        kept.add(at)
    return [steps[at] for at in sorted(kept)]
