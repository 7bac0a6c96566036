"""What optimizers share that ask a model to read failures: which failures, how they are told, and its JSON answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracemill import client
from tracemill.optimize.artifact import instructions
from tracemill.optimize.components import descriptions, parameters_of
from tracemill.optimize.evidence import called, feedback, quoted
from tracemill.optimize.replay import named, output_of
from tracemill.optimize.search import PromptModel
from tracemill.records import Artifact, Case, ChatRequest, Outcome
from tracemill.study import Study

Answered = tuple[Case, Outcome]
_OTHERS = 24
_OTHER_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A call of the model that writes. `shown`: the episodes it rests on; it is erased with any of them."""

    text: str
    seed: int
    shown: frozenset[str]


def ask(reflection: PromptModel, role: str, questions: Sequence[Question]) -> list[Mapping[str, Any]]:
    """The JSON object of each answer, asked for together; empty where the call failed or there is none in it."""
    requests = [
        ChatRequest(
            model=reflection.name,
            messages=({"role": "system", "content": role}, {"role": "user", "content": one.text}),
            params=dict(reflection.params),
            seed=one.seed,
            about=tuple(sorted(map(named, one.shown))),
        )
        for one in questions
    ]
    return [{} if one.error else json_object(one.text or "") for one in reflection.chat.complete(requests)]


def json_object(text: str) -> Mapping[str, Any]:
    """The JSON object in an answer, whatever stands around it; empty where there is none."""
    try:
        found = json.loads(text[text.find("{") : text.rfind("}") + 1], strict=False)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def batch_of(cases: Sequence[Case], width: int, number: int) -> list[Case]:
    """The cases that a round is shown; the next round sees those that come after them, at the end the first again."""
    width = min(width, len(cases))
    return [cases[(number * width + place) % len(cases)] for place in range(width)]


def sorted_out(study: Study, artifact: Artifact, batch: Sequence[Case]) -> tuple[list[Answered], list[Answered]]:
    """What earned less than all of its reward, and what earned all; what nobody can score is neither."""
    outcomes = study.evaluate(artifact, batch)
    scored = [(one.reward, (case, one)) for case, one in zip(batch, outcomes, strict=True) if one.reward is not None]
    return [one for reward, one in scored if reward < 1.0], [one for reward, one in scored if reward >= 1.0]


def told(study: Study, answered: Sequence[Answered]) -> list[str]:
    """Numbered answers with what they earned and what was said of them, all that is from logs quoted."""
    parts = []
    for number, (case, outcome) in enumerate(answered, start=1):
        asked = client.question(study.baseline.prompt, case.values)
        said = feedback(study, [case], outcome.reward, case.expected, called(outcome))
        answer = quoted(output_of(outcome.completion) or "")
        parts.append(f"{number}. Asked: {quoted(asked)}\nAnswered: {answer}\n{said}")
    return parts


def shown_prompt(artifact: Artifact) -> str:
    return f"The prompt of an assistant:\n<prompt>\n{instructions(artifact) or ''}\n</prompt>"


def shown_tool(artifact: Artifact, name: str) -> str:
    """A tool as whoever writes its description has to know it: beside what it says, its parameters and the others."""
    takes = parameters_of(artifact, name)
    parts = [
        f"It may call the tool {name}, whose parameters are\n<parameters>\n{takes}\n</parameters>",
        "What the assistant is told of this tool, so that it knows when to call it:\n"
        f"<description>\n{descriptions(artifact)[name]}\n</description>",
    ]
    others = [f"- {other}: {text[:_OTHER_CHARS]}" for other, text in descriptions(artifact).items() if other != name]
    return "\n\n".join([*parts, "\n".join(["Its other tools:", *others[:_OTHERS]])] if others else parts)
