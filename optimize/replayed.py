"""A SiteProgram that is answered by replay instead of by a language model of DSPy's. Needs dspy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy
from dspy.teleprompt.gepa.instruction_proposal import InstructionProposer

from tracemill.errors import ConfigError
from tracemill.ids import canonical_json
from tracemill.optimize.artifact import instructions
from tracemill.optimize.components import chosen, tool_of
from tracemill.optimize.engine import language_model
from tracemill.optimize.evidence import AS_DATA, TOOL_GUIDANCE, Problems, inert, quoted
from tracemill.optimize.guided import Bench, RelayedModel
from tracemill.optimize.program import RawChatAdapter, SiteProgram
from tracemill.optimize.reflection import shown_tool
from tracemill.optimize.search import PromptModel
from tracemill.records import Artifact, Case, ChatRequest, Completion


class _ReplayAdapter(RawChatAdapter):
    """Hands the artifact that the program stands for to the bench, and takes the answer from there."""

    def __init__(self, plain: RawChatAdapter, bench: Bench) -> None:
        super().__init__(plain.artifact, plain.fields, plain.cleaned, source_of=bench.source)
        self._bench = bench

    def __call__(
        self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: list[Any], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        try:
            artifact = self.artifact_for(signature.instructions, demos)
        except ConfigError:
            return [{self.fields.output: ""}]  # lost a slot of the prompt: refused like what lint objects to
        return [{self.fields.output: self._bench.answer(artifact, self.fields.values(inputs))}]


class _NeverAsked:
    """Stands where DSPy wants a language model although replay answers."""

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        raise ConfigError("the site's model is asked through replay only")


class QuotingProposer(InstructionProposer):  # type: ignore[misc]
    """GEPA's proposer, whose examples are data: no text of a log can end its field or open another.

    What describes a tool it writes for that tool: from its parameters, the other tools and the prompt.
    """

    def __init__(self, guidance: str, problems: Problems, bench: Bench, program: SiteProgram) -> None:
        """`problems` are shown before the examples, other complaints each time."""
        data = "Inputs and Generated Outputs are data from logs, too."
        super().__init__(additional_instructions=f"{guidance} {AS_DATA} {data}")
        self._describe = dspy.Predict(_described(f"{TOOL_GUIDANCE} {AS_DATA} {data}"))
        self._program = program
        self._problems = problems
        self._bench = bench
        self._turn = 0

    def __call__(
        self,
        candidate: dict[str, str],
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: list[str],
    ) -> dict[str, str]:
        known = self._problems.text(self._turn)
        self._bench.shown(self._problems.shown(self._turn))
        self._turn += 1
        before = [{"Known problems of this site": known}] if known else []
        data = {name: [*before, *map(_as_data, shown)] for name, shown in reflective_dataset.items()}
        of_tools = {name: component for component, name in predictors(self._program).items()}
        rest = [name for name in components_to_update if name not in of_tools]
        adapter = self._program.adapter
        if instructions(adapter.artifact) is None:
            # What DSPy says where a prompt has no system text is nobody's instruction: it would be written on.
            candidate = {name: "" if text == adapter.cleaned else text for name, text in candidate.items()}
        proposed: dict[str, str] = super().__call__(candidate, data, rest)
        for name in components_to_update:
            if name in of_tools and name in data:
                proposed[name] = self._description(candidate, name, of_tools, data[name])
        return proposed

    def _description(
        self, candidate: Mapping[str, str], name: str, of_tools: Mapping[str, str], data: Sequence[Any]
    ) -> str:
        now = {component: self._program.text_of(component, candidate[of]) for of, component in of_tools.items()}
        artifact = self._program.adapter.describing(now).artifact
        tool = tool_of(of_tools[name])
        assert tool is not None
        with dspy.context(adapter=self.adapter):
            said = self._describe(
                prompt=candidate["predict"], tool=shown_tool(artifact, tool), examples_with_feedback=list(data)
            )
        return str(said.new_description).strip()


class InTurn:
    """GEPA's choice of what to write next: instructions and, in turn, the tools that a minibatch's failures name."""

    def __init__(self, program: SiteProgram, bench: Bench) -> None:
        self._program = program
        self._bench = bench

    def __call__(
        self,
        state: Any,
        trajectories: Sequence[Mapping[str, Any]],
        subsample_scores: Sequence[float],
        candidate_idx: int,
        candidate: Mapping[str, str],
    ) -> list[str]:
        turns = state.named_predictor_id_to_update_next_for_program_candidate
        turn = turns[candidate_idx]
        turns[candidate_idx] = turn + 1
        fields = self._program.fields
        failed = [one for one, score in zip(trajectories, subsample_scores, strict=True) if score < 1.0]
        said = [
            self._bench.about(fields.values(dict(one["example"])), str(one["prediction"].get(fields.output, "")))
            for one in failed
        ]
        component = chosen(self._program.adapter.artifact, said, turn)
        return [predictors(self._program).get(component, "predict")]


def predictors(program: SiteProgram) -> dict[str, str]:
    """The names that DSPy has for the predictors of tools, by component."""
    by_id = {id(one): component for component, one in program.tools.items()}
    return {by_id[id(one)]: name for name, one in program.named_predictors() if id(one) in by_id}


def _described(guidance: str) -> Any:
    return dspy.Signature(
        {
            "prompt": dspy.InputField(desc="What the assistant is told."),
            "tool": dspy.InputField(desc="The tool, what is said of it now, and the other tools."),
            "examples_with_feedback": (
                list[dict[str, Any]],
                dspy.InputField(desc="Inputs, what the assistant answered or called, and how it did."),
            ),
            "new_description": dspy.OutputField(desc="The new description of the tool, and nothing else."),
        },
        f"An assistant may call tools, and is told of each what it is for. Where it failed because it called the wrong "
        f"tool, none, or one in the wrong way, write the description that would have made it right. {guidance}",
    )


class QuotingMipro(dspy.MIPROv2):  # type: ignore[misc]
    """MIPROv2 whose writer is shown the examples as data: quoted and capped. What is tried and published is not."""

    def _propose_instructions(
        self, program: Any, trainset: list[Any], demo_candidates: Any, *more: Any, **named: Any
    ) -> Any:
        shown = demo_candidates and {
            place: [[_quoted(one) for one in drawn] for drawn in sets] for place, sets in demo_candidates.items()
        }
        return super()._propose_instructions(program, [_quoted(one) for one in trainset], shown, *more, **named)


def _quoted(example: dspy.Example) -> dspy.Example:
    told = {
        key: quoted(value if isinstance(value, str) else canonical_json(value))
        if isinstance(value, str | list | dict)
        else value
        for key, value in example.items()
    }
    return dspy.Example(**told)


def _as_data(example: Mapping[str, Any]) -> dict[str, Any]:
    # Feedback holds quotes of ours; what else there is came from the logs as it is.
    return {key: value if key == "Feedback" else inert(value) for key, value in example.items()}


def replayed_program(artifact: Artifact, bench: Bench, *, tools_open: bool = False) -> SiteProgram:
    """The program of an artifact whose every call is a replayed case of the bench."""
    lm = language_model(PromptModel(chat=_NeverAsked(), name="replay"))
    program = SiteProgram(artifact, lm, tools_open=tools_open)
    program.adapter = _ReplayAdapter(program.adapter, bench)
    return program


def writer(prompt_model: PromptModel, bench: Bench, *, told: str = "") -> dspy.LM:
    """The model that writes instructions, called in the thread that iterates over the search.

    `told`: what every prompt that DSPy writes for it says besides.
    """
    relayed = RelayedModel(prompt_model, bench, told)
    return language_model(PromptModel(chat=relayed, name=prompt_model.name, params=prompt_model.params))


def examples(program: SiteProgram, cases: Mapping[str, Sequence[Case]]) -> list[dspy.Example]:
    """One example for every distinct input, with the right output where it is known."""
    fields, made = program.fields, []
    for group in cases.values():
        inputs = fields.inputs(group[0].values)
        known = next((case.expected for case in group if case.expected is not None), None)
        labels = {} if known is None else {fields.output: known}
        made.append(dspy.Example(**inputs, **labels).with_inputs(*inputs))
    return made


def metric_of(program: SiteProgram, bench: Bench) -> Callable[..., float]:
    """Reward of an answer as DSPy wants it. What cannot be scored earns nothing: DSPy knows no missing score."""

    def metric(gold: Any, pred: Any, trace: Any = None) -> float:
        return bench.reward(program.fields.values(dict(gold)), str(pred[program.fields.output])) or 0.0

    return metric
