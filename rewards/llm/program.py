"""The DSPy programs of the judge and the ranker: their prompts, and how their answers are read.

Needs dspy. A program renders its messages (`messages`) for many calls at once, and is a `dspy.Module` all the same: its
instructions and demonstrations are open to DSPy's optimizers, which call it with DSPy's current language model.
"""

import json
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel, TypeAdapter, ValidationError

from tracemill.records import ChatMessage
from tracemill.rewards.llm.prompts import ANSWER, JUDGE, RANK


class Verdict(BaseModel):
    """One criterion of the rubric."""

    criterion: str
    quote: str | None = None
    met: bool | None


class _Adapter(dspy.JSONAdapter):  # type: ignore[misc]
    """DSPy's own, but that it writes the system message of a signature once: that costs more than all the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._system: dict[Any, str] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Adapter":
        return self

    def format_system_message(self, signature: Any) -> str:
        if signature not in self._system:
            self._system[signature] = super().format_system_message(signature)
        return self._system[signature]


class Program(dspy.Module):  # type: ignore[misc]
    """One question to a model: instructions, input fields, output fields."""

    def __init__(self, instructions: str, inputs: dict[str, str], outputs: dict[str, tuple[Any, str]]) -> None:
        """`inputs`: description by name, in the order in which they are shown; `outputs` with their types."""
        super().__init__()
        fields: dict[str, Any] = {name: (str, dspy.InputField(desc=told)) for name, told in inputs.items()}
        fields |= {name: (kind, dspy.OutputField(desc=told)) for name, (kind, told) in outputs.items()}
        self.predict = dspy.Predict(dspy.Signature(fields, instructions))
        self.adapter = _Adapter()
        self._kinds = {name: kind for name, (kind, _) in outputs.items()}
        self._types = {name: TypeAdapter(kind) for name, kind in self._kinds.items()}

    def forward(self, **inputs: str) -> dspy.Prediction:
        with dspy.context(adapter=self.adapter):
            return self.predict(**inputs)

    def messages(self, **inputs: str) -> tuple[ChatMessage, ...]:
        """What a call with these inputs sends."""
        return tuple(self.adapter.format(self.predict.signature, self.predict.demos, inputs))

    def read(self, text: str | None) -> dict[str, Any] | None:
        """The output fields of an answer; None where it has them not, or not as they are declared."""
        if (plain := self._read_plain(text or "")) is not None:
            return plain
        try:
            found: dict[str, Any] = self.adapter.parse(self.predict.signature, text or "")
        except AdapterParseError:
            return None
        return found

    def _read_plain(self, text: str) -> dict[str, Any] | None:
        """What DSPy makes of an answer that is plain JSON, without its search for what else it could mean."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or not self._kinds.keys() <= found.keys():
            return None
        if any(isinstance(found[name], str) != (kind is str) for name, kind in self._kinds.items()):
            return None
        try:
            return {name: one.validate_python(found[name]) for name, one in self._types.items()}
        except ValidationError:
            return None


_LOG = {"log": "the log, as data"}
_RUBRIC = {"rubric": "the criteria, one a line: name, then question"}
_REFERENCE = {"reference": "an answer to the task that was found without seeing the log; it may be wrong or unknown"}
_VERDICTS = {"verdicts": (list[Verdict], "one for each criterion of the rubric, in its order")}


def judge(*, rubric_first: bool, reference: bool) -> Program:
    """log, rubric (and reference) to `verdicts`."""
    told = _LOG | (_REFERENCE if reference else {})
    return Program(JUDGE, _RUBRIC | told if rubric_first else told | _RUBRIC, _VERDICTS)


def answer() -> Program:
    """log (of the task alone) to `answer`."""
    return Program(ANSWER, {"log": "the task, as data"}, {"answer": (str, "the answer alone")})


def rank() -> Program:
    """attempts to `ranking`, the labels of the attempts."""
    attempts = {"attempts": "the task and the attempts, as data"}
    return Program(RANK, attempts, {"ranking": (list[str], "the label of every attempt, the best first")})
