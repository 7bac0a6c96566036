"""tau2 / tau³ result files: `{info, tasks, simulations}`; a simulation is a talk of an agent with a simulated user.

Both sides call models and tools. The agent reads what the user says to it and its own tools' results, not the user's
tools. The simulated user is part of the environment: its calls are `evaluator` spans below an agent of its own, so that
the calls, tokens and cost of a trajectory are the agent's. Times are local without a zone; `turn_idx` is the order.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, hex_id, written
from tracemill.ingest.content.conversation import tool_calls, tool_span
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record, elements, guarded, records, values
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, RawScore, RawSpan, Stream
from tracemill.ingest.runs import judged, local_ns, mapped, rewards, run_of, said

_LONG = ("messages", "policy", "reward_info")
_SHARED = ("info", "tasks")
_CHECKS = {
    "action_checks": ("action_check", "action_match"),
    "env_assertions": ("env_assertion", "met"),
    "nl_assertions": ("nl_assertion", "met"),
    "communicate_checks": ("communicate_check", "met"),
}


class Tau2:
    """Reader of tau2 results."""

    name = "tau2"
    about = About(
        title="tau2-bench results",
        files="JSON objects with `simulations` and `tasks`",
        maps="One trajectory a simulation: the agent's calls with tokens, cost and model, tools of both sides; calls "
        "of the simulated user as evaluator spans; the reward, its parts and every check as scores",
        lacks="Times have no zone (taken as UTC, flag `clock`); the prompt is the policy and the talk, without the "
        "agent's fixed instructions and without tool definitions",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and isinstance(record.get("simulations"), list) and "tasks" in record:
                return "simulations with their tasks"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        for record in records(stream, head):
            if isinstance(record, BadRecord):
                yield record
                yield Done()
                continue
            found = list(values(record))
            about = {
                str(value.key): _about(value) for value in found if isinstance(value, Record) and value.key in _SHARED
            }
            runs = 0
            for value in found:
                if isinstance(value, BadRecord):
                    yield value
                    yield Done()
                    runs += 1
                elif value.key == "simulations":
                    for run in elements(value):
                        yield from [run] if isinstance(run, BadRecord) else guarded(_run(run, about), run.bad)
                        yield Done()
                        runs += 1
            if not runs:
                yield record.bad("no tau2 results: there are no simulations")
                yield Done()


def _about(value: Record) -> Any:
    """What all runs of the file share; tasks by their ids."""
    found = run_of(Record(raw=b'{"it":' + value.raw + b"}", line=value.line, offset=value.offset), "object")
    it = None if isinstance(found, BadRecord) else found["it"]
    if isinstance(it, list):
        return {str(task.get("id")): task for task in it if isinstance(task, Mapping)}
    return it


def _run(record: Record, about: Mapping[str, Any]) -> Iterator[Item]:
    run = run_of(record, "tau2 simulation")
    if isinstance(run, BadRecord):
        yield run
        return
    turns = run.get("messages")
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        yield record.bad("no tau2 simulation: messages are missing")
        return
    yield from _Talk(run, record, mapped(about.get("info"))).spans(turns, mapped(about.get("tasks")))


class _Talk:
    """One simulation while its messages become spans."""

    def __init__(self, run: Mapping[str, Any], record: Record, info: Mapping[str, Any]) -> None:
        self.run = run
        self.info = info
        domain = mapped(info.get("environment_info")).get("domain_name")
        self.domain = "tau2" if domain is None else f"tau2/{domain}"
        self.tasks = "tau2:" if domain is None else f"tau2:{domain}/"
        self.trace_id = hex_id(run.get("id"), 16) or content_id("tau2", run.get("id"), written(dict(run)))
        self.root_id = self._id("root")
        self.user_id = self._id("user")
        self.base: dict[str, Any] = {"dialect": "tau2", "line": record.line}

    def _id(self, name: str, at: int = 0) -> str:
        return content_id(self.trace_id, name, at)[:16]

    def spans(self, turns: list[Mapping[str, Any]], tasks: Mapping[str, Any]) -> Iterator[Item]:
        yield from self._roots(turns, tasks)
        policy = self.run.get("policy") or mapped(self.info.get("environment_info")).get("policy")
        user = mapped(self.info.get("user_info"))
        guide = user.get("global_simulation_guidelines")
        heard: dict[str, list[Message]] = {
            "assistant": [said("system", policy)] if isinstance(policy, str) else [],
            "user": [said("system", guide)] if isinstance(guide, str) else [],
        }
        calls: dict[str, Any] = {}
        told = any(_called(turn) for turn in turns)
        canned: set[str] = set()
        for at, turn in enumerate(turns):
            role, side = str(turn.get("role")), _side(turn)
            (message,) = canonical(_openai(turn))
            if role == "tool":
                yield self._tool(turn, at, side, message, calls, str(turn.get("id")) in canned)
                heard[side].append(message)
            elif role in heard:
                real = _called(turn) if told else role == "assistant" and at > 0
                if not real:
                    canned.update(tool_calls(message[2]))
                calls.update(tool_calls(message[2]))
                if real or role == "assistant":
                    yield self._call(turn, at, side, message, heard[side], real)
                heard[side].append(("assistant", None, message[2]))
                if not any(part.get("type") == "tool_call" for part in message[2]):
                    heard["user" if role == "assistant" else "assistant"].append(("user", None, message[2]))
        yield from _scores(self.trace_id, self.run.get("reward_info"))

    def _roots(self, turns: list[Mapping[str, Any]], tasks: Mapping[str, Any]) -> Iterator[RawSpan]:
        task = self.run.get("task_id")
        start, flags = local_ns(self.run.get("start_time"))
        end, _ = local_ns(self.run.get("end_time"))
        info = {name: value for name, value in self.info.items() if name != "environment_info"}
        info["user_info"] = {
            name: value
            for name, value in mapped(info.get("user_info")).items()
            if name != "global_simulation_guidelines"
        }
        yield RawSpan(
            trace_id=self.trace_id,
            span_id=self.root_id,
            kind="agent",
            name="simulation",
            seq=-2,
            start_ns=start,
            end_ns=end,
            agent_name=self.domain,
            task_key=None if task is None else f"{self.tasks}{task}",
            attributes={
                **{name: v for name, v in self.run.items() if name not in _LONG and v is not None},
                "info": info,
                "task": tasks.get(str(task)),
            },
            flags=["lossy", *flags],
            **self.base,
        )
        if any(_side(turn) == "user" for turn in turns):
            yield RawSpan(
                trace_id=self.trace_id,
                span_id=self.user_id,
                parent_span_id=self.root_id,
                kind="agent",
                name="user simulator",
                seq=-1,
                start_ns=start,
                end_ns=end,
                agent_name=f"{self.domain}/user",
                flags=["synthetic", *flags],
                **self.base,
            )

    def _call(
        self, turn: Mapping[str, Any], at: int, side: str, message: Message, heard: list[Message], real: bool
    ) -> RawSpan:
        agent = side == "assistant"
        end, flags = local_ns(turn.get("timestamp"))
        took = as_float(turn.get("generation_time_seconds"))
        span = RawSpan(
            trace_id=self.trace_id,
            span_id=self._id("turn", at),
            parent_span_id=self.root_id if agent else self.user_id,
            seq=at,
            kind=("llm" if agent else "evaluator") if real else "event",
            name="chat" if real else "canned turn",
            start_ns=end if end is None or took is None else end - int(took * 1e9),
            end_ns=end,
            agent_name=self.domain if agent else f"{self.domain}/user",
            output=[("assistant", None, message[2])],
            flags=["lossy", *flags] if real else ["synthetic", *flags],
            **self.base,
        )
        if real:
            span.input = list(heard)
            _usage(span, turn, mapped(self.info.get("agent_info" if agent else "user_info")))
        return span

    def _tool(
        self, turn: Mapping[str, Any], at: int, side: str, message: Message, calls: Mapping[str, Any], canned: bool
    ) -> RawSpan:
        end, flags = local_ns(turn.get("timestamp"))
        base = {
            **self.base,
            "start_ns": end,
            "end_ns": end,
            "agent_name": self.domain if side == "assistant" else f"{self.domain}/user",
            "flags": ["synthetic", *flags] if canned else flags,
        }
        parent = self.root_id if side == "assistant" else self.user_id
        span = tool_span(message[2][0], None, calls, trace_id=self.trace_id, key=at, parent=parent, seq=at, base=base)
        if turn.get("error") is not None:
            span.status = "error" if turn["error"] else "ok"
            span.error_message = str(turn.get("content")) if turn["error"] else None
        return span


def _side(turn: Mapping[str, Any]) -> str:
    """Whose turn it is: a tool's result belongs to the side that asked for it."""
    if turn.get("role") == "tool":
        return "user" if turn.get("requestor") == "user" else "assistant"
    return "user" if turn.get("role") == "user" else "assistant"


def _called(turn: Mapping[str, Any]) -> bool:
    """Whether a model wrote this turn; the greeting and given histories have neither usage nor a completion."""
    return turn.get("role") in ("assistant", "user") and bool(turn.get("usage") or turn.get("raw_data"))


def _openai(turn: Mapping[str, Any]) -> dict[str, Any]:
    if turn.get("role") == "tool":
        return {"role": "tool", "tool_call_id": turn.get("id"), "content": turn.get("content")}
    return {"role": turn.get("role"), "content": turn.get("content"), "tool_calls": turn.get("tool_calls")}


def _usage(span: RawSpan, turn: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    answer = mapped(turn.get("raw_data"))
    usage = {**mapped(answer.get("usage")), **mapped(turn.get("usage"))}
    span.tokens_in = as_int(usage.get("prompt_tokens"))
    span.tokens_out = as_int(usage.get("completion_tokens"))
    span.tokens_cache_read = as_int(mapped(usage.get("prompt_tokens_details")).get("cached_tokens"))
    span.tokens_reasoning = as_int(mapped(usage.get("completion_tokens_details")).get("reasoning_tokens"))
    span.cost_usd = as_float(turn.get("cost"))
    requested = asked.get("llm")
    if isinstance(requested, str):
        provider, _, model = requested.rpartition("/")
        span.model_requested, span.provider = model, provider or None
    span.model = None if answer.get("model") is None else str(answer["model"])
    span.params = dict(mapped(asked.get("llm_args"))) or None
    choices = answer.get("choices")
    reasons = [mapped(choice).get("finish_reason") for choice in choices] if isinstance(choices, list) else []
    span.finish_reasons = [str(reason) for reason in reasons if reason is not None] or None
    span.response_id = None if answer.get("id") is None else str(answer["id"])
    span.attributes = {
        name: answer[name] for name in ("id", "created", "system_fingerprint", "service_tier") if answer.get(name)
    }


def _scores(trace_id: str, info: Any) -> Iterator[RawScore]:
    if not isinstance(info, Mapping):
        return
    yield from rewards(trace_id, {"reward": info.get("reward")}, {"reward_basis": info.get("reward_basis")})
    parts = mapped(info.get("reward_breakdown"))
    yield from rewards(trace_id, {f"reward/{str(name).lower()}": value for name, value in parts.items()})
    yield from rewards(trace_id, {"db_match": mapped(info.get("db_check")).get("db_match")})
    for field, (name, met) in _CHECKS.items():
        checks = info.get(field)
        for check in checks if isinstance(checks, list) else ():
            if isinstance(check, Mapping) and judged(check.get(met)) is not None:
                yield from rewards(trace_id, {name: check[met]}, dict(check))
