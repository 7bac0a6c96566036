"""Scores of Langfuse: every data type, and every kind of thing that is judged."""

import json
from typing import Any

import pytest
from langfuse_exports import TRACE

SCORES = [
    ({"dataType": "NUMERIC", "value": 0.8, "source": "EVAL"}, ("s", 0.8, None, "llm")),
    ({"dataType": "BOOLEAN", "value": 0, "stringValue": "False", "source": "API"}, ("s", 0.0, "False", "code")),
    ({"dataType": "CATEGORICAL", "value": 0, "stringValue": "bad", "source": "API"}, ("s", None, "bad", "code")),
    ({"dataType": "CATEGORICAL", "value": 2, "stringValue": "fair", "source": "ANNOTATION", "configId": "c"},
     ("s", 2.0, "fair", "human")),
    ({"dataType": "TEXT", "value": 0, "stringValue": "nice words", "source": "API"}, ("s", None, "nice words", "code")),
    ({"dataType": "CORRECTION", "value": 0, "longStringValue": "better", "source": "ANNOTATION"},
     ("correction", None, "better", "human")),
]  # fmt: skip


@pytest.mark.parametrize(("score", "expected"), SCORES)
def test_scores_of_every_data_type(take: Any, score: dict[str, Any], expected: tuple[Any, ...]) -> None:
    row = {"id": "1", "name": "s", "traceId": TRACE, "observationId": None, "comment": "why"} | score
    (found,) = take([row], name="scores.json").scores
    assert (found["name"], found["value"], found["label"], found["source"]) == expected
    assert json.loads(found["evidence"])["comment"] == "why"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"traceId": TRACE, "observationId": "00000000000000aa"}, ("span", "00000000000000aa")),
        ({"traceId": TRACE}, ("trajectory", TRACE)),
        ({"traceId": "0af76519-16cd-43dd-8448-eb211c80319c"}, ("trajectory", TRACE)),
        ({"sessionId": "s-1"}, ("session", "s-1")),
        ({"datasetRunId": "run-1"}, ("dataset_run", "run-1")),
    ],
)
def test_scores_find_their_target(take: Any, target: dict[str, Any], expected: tuple[str, str]) -> None:
    row = {"id": "1", "name": "s", "value": 1, "dataType": "NUMERIC", "source": "API", "observationId": None} | target
    (score,) = take([row], name="scores.json").scores
    assert (score["target_kind"], score["target_id"]) == expected
