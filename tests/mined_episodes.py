"""Episodes of an agent that calls tools, written into a small lake: what mining's tests look for patterns in."""

import json
import random
from collections.abc import Sequence
from typing import Any

DAY = 86_400 * 10**9
T0 = 1_790_000_000 * 10**9
Call = tuple[str, dict[str, Any], bool]
"""Tool, arguments, whether it fails."""


class Log:
    """Episodes of one agent: a model call before each tool call and one at the end."""

    def __init__(self, lake: Any) -> None:
        self.lake = lake
        self.n = 0

    def episode(
        self, calls: Sequence[Call], *, failed: bool | None, pool: str = "learn", session: str | None = None,
        at: int | None = None, said: str = "done", prompt: str = "1", cut: bool = False, **more: Any,
    ) -> str:  # fmt: skip
        name, self.n = f"t{self.n:06d}", self.n + 1
        at = T0 + self.n * DAY // 50 if at is None else at
        times: Any = (lambda s: at + s * 10**9) if at >= 0 else (lambda s: None)
        message = f"m{name}"
        self.lake.add("messages", {"message_id": message, "role": "assistant", "text": said})
        for step in range(len(calls) + 1):
            last = step == len(calls)
            self.lake.add("transitions", {
                "trajectory_id": name, "step": step, "span_id": f"l{step}", "site_id": "desk-site", "status": "ok",
                "finish_reason": "length" if cut and last else "stop", "start_ns": times(4 * step), "seq": 2 * step,
                "end_ns": times(4 * step + 1), "output_ids": [message] if last else [], "prompt_version": prompt,
            })  # fmt: skip
        for place, (tool, arguments, wrong) in enumerate(calls):
            self.lake.add("spans", {
                "trace_id": name, "span_id": f"c{place}", "kind": "tool", "tool_name": tool, "seq": 2 * place + 1,
                "tool_args": json.dumps(arguments), "tool_result": None if wrong else f"row {self.n} was read",
                "error_message": f"record {self.n} is locked" if wrong else None, "status": "error" if wrong else "ok",
                "start_ns": times(4 * place + 2), "end_ns": times(4 * place + 3),
            })  # fmt: skip
        self.lake.trajectory(
            name, group=f"g{name}", pool=pool, session_id=session, agent_name="desk", start_ns=None if at < 0 else at,
            **{"cost_usd": 0.5, "outcome": "unset", **more},
        )  # fmt: skip
        if failed is not None:
            self.lake.score(name, "combined", 0.0 if failed else 1.0)
        return name


def some(rng: random.Random, n: int | None = None) -> list[Call]:
    tools = ("search", "read", "write", "pay")
    return [(rng.choice(tools), {"id": rng.randrange(10**9)}, False) for _ in range(n or rng.randint(1, 5))]
