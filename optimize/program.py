"""A call site as a DSPy program whose messages are, byte for byte, those of its prompt artifact.

Needs dspy. The signature's instructions are the system text (slots written `{{name}}`), its input fields the slots.
DSPy cleans instructions (`inspect.cleandoc`): the raw text stays in the artifact, and comes back wherever the
cleaned text is still the one that was cleaned from it.
"""

import copy
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy
from dspy.utils.exceptions import LMError
from pydantic import BaseModel

from tracemill import client
from tracemill.errors import TracemillError
from tracemill.optimize.artifact import demo_from_case, instructions, slots_of, with_demonstrations, with_instructions
from tracemill.optimize.components import components, tool_of, with_component
from tracemill.records import Artifact, Case

# Keywords that dspy.Predict keeps for itself.
_TAKEN = {
    "signature",
    "demos",
    "config",
    "lm",
    "new_signature",
    "prediction",
    "augmented",
    "messages",
    "text",
    "source",
}


class SiteFields:
    """Slot names as DSPy field names: the same wherever Python and DSPy allow it."""

    def __init__(self, artifact: Artifact) -> None:
        names: dict[str, None] = {}
        for item in artifact.prompt["messages"]:
            if item.get("conversation"):
                names["conversation"] = None
            names.update(dict.fromkeys(slots_of(item)))
        self.field_of: dict[str, str] = {}
        for number, slot in enumerate(names):
            plain = slot.isidentifier() and not keyword.iskeyword(slot) and not slot.startswith(("_", "model_"))
            free = plain and slot not in _TAKEN and not hasattr(BaseModel, slot) and not hasattr(dspy.Signature, slot)
            self.field_of[slot] = slot if free else f"slot_{number}_{re.sub(r'[^0-9a-zA-Z]+', '_', slot).strip('_')}"
        self.slot_of = {field: slot for slot, field in self.field_of.items()}
        taken = set(self.slot_of)
        self.output = next(
            name for name in ("output", "answer", "reply", "completion_text", "site_output") if name not in taken
        )

    def values(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Slot values of a mapping that may hold other fields too."""
        return {self.slot_of[field]: value for field, value in inputs.items() if field in self.slot_of}

    def inputs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {field: values[slot] for slot, field in self.field_of.items() if slot in values}


class RawChatAdapter(dspy.Adapter):  # type: ignore[misc]
    """Sends what the artifact renders, and takes the answer as it comes.

    Use it inside `dspy.context` only: set globally it would also speak for an optimizer's own proposals.
    """

    def __init__(
        self,
        artifact: Artifact,
        fields: SiteFields,
        cleaned: str,
        *,
        source_of: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> None:
        """`cleaned`: what DSPy made of the artifact's own system text. `source_of`: slot values -> trajectory id."""
        super().__init__()
        self.artifact = artifact
        self.fields = fields
        self.cleaned = cleaned
        self.source_of = source_of

    def __deepcopy__(self, memo: dict[int, Any]) -> "RawChatAdapter":
        return self  # never changed after it is made; programs are copied by the dozen

    def artifact_for(self, text: str, demos: Sequence[Any]) -> Artifact:
        """The artifact that these instructions and demonstrations stand for."""
        changed = self.artifact if text == self.cleaned else with_instructions(self.artifact, text)
        shown = [self._demo(demo) for demo in demos]
        # Changed demonstrations are what the optimizer wants shown: all of them, in its order.
        return changed if shown == _own_demos(self.artifact) else with_demonstrations(changed, shown)

    def describing(self, texts: Mapping[str, str]) -> "RawChatAdapter":
        """The adapter of the same artifact with these components (components.py)."""
        artifact = self.artifact
        for name, text in texts.items():
            artifact = with_component(artifact, name, text)
        if artifact is self.artifact:
            return self
        other = copy.copy(self)
        other.artifact = artifact
        return other

    def format(self, signature: type[dspy.Signature], demos: list[Any], inputs: dict[str, Any]) -> list[dict[str, Any]]:
        artifact = self.artifact_for(signature.instructions, demos)
        return client.render(artifact.prompt, self.fields.values(inputs))

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        return {self.fields.output: completion}

    def _call_postprocess(
        self, processed_signature: Any, original_signature: Any, outputs: list[Any], lm: Any, lm_kwargs: Any
    ) -> list[dict[str, Any]]:
        # The base class takes an empty answer for a failure of the format; here it is the answer.
        return [{self.fields.output: one if isinstance(one, str) else one.get("text") or ""} for one in outputs]

    def _demo(self, demo: Any) -> dict[str, Any]:
        raw = dict(demo)
        if "messages" in raw:
            return {key: raw[key] for key in ("messages", "text", "source")}
        values = self.fields.values(raw)
        case = Case(
            case_id="demonstration",
            trajectory_id="bootstrapped" if self.source_of is None else self.source_of(values),
            step=0,
            site_id=str(self.artifact.prompt.get("site_id")),
            task_key=None,
            task_group="",
            pool="learn",
            values=values,
            logged_messages=(),
            logged_output=str(raw[self.fields.output]),
            reward=1.0,
        )
        return demo_from_case(self.artifact, case)


class SiteProgram(dspy.Module):  # type: ignore[misc]
    """One model call of production, with its instructions and demonstrations open to DSPy's optimizers.

    With `tools_open` what describes its tools is open, too: each as the instructions of a predictor in `tools`, by its
    component, which answers nothing of its own and has the call in its trace.
    """

    def __init__(self, artifact: Artifact, lm: dspy.LM | None = None, *, tools_open: bool = False) -> None:
        """`lm`: the model to call; None: DSPy's current one."""
        super().__init__()
        fields = SiteFields(artifact)
        inputs = {
            field: (Any if slot == "conversation" else str, dspy.InputField()) for field, slot in fields.slot_of.items()
        }
        signature = dspy.Signature({**inputs, fields.output: (str, dspy.OutputField())}, instructions(artifact))
        self.predict = dspy.Predict(signature)
        self.predict.demos = [dspy.Example(**demo) for demo in _own_demos(artifact)]
        self.tools = {
            name: dspy.Predict(dspy.Signature({"asked": dspy.InputField(), "answered": dspy.OutputField()}, text))
            for name, text in components(artifact, tools=tools_open).items()
            if tool_of(name) is not None
        }
        # DSPy cleans these texts, too, and gives an empty one words of its own.
        self._given = {name: one.signature.instructions for name, one in self.tools.items()}
        self.adapter = RawChatAdapter(artifact, fields, signature.instructions)
        self.lm = lm

    @property
    def fields(self) -> SiteFields:
        return self.adapter.fields

    def forward(self, **inputs: Any) -> dspy.Prediction:
        own = {} if self.lm is None else {"lm": self.lm}
        try:
            with dspy.context(adapter=self.speaking, **own):
                answer = self.predict(**inputs)
        except LMError as error:
            # DSPy wraps whatever an engine raises; a used-up budget is to be seen as one.
            if isinstance(error.__cause__, TracemillError):
                raise error.__cause__ from None
            raise
        if dspy.settings.trace is not None:
            dspy.settings.trace.extend((one, inputs, answer) for one in self.tools.values())
        return answer

    @property
    def speaking(self) -> RawChatAdapter:
        """The adapter with what the tools are described by now."""
        now = {name: one.signature.instructions for name, one in self.tools.items()}
        return self.adapter.describing({name: text for name, text in now.items() if text != self._given[name]})

    def text_of(self, component: str, text: str) -> str:
        """A predictor's instructions as the description that they stand for."""
        return components(self.adapter.artifact)[component] if text == self._given[component] else text

    def messages(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What a call with these slot values sends."""
        return self.speaking.format(self.predict.signature, self.predict.demos, self.fields.inputs(values))


def artifact_to_program(artifact: Artifact, lm: dspy.LM | None = None) -> SiteProgram:
    """The program that sends what the artifact renders."""
    return SiteProgram(artifact, lm)


def program_to_artifact(program: SiteProgram) -> Artifact:
    """What the program has become. Raises ConfigError where its instructions lost a slot."""
    return program.speaking.artifact_for(program.predict.signature.instructions, program.predict.demos)


def _own_demos(artifact: Artifact) -> list[dict[str, Any]]:
    pool = (artifact.prompt.get("demonstrations") or {}).get("pool", [])
    return [{"messages": demo["messages"], "text": demo["text"], "source": demo.get("source")} for demo in pool]
