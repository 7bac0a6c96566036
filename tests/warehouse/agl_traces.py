"""Span trees as Agent Lightning 0.3's tracer logs them, and what tracemill makes of them: ingest, then the rebuild."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from tracemill import ingest
from tracemill.ingest.formats.agent_lightning import trace_of
from tracemill.schema import TABLES
from tracemill.warehouse import layout, rebuild, rows, spans

START = 1_760_000_000
"""When the first span begins, in seconds."""
CALL = "openai.chat.completion"
NAMED = (
    lambda name: {"agent.name": name},
    lambda name: {"agentops.span.kind": "agent", "operation.name": name},
    lambda name: {"recipient_agent_type": name},
    lambda name: {"langchain.chain.type": name},
    lambda name: {"executor.id": name},
    lambda name: {"type": "agent", "agentlightning.operation.input.name": name},
)
"""How frameworks say which agent is at work."""
GIVEN = (
    lambda value: {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": value},
    lambda value: {"agentops.task.output": json.dumps({"type": "reward", "value": value})},
    lambda value: {"agentops.entity.output": json.dumps({"type": "reward", "value": value})},
    lambda value: {"reward": value},
)
"""How a reward was written, from the newest spelling to the oldest."""


@dataclass(slots=True, kw_only=True)
class Node:
    """A span and what is below it; times follow from the tree: children one after the other, within their parent."""

    name: str = "step"
    attributes: dict[str, Any] = field(default_factory=dict)
    below: "list[Node]" = field(default_factory=list)
    lost: bool = False
    """It never came; what is below it is there."""


def call(number: int, *below: Node, response_id: str | None = "", said: str = "", **attributes: Any) -> Node:
    """A model call with token ids and an answer of its own; without a response id where that is None."""
    own: dict[str, Any] = {
        "prompt_token_ids": [number, 1],
        "response_token_ids": [number, 2],
        "gen_ai.request.model": "m",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": f"question {number}",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": said or f"answer {number}",
        # No sum of others', so that only what is said twice looks alike.
        "gen_ai.usage.prompt_tokens": 2**number,
        "gen_ai.usage.completion_tokens": 1,
    }
    if response_id is not None:
        own["gen_ai.response.id"] = response_id or f"response-{number}"
    return Node(name=CALL, attributes=own | attributes, below=list(below))


def agent(name: str, *below: Node, spelled: int = 0) -> Node:
    return Node(name="agent", attributes=NAMED[spelled](name), below=list(below))


def reward(value: float, *below: Node, spelled: int = 0) -> Node:
    return Node(name="agentlightning.annotation", attributes=GIVEN[spelled](value), below=list(below))


def logged(tree: Node, *, rollout: str = "r", attempt: str = "a") -> list[dict[str, Any]]:
    """The spans of a tree as the store gives them, in the order in which they began."""
    found: list[dict[str, Any]] = []
    clock = iter(range(10**9))

    def visit(node: Node, parent: str | None) -> None:
        span_id = f"{len(found) + 1:016x}"
        span = made(node, span_id, parent, rollout=rollout, attempt=attempt, start=next(clock))
        found.append(span)
        for child in node.below:
            visit(child, span_id)
        span["end_time"] = float(START + next(clock))
        if node.lost:
            span["lost"] = True

    visit(tree, None)
    return [span for span in found if not span.pop("lost", False)]


def made(
    node: Node,
    span_id: str,
    parent: str | None = None,
    *,
    start: float,
    end: float | None = None,
    rollout: str = "r",
    attempt: str = "a",
) -> dict[str, Any]:
    """One span of Agent Lightning's store."""
    return {
        "rollout_id": rollout,
        "attempt_id": attempt,
        "sequence_id": int(span_id, 16),
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": span_id,
        "parent_id": parent,
        "name": node.name,
        "status": {"status_code": "OK"},
        "attributes": node.attributes,
        "events": [],
        "links": [],
        "start_time": float(START + start),
        "end_time": float(START + (start if end is None else end)),
        "context": None,
        "parent": None,
        "resource": {"attributes": {}, "schema_url": ""},
    }


class Warehouse:
    """A lake's tables and views in a DuckDB of their own, filled by the statements that fill a lake."""

    def __init__(self) -> None:
        self.con = duckdb.connect()
        for table in TABLES.values():
            self.con.execute(layout.table_ddl(table)[0])
        for name, select in layout.views().items():
            self.con.execute(f'CREATE VIEW "{name}" AS {select}')

    def take(self, path: Path, *logs: Sequence[Mapping[str, Any]]) -> list[str]:
        """Takes logs in, one file each, and makes their trajectories; the ids of the traces."""
        traces: list[str] = []
        for log in logs:
            path.write_text("\n".join(json.dumps(span) for span in log))
            for batch in ingest.batches(ingest.find([path]), key=b"k" * 32, now_ns=1):
                assert batch.tables["quarantine"].num_rows == 0
                for name in ("messages", "scores"):
                    rows.insert(self.con, TABLES[name], batch.tables[name])
                written = spans.write(self.con, batch.tables["spans"], batch.tables["span_parts"], [])
                traces += written.trace_ids
                rebuild.rebuild(self.con, written.trace_ids)
        return traces

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        return list(self.con.execute(statement, parameters).to_arrow_table().to_pylist())


def trajectory(log: Sequence[Mapping[str, Any]]) -> str:
    """The id of the trajectory of a log of one attempt."""
    return trace_of(log[0]["rollout_id"], log[0]["attempt_id"])
