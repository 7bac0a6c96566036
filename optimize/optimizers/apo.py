"""APO: a model criticises failures ("textual gradient"), another call edits the prompt, a beam keeps the best.

ProTeGi (arXiv 2305.03495) in the manner of Agent Lightning's `APO`, as a baseline. Unlike there, all prompts of all
rounds are compared on the same tuning cases and keep their scores; what cannot be scored counts neither as 0 nor as
absent; an edit that loses a slot or breaks a rule of lint costs no replay; no prompt is tried twice; a round's
critiques, and its edits, are asked for together.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from tracemill.errors import ConfigError
from tracemill.optimize.components import INSTRUCTIONS, chosen, descriptions, names, tool_of, with_component
from tracemill.optimize.evidence import AS_DATA, GUIDANCE, TOOL_GUIDANCE, Problems, about, called, inert, known_problems
from tracemill.optimize.provenance import added
from tracemill.optimize.reflection import (
    Answered,
    Question,
    ask,
    batch_of,
    shown_prompt,
    shown_tool,
    sorted_out,
    told,
)
from tracemill.optimize.replay import output_of
from tracemill.optimize.search import PromptModel, apart, candidate, objections, shuffled, teaching, tune_score, tuned
from tracemill.records import Artifact, Candidate, Case
from tracemill.study import Study

_ROLE = "You improve the prompts of assistants from what went wrong."
_CRITICISE = (
    "Say what {what} lacks, or where it misleads, so that these answers came out as they did: at most five "
    "points, the one that explains most first, each about a kind of question and never about a single example. "
    'Answer with one JSON object: {{"critique": "…"}}'
)
_EDITS = (
    "Rewrite {what} so that every point is dealt with. Keep what it says already where no point is about it.",
    "Change as little as you can: add or replace the one line that deals with the most important point.",
)
_WRITE = 'Answer with one JSON object: {{"{field}": "…"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    artifact: Artifact
    score: tuple[float | None, int]
    lineage: frozenset[str] = frozenset()
    by_line: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[float, int]:
        """Lower is better; among equals the shorter prompt."""
        return -1.0 if self.score[0] is None else -self.score[0], len(self.artifact.to_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch:
    """A parent with the failures that its edit is to heal."""

    parent: _Prompt
    failures: tuple[Answered, ...]
    problems: Problems
    number: int
    component: str
    """What of the prompt is edited."""
    manner: str

    @property
    def tool(self) -> str | None:
        return tool_of(self.component)

    @property
    def what(self) -> str:
        return "the prompt" if self.tool is None else f"the description of the tool {self.tool}"

    @property
    def wanted(self) -> str:
        """The field of the answer that holds the new text."""
        return "new_instruction" if self.tool is None else "new_description"

    @property
    def shown(self) -> frozenset[str]:
        """The episodes that its critique reads."""
        return frozenset(case.trajectory_id for case, _ in self.failures) | self.problems.shown(self.number)

    def edited(self, artifact: Artifact, score: tuple[float | None, int]) -> _Prompt:
        """The parent as edited: what the edit added rests on what was shown to it."""
        new = dict.fromkeys(added(self.parent.artifact, artifact), self.shown)
        return _Prompt(
            artifact=artifact,
            score=score,
            lineage=self.parent.lineage | self.shown,
            by_line={**self.parent.by_line, **new},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Apo:
    """`edits` a round, dealt over the beam; those not behind their parent on a share of the tuning cases see all."""

    reflection: PromptModel | None = None
    beam: int = 4
    edits: int = 8
    rounds: int = 4
    examples: int = 4
    """Failures that one critique reads."""
    batch: int = 16
    """Training cases that each prompt of the beam answers in a round; the next round takes others."""
    screen: float = 0.34
    """Share of the tuning cases on which an edit must not be worse than its parent."""
    tool_descriptions: bool = False
    """Whether every second edit is one of a tool's description, where the prompt has tools."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reflection is None:
            raise ConfigError("apo needs a capable model that writes instructions: configure a reflection model")
        if min(self.beam, self.edits, self.rounds, self.examples, self.batch) < 1 or not 0.0 < self.screen <= 1.0:
            raise ConfigError(
                f"apo: beam {self.beam}, edits {self.edits}, rounds {self.rounds}, examples {self.examples} and batch "
                f"{self.batch} must be ≥ 1, screen {self.screen} above 0 and at most 1"
            )

    @property
    def name(self) -> str:
        return "apo"

    def search(self, study: Study) -> Iterator[Candidate]:
        cases = shuffled(teaching(study), self.seed)
        if not cases or not study.tune:
            return
        problems = known_problems(study, apart(study.train, study.tune))
        own = objections(study, study.baseline, cases)
        order = shuffled(study.tune, self.seed)
        some = order[: ceil(len(order) * self.screen)]
        beam = [_Prompt(artifact=study.baseline, score=tuned(study, study.baseline))]
        seen = {study.baseline.to_json()}
        for number in range(self.rounds):
            found = []
            for branch, artifact in self._edited(study, self._branches(study, problems, beam, cases, number)):
                if artifact.to_json() in seen or objections(study, artifact, cases) - own:
                    continue
                seen.add(artifact.to_json())
                if _score(study, artifact, some) < _score(study, branch.parent.artifact, some):
                    continue
                one = branch.edited(artifact, tuned(study, artifact))
                found.append(one)
                yield candidate(study, self.name, artifact, one.score, one.lineage, one.by_line)
            beam = sorted([*beam, *found], key=lambda one: one.rank)[: self.beam]

    def _branches(
        self, study: Study, problems: Problems, beam: Sequence[_Prompt], cases: Sequence[Case], number: int
    ) -> list[_Branch]:
        """The round's edits to be made: every parent answers the same cases, every edit reads its own draw."""
        batch = batch_of(cases, self.batch, number)
        failures = {place: sorted_out(study, one.artifact, batch)[0] for place, one in enumerate(beam)}
        failing = [place for place in failures if failures[place]]
        branches = []
        for edit in range(self.edits if failing else 0):
            nth, of = divmod(edit, len(failing))
            place = failing[of]
            rng = random.Random(f"{self.seed}/{number}/{edit}")
            component, manner = INSTRUCTIONS, number * self.edits + edit
            healed: Sequence[Answered] = failures[place]
            if self.tool_descriptions and descriptions(study.baseline):
                turn = number * ceil(self.edits / len(failing)) + nth
                component, healed = _component(study, beam[place].artifact, healed, turn)
                manner = turn // 2  # every component in every manner
            drawn = rng.sample(healed, min(self.examples, len(healed)))
            branches.append(
                _Branch(
                    parent=beam[place],
                    failures=tuple(drawn),
                    problems=problems,
                    number=number * self.edits + edit,
                    component=component,
                    manner=_EDITS[manner % len(_EDITS)],
                )
            )
        return branches

    def _edited(self, study: Study, branches: Sequence[_Branch]) -> Iterator[tuple[_Branch, Artifact]]:
        critiques = self._ask([(one, _criticise(study, one)) for one in branches], "critique")
        asks = [(one, _edit(one, text)) for one, text in zip(branches, critiques, strict=True) if text is not None]
        texts = self._ask(asks)
        for (branch, _), text in zip(asks, texts, strict=True):
            if text is None:
                continue
            try:
                yield branch, with_component(branch.parent.artifact, branch.component, text)
            except ConfigError:
                continue  # lost a slot of the prompt

    def _ask(self, asks: Sequence[tuple[_Branch, str]], field: Literal["critique"] | None = None) -> list[str | None]:
        """This field of each answer, or the new text; None where the call failed or the answer has no such field."""
        assert self.reflection is not None  # __post_init__
        questions = [
            # Two edits of one prompt that read the same failures are still two draws.
            Question(text=text, seed=self.seed * 10_000 + one.number, shown=one.parent.lineage | one.shown)
            for one, text in asks
        ]
        answers = zip(asks, ask(self.reflection, _ROLE, questions), strict=True)
        values = [answer.get(field or one.wanted) for (one, _), answer in answers]
        return [value if isinstance(value, str) and value.strip() else None for value in values]


def _score(study: Study, artifact: Artifact, cases: Sequence[Case]) -> float:
    return tune_score(cases, study.evaluate(artifact, cases), study.scorable)[0] or 0.0


def _criticise(study: Study, branch: _Branch) -> str:
    answers = told(study, branch.failures)
    parts = [*_shown(branch), "Answers that an assistant gave with this prompt:", *answers]
    known = branch.problems.text(branch.number)
    if known:
        parts.append(f"Known problems of this assistant:\n{known}")
    return "\n\n".join([*parts, AS_DATA, _CRITICISE.format(what=branch.what)])


def _edit(branch: _Branch, critique: str) -> str:
    said = f"What somebody who read its failures says:\n<critique>\n{inert(critique)}\n</critique>"
    guidance = GUIDANCE if branch.tool is None else TOOL_GUIDANCE
    asked = [branch.manner.format(what=branch.what), f"{guidance} {AS_DATA}", _WRITE.format(field=branch.wanted)]
    return "\n\n".join([*_shown(branch), said, *asked])


def _shown(branch: _Branch) -> list[str]:
    artifact = branch.parent.artifact
    return [shown_prompt(artifact), *([] if branch.tool is None else [shown_tool(artifact, branch.tool)])]


def _component(
    study: Study, artifact: Artifact, failures: Sequence[Answered], turn: int
) -> tuple[str, Sequence[Answered]]:
    """What to write at this turn, and the failures that are about it."""
    said = [about(study, [case], output_of(one.completion) or "", called(one)) for case, one in failures]
    component = chosen(artifact, said, turn)
    tool = tool_of(component)
    own = [one for one, text in zip(failures, said, strict=True) if tool is None or names(text, tool)]
    return component, own or failures
