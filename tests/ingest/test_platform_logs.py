"""Real exports of trace platforms: what was paid for is counted once, and streams give their whole answers."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.data


@pytest.mark.parametrize(
    ("export", "tokens"),
    [
        ("vercel-aisdk-2025-11-17", (62, 85)),  # its wrapper tells 14 and 43 of its own
        ("google-adk-2025-08-28", (28 + 39, 3 + 6)),
        ("openai-agents-2025-09-30", (55 + 85, 15 + 29)),
        ("pydantic-ai-tools-2025-12-04", (265 + 417 + 502 + 131, 73 + 53 + 14 + 69)),
    ],
)
def test_usage_of_langfuse_exports_counts_once(data: Path, take: Any, export: str, tokens: tuple[int, int]) -> None:
    taken = take((data / "langfuse" / f"{export}.trace.json").read_bytes(), name="export.json")
    calls = [span for span in taken.kind("llm") if "wrapper" not in span["flags"]]
    assert (sum(call["tokens_in"] for call in calls), sum(call["tokens_out"] for call in calls)) == tokens


def test_scores_and_corrections_of_langfuse_exports(data: Path, take: Any) -> None:
    found = {}
    for path in sorted((data / "langfuse").glob("*.trace.json")):
        document = json.loads(path.read_text())["trace"]
        given = [*document.get("scores", ()), *document.get("corrections", ())]
        scores = take(path.read_bytes(), name="export.json").scores
        assert len(scores) == len(given), path.name
        found |= {(path.name, score["name"]): (score["value"], score["label"]) for score in scores}
    value, label = found["pydantic-ai-2025-06-06.trace.json", "correction"]
    assert value is None
    assert label.startswith("Langfuse is a tool designed for observability")
    assert found["vertex-ai-2025-08-01.trace.json", "hallucination"] == (0.1, None)


@pytest.mark.parametrize("name", ["js", "py"])
def test_langsmith_batches_are_calls_with_what_was_used(data: Path, take: Any, name: str) -> None:
    calls = {}
    for path in sorted((data / "langsmith").glob(f"langsmith_{name}_*.json")):
        taken = take(path.read_bytes(), name="batch.json")
        span = taken.span
        calls[path.stem.removeprefix(f"langsmith_{name}_wrap_openai_").replace(" ", "_")] = span
        assert (span["kind"], span["status"], span["finish_reasons"]) == ("llm", "ok", ["stop"])
        assert taken.texts(span["output_ids"])[0].startswith(("Howdy! How can I assist you today?", "Certainly!"))
        assert taken.quarantine == []
    stream, silent, plain = calls["stream"], calls["stream_no_usage"], calls["reasoning"]
    assert (stream["tokens_in"], stream["tokens_out"]) == (9, 9)
    assert (silent["tokens_in"], silent["tokens_out"]) == (None, None)
    assert plain["tokens_in"] == 43
    assert plain["tokens_reasoning"] > 0
