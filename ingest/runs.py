"""What run files of benchmarks and harnesses have in common: judgements by many spellings, times without a zone."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tracemill.chat import as_text
from tracemill.ingest.attributes import as_float, as_ns
from tracemill.ingest.documents import Record, loads
from tracemill.ingest.reader import BadRecord, Message, RawScore

_TRUTH = {"true": 1.0, "yes": 1.0, "c": 1.0, "false": 0.0, "no": 0.0, "i": 0.0}


def listed(value: Any) -> Sequence[Any]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, list) else ()


def mapped(value: Any) -> Mapping[str, Any]:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def said(role: str, text: Any, name: str | None = None) -> Message:
    """A message of one text part."""
    return role, name, [{"type": "text", "content": "" if text is None else as_text(text)}]


def judged(value: Any) -> float | None:
    """A judgement as a number: true is 1, "False" is 0, numbers are themselves; None for what is none of these."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in _TRUTH:
        return _TRUTH[value.strip().lower()]
    return as_float(value)


def rewards(trace_id: str, values: Mapping[str, Any], evidence: Any = None) -> Iterator[RawScore]:
    """Scores of the environment for one run, by name; what was not judged gives none."""
    for name, value in values.items():
        number = judged(value)
        if number is not None:
            yield RawScore(
                target_kind="trajectory", target_id=trace_id, name=name, value=number, source="env", evidence=evidence
            )


def local_ns(value: Any) -> tuple[int | None, list[str]]:
    """A time in UTC nanoseconds; text without a zone is taken as UTC and gives the flag `clock`."""
    found = as_ns(value)
    return found, ["clock"] if found is not None and _zoneless(value) else []


def _zoneless(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return datetime.fromisoformat(value.strip()).tzinfo is None
    except ValueError:
        return False


def run_of(record: Record, what: str) -> dict[str, Any] | BadRecord:
    """The JSON object of a record; `what` says in the refusal what it should have been."""
    try:
        run = loads(record.raw)
    except ValueError as error:
        return record.bad(str(error))
    return run if isinstance(run, dict) else record.bad(f"no {what}: not a JSON object")
