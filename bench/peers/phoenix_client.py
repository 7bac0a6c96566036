"""Phoenix's answers, by its own client: SpanQuery, which gives data frames, and get_spans. Runs in its environment.

python phoenix_client.py PORT
"""

import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from answering import serve

# By name: what only its own environment has is nothing that tracemill depends on.
Client = import_module("phoenix.client").Client
SpanQuery = import_module("phoenix.client.types.spans").SpanQuery
PROJECT = "default"
MOST = 1_000_000
client = Client(base_url=f"http://127.0.0.1:{sys.argv[1]}")


def frame(where: str, *columns: str, **times: datetime) -> Any:
    query = SpanQuery().where(where).select(*columns)
    return client.spans.get_spans_dataframe(query=query, limit=MOST, project_identifier=PROJECT, timeout=600, **times)


def load_rewards(about: dict[str, Any]) -> list[list[Any]]:
    """Annotations of root spans: [[span_id, trace_id, value], …]."""
    rows = about["rewards"]
    for begin in range(0, len(rows), 500):
        client.spans.log_span_annotations(
            span_annotations=[
                {"span_id": span, "name": "tools", "annotator_kind": "CODE", "result": {"score": value}}
                for span, _, value in rows[begin : begin + 500]
            ],
            sync=True,
        )
    return []


def failure_rate(_: dict[str, Any]) -> Any:
    calls = frame("span_kind == 'LLM'", "gen_ai.agent.name", "start_time", "status_code")
    calls["day"] = calls["start_time"].dt.strftime("%Y-%m-%d")
    calls["failed"] = (calls["status_code"] == "ERROR").astype(int)
    grouped = calls.groupby(["gen_ai.agent.name", "day"])["failed"].agg(["count", "sum"])
    return ([*key, int(count), int(failed)] for key, count, failed in grouped.itertuples())


def p95(_: dict[str, Any]) -> Any:
    tools = frame("span_kind == 'TOOL'", "gen_ai.tool.name", "latency_ms")
    return tools.groupby("gen_ai.tool.name")["latency_ms"].quantile(0.95).items()


def cost(_: dict[str, Any]) -> Any:
    calls = frame(
        "span_kind == 'LLM'", "gen_ai.response.model", "gen_ai.request.model", "start_time", "gen_ai.usage.cost"
    )
    calls["day"] = calls["start_time"].dt.strftime("%Y-%m-%d")
    calls["model"] = calls["gen_ai.response.model"].fillna(calls["gen_ai.request.model"])
    grouped = calls.groupby(["day", "model"])["gen_ai.usage.cost"].sum()
    return ([*key, float(value)] for key, value in grouped.items())


def rewarded(about: dict[str, Any]) -> Any:
    day = datetime.fromisoformat(about["day"]).replace(tzinfo=UTC)
    roots = frame("annotations['tools'].score < 0.5", "trace_id", start_time=day, end_time=day + timedelta(days=1))
    found = sorted(set(roots["context.trace_id"])) if len(roots) else []
    for begin in range(0, len(found), 100):
        spans = client.spans.get_spans(
            project_identifier=PROJECT, trace_ids=found[begin : begin + 100], limit=MOST, timeout=600
        )
        for span in spans:
            yield span["context"]["trace_id"], span["context"]["span_id"], span["name"]


def text(about: dict[str, Any]) -> Any:
    """LIKE in SQLite, whatever the case; messages are in three attributes."""
    where = " or ".join(
        f"'{about['phrase']}' in attributes{place}"
        for place in (
            "['gen_ai']['input']['messages']",
            "['gen_ai']['output']['messages']",
            "['gen_ai']['system_instructions']",
        )
    )
    found = frame(where, "trace_id")
    return ([one] for one in (set(found["context.trace_id"]) if len(found) else ()))


def one_trace(about: dict[str, Any]) -> Any:
    spans = client.spans.get_spans(project_identifier=PROJECT, trace_ids=[about["trace_id"]], limit=1000)
    return ([span["context"]["span_id"], span["name"]] for span in spans)


def sessions(about: dict[str, Any]) -> Any:
    roots = frame(f"attributes['user']['id'] == '{about['user']}' and parent_id is None", "session.id", "trace_id")
    return roots.groupby("session.id")["context.trace_id"].count().items()


def tokens(_: dict[str, Any]) -> Any:
    calls = frame("span_kind == 'LLM'", "trace_id", "start_time", "gen_ai.usage.input_tokens")
    calls = calls.sort_values("start_time", kind="stable")
    calls["step"] = calls.groupby("context.trace_id").cumcount()
    grouped = calls.groupby("step")["gen_ai.usage.input_tokens"].agg(["size", "mean", "max"])
    return ([int(step), int(n), float(mean), int(most)] for step, n, mean, most in grouped.itertuples())


def slowest(about: dict[str, Any]) -> Any:
    day = datetime.fromisoformat(about["day"]).replace(tzinfo=UTC)
    roots = frame("parent_id is None", "trace_id", "latency_ms", start_time=day, end_time=day + timedelta(days=1))
    first = roots.sort_values("latency_ms", ascending=False).head(20)
    return ([one, ms / 1000] for one, ms in zip(first["context.trace_id"], first["latency_ms"], strict=True))


def tool_errors(_: dict[str, Any]) -> Any:
    failed = frame("span_kind == 'TOOL' and status_code == 'ERROR'", "gen_ai.tool.name", "status_message")
    return ([*key, int(n)] for key, n in failed.groupby(["gen_ai.tool.name", "status_message"]).size().items())


serve(
    {
        "load rewards": load_rewards,
        "failure rate by agent and day": failure_rate,
        "p95 latency by tool": p95,
        "cost per model per day": cost,
        "episodes under a reward, with spans": rewarded,
        "traces with a text": text,
        "one trace": one_trace,
        "sessions of a user": sessions,
        "tokens by step": tokens,
        "slowest of a day": slowest,
        "tool errors by message": tool_errors,
    }
)
