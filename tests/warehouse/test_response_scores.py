"""Judgements that name a provider's response id find the calls that gave the response, whichever comes first."""

from collections.abc import Callable
from typing import Any

import pytest

from tracemill.warehouse import Lake


def judgements(lake: Lake) -> list[tuple[Any, ...]]:
    with lake.reader() as con:
        return con.execute(
            "SELECT target_kind, target_id, name, value, source, score_id FROM scores ORDER BY ALL"
        ).fetchall()


def made(build: Callable[..., Any], what: str) -> Any:
    builder = build(uri=f"file:///logs/{what}.jsonl", content=what)
    if what == "calls":
        builder.call("t", "outer", [("user", "hi")], "yo", response_id="resp-1")
        builder.call("t", "inner", [("user", "hi")], "yo", response_id="resp-1", parent_span_id="outer")
        builder.call("t", "other", [("user", "hm")], "no", response_id="resp-2")
        builder.span("t", "step", response_id="resp-1")
    else:
        builder.score("resp-1", 0.25, target_kind="response", name="relevance", source="llm")
        builder.score("resp-9", 1.0, target_kind="response", name="relevance", source="llm")
    return builder.batch()


@pytest.mark.parametrize("order", [("calls", "scores"), ("scores", "calls"), ("calls", "scores", "calls", "scores")])
def test_a_judged_response_is_a_judged_call_in_any_order(
    lake: Lake, build: Callable[..., Any], order: tuple[str, ...]
) -> None:
    for what in order:
        with lake.transaction("take") as tx:
            tx.take(made(build, what))
    found = judgements(lake)
    assert [row[:5] for row in found] == [
        ("response", "resp-1", "relevance", 0.25, "llm"),
        ("response", "resp-9", "relevance", 1.0, "llm"),
        ("span", "inner", "relevance", 0.25, "llm"),
        ("span", "outer", "relevance", 0.25, "llm"),
    ]
    assert len({row[5] for row in found}) == 4


def test_calls_and_judgements_in_one_batch(lake: Lake, build: Callable[..., Any]) -> None:
    builder = build()
    builder.call("t", "only", [("user", "hi")], "yo", response_id="resp-1")
    builder.score("resp-1", 0.25, target_kind="response")
    with lake.transaction("take") as tx:
        taken = tx.take(builder.batch())
    assert [row[:2] for row in judgements(lake)] == [("response", "resp-1"), ("span", "only")]
    assert taken.scores == 1, "what came in is counted, not what follows from it"
