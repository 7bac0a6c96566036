"""Scores of Inspect samples: letters as numbers, one row for each scorer and each of its parts."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.ingest.attributes import as_float, as_ns
from tracemill.ingest.reader import RawScore

_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Correct, partial, incorrect, no answer: the values that Inspect's own metrics take for them."""


def scores(sample: Mapping[str, Any], trace_id: str, at: int | None, scorer: str | None) -> Iterator[RawScore]:
    """The judgements of one sample; `scorer` names the only one of a log from before samples named theirs."""
    found = sample.get("scores")
    if not isinstance(found, Mapping):
        single = sample.get("score")
        found = {scorer or "score": single} if isinstance(single, Mapping) else {}
    for name, score in found.items():
        if isinstance(score, Mapping):
            yield from score_rows(str(name), score, trace_id, at, sample.get("target"))


def score_rows(
    name: str, score: Mapping[str, Any], trace_id: str, at: int | None, target: Any = None
) -> Iterator[RawScore]:
    """One judgement as rows: the one value, or each of several under "scorer/part"."""
    value = score.get("value")
    evidence = {
        key: score[key] for key in ("answer", "explanation", "metadata", "history") if score.get(key) not in (None, [])
    }
    if target not in (None, "", []):
        evidence["target"] = target
    if isinstance(value, Mapping):
        parts = [(f"{name}/{part}", one) for part, one in value.items()]
    elif isinstance(value, list):
        parts = [(f"{name}/{part}", one) for part, one in enumerate(value)]
    else:
        parts = [(name, value)]
    for part, one in parts:
        number, label = _typed(one)
        yield RawScore(
            target_kind="trajectory",
            target_id=trace_id,
            name=part,
            value=number,
            label=label,
            source=_source(name, score),
            evidence=evidence or None,
            at=at,
        )


def _typed(value: Any) -> tuple[float | None, str | None]:
    """Number and label; a value that is not a number is an abstention, not a zero."""
    if isinstance(value, bool):
        return float(value), None
    if isinstance(value, int | float):
        return (float(value), None) if math.isfinite(value) else (None, None)
    if isinstance(value, str):
        if value in _LETTERS:
            return _LETTERS[value], value
        number = as_float(value)
        return (None, value) if number is None else (number, None)
    return None, None


def _source(name: str, score: Mapping[str, Any]) -> str:
    history = score.get("history")
    if isinstance(history, list) and history and isinstance(history[-1], Mapping) and history[-1].get("provenance"):
        return "human"
    metadata = score.get("metadata")
    graded = isinstance(metadata, Mapping) and "grading" in metadata
    return "llm" if graded or name.rsplit("/", 1)[-1].startswith("model_graded") else "env"


def moment(value: Any) -> int | None:
    return as_ns(value) if isinstance(value, str) else None
