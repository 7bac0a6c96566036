"""From the log to the trajectory: each model call counts once, whoever logged it, in whatever order it came."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tracemill import ingest
from tracemill.warehouse import Lake

TRACE = "0af7651916cd43dd8448eb211c80319c"
Land = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new lake to copy, which is faster than creating one."""
    root = tmp_path_factory.mktemp("empty") / "lake"
    Lake.create(root).close()
    return root


@pytest.fixture
def land(tmp_path: Path, empty: Path) -> Land:
    """Takes requests in, one file after the other, and gives the one trajectory and its spans by name."""

    def run(*requests: Any) -> dict[str, Any]:
        shutil.copytree(empty, tmp_path / "lake")
        with Lake.open(tmp_path / "lake") as lake:
            for number, request in enumerate(requests):
                path = tmp_path / f"{number}.json"
                path.write_text(json.dumps(request))
                for batch in ingest.batches(ingest.find([path]), key=b"k" * 32, now_ns=number + 1):
                    with lake.transaction("ingest") as tx:
                        tx.rebuild(tx.take(batch).trace_ids)
            with lake.reader() as con:
                (whole,) = _rows(con, "SELECT * FROM trajectories")
                spans = {row["name"]: row for row in _rows(con, "SELECT * FROM spans")}
                scores = _rows(con, "SELECT * FROM scores ORDER BY target_kind")
                return {"trajectory": whole, "spans": spans, "scores": scores}

    return run


def _rows(con: Any, statement: str) -> list[dict[str, Any]]:
    return list(con.execute(statement).to_arrow_table().to_pylist())


def test_adk_with_openllmetry_below_it_is_one_call(land: Land, otlp: Any, request_of: Any) -> None:
    request = {"model": "m", "contents": [{"role": "user", "parts": [{"text": "Weather?"}]}]}
    usage = {"gen_ai.usage.input_tokens": 1822, "gen_ai.usage.output_tokens": 43}
    adk = {"gen_ai.system": "gcp.vertex.agent", "gcp.vertex.agent.llm_request": json.dumps(request), **usage}
    openai = {
        "llm.request.type": "chat",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Weather?",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "Rain.",
        "gen_ai.usage.prompt_tokens": 1822,
        "gen_ai.usage.completion_tokens": 43,
    }
    outer = otlp("call_llm", attributes=adk)
    inner = otlp("chat", parent="call_llm", attributes=openai)
    found = land(request_of(inner), request_of(outer))
    assert {name: row["dialect"] for name, row in found["spans"].items()} == {
        "call_llm": "google-adk",
        "chat": "openllmetry",
    }
    assert "wrapper" in found["spans"]["call_llm"]["flags"]
    assert "wrapper" not in found["spans"]["chat"]["flags"]
    whole = found["trajectory"]
    assert (whole["n_llm_calls"], whole["tokens_in"], whole["tokens_out"]) == (1, 1822, 43)
    assert found["spans"]["call_llm"]["input_ids"] == found["spans"]["chat"]["input_ids"], "the prompt is one"


def test_vercels_outer_span_repeats_usage_that_is_counted_below_it(land: Land, otlp: Any, request_of: Any) -> None:
    def step(operation: str, tokens: int) -> dict[str, Any]:
        usage = {"ai.usage.promptTokens": tokens, "ai.usage.completionTokens": 1}
        return {"ai.operationId": operation, "ai.model.id": "m", "ai.response.text": "x", **usage}

    spans = [
        otlp("second", parent="outer", attributes=step("ai.generateText.doGenerate", 20)),
        otlp("first", parent="outer", attributes=step("ai.generateText.doGenerate", 14)),
        otlp("outer", attributes=step("ai.generateText", 34)),
    ]
    whole = land(request_of(*spans))["trajectory"]
    assert (whole["n_llm_calls"], whole["tokens_in"], whole["tokens_out"]) == (2, 34, 2)


def test_monocles_framework_and_transport_spans_are_one_call(land: Land, otlp: Any, request_of: Any) -> None:
    said = [
        ("data.input", {"input": ['{"human": "hi"}']}),
        ("data.output", {"response": '{"ai": "yo"}'}),
        ("metadata", {"prompt_tokens": 9, "completion_tokens": 3}),
    ]
    marked = {"monocle_apptrace.version": "0.8"}
    spans = [
        otlp("inner", parent="outer", attributes=marked | {"span.type": "inference.modelapi"}),
        otlp("outer", attributes=marked | {"span.type": "inference.framework"}, events=said),
    ]
    whole = land(request_of(*spans))["trajectory"]
    assert (whole["n_llm_calls"], whole["tokens_in"], whole["tokens_out"]) == (1, 9, 3)


def test_a_parent_that_comes_a_file_later_makes_no_orphan(land: Land, otlp: Any, request_of: Any) -> None:
    chat = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 9}
    child, lost = otlp("child", parent="root", attributes=chat), otlp("lost", parent="never", attributes=chat)
    found = land(
        request_of(child, lost), request_of(otlp("root", attributes={"gen_ai.operation.name": "invoke_agent"}))
    )
    assert "orphan" not in found["spans"]["child"]["flags"]
    assert "orphan" in found["spans"]["lost"]["flags"]
    assert found["trajectory"]["n_llm_calls"] == 2


def _evaluated(values: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    attributes = [{"key": key, "value": value} for key, value in values]
    record = {"traceId": TRACE, "eventName": "gen_ai.evaluation.result", "attributes": attributes}
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}


@pytest.mark.parametrize("log_first", [True, False])
def test_an_evaluation_logged_by_response_id_is_a_score_of_the_call(
    land: Land, otlp: Any, request_of: Any, log_first: bool
) -> None:
    log = _evaluated(
        [
            ("gen_ai.evaluation.name", {"stringValue": "relevance"}),
            ("gen_ai.evaluation.score.value", {"doubleValue": 0.25}),
            ("gen_ai.response.id", {"stringValue": "chatcmpl-1"}),
        ]
    )
    call = request_of(otlp("call", attributes={"gen_ai.operation.name": "chat", "gen_ai.response.id": "chatcmpl-1"}))
    found = land(*((log, call) if log_first else (call, log)))
    targets = [(score["target_kind"], score["target_id"], score["value"]) for score in found["scores"]]
    assert targets == [("response", "chatcmpl-1", 0.25), ("span", found["spans"]["call"]["span_id"], 0.25)]
