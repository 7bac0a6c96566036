"""Playbook: advice that grows line by line under production's own prompt, each line with the episodes that taught it.

In the manner of ACE (arXiv 2510.04618). A model that reads failures never rewrites anything: it proposes single lines
and says which lines helped or hurt, and code keeps the list, so that no rewrite can lose what was learned before.
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tracemill.errors import ConfigError
from tracemill.optimize.artifact import instructions, with_instructions
from tracemill.optimize.evidence import AS_DATA, GUIDANCE, Problems, known_problems
from tracemill.optimize.reflection import (
    Answered,
    Question,
    ask,
    batch_of,
    shown_prompt,
    sorted_out,
    told,
)
from tracemill.optimize.search import PromptModel, apart, candidate, objections, shuffled, teaching, tuned
from tracemill.records import Artifact, Candidate, Case
from tracemill.study import Study

HEADING = "What experience with such requests has taught:"
MOST_CHARS = 400
"""Of one line: what is longer is no line of advice."""
ALIKE = 0.8
"""Share of common words from which on two lines say the same."""

_NEW = 3
_RIGHT = 2
_ROLE = "You keep the playbook of an assistant: single lines of advice that were learned from what went wrong."
_READ = (
    f"Propose at most {_NEW} new lines of advice that would have made these answers right, the one that explains most "
    "first: each one sentence that stands for itself, about a kind of question and never about a single example, and "
    "none that says what a numbered line says already. Then judge the numbered lines: which of them helped a right "
    "answer here, and which misled one. Leave a list empty where there is nothing to say."
)
_WRITE = 'Answer with one JSON object: {"new_lines": ["…"], "helped": [1], "hurt": [2]}'

_WORD = re.compile(r"\w+")
_MARKER = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.)\]]|\[\d{1,2}\])\s+")
_SMALL = re.compile(
    r"an?|and|any|are|as|at|be|by|do|for|from|has|have|if|in|is|its?|of|on|or|such|that|the|then|there|these|this|to"
    r"|what|when|where|which|who|will|with|your?"
)
_NEGATIONS = re.compile(r"cannot|don|except|neither|never|nor?|none|not|only|unless|without")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the playbook, and what became of it."""

    text: str
    sources: frozenset[str]
    """The episodes that were shown to whoever wrote it."""
    helped: int = 0
    hurt: int = 0

    @property
    def retired(self) -> bool:
        return self.hurt > self.helped


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What one reading proposes. `helped` and `hurt` are places in the playbook that it read."""

    new: tuple[str, ...]
    helped: frozenset[int]
    hurt: frozenset[int]
    sources: frozenset[str]


def curated(known: Sequence[Line], shown: Sequence[Line], deltas: Iterable[Delta]) -> list[Line]:
    """The known lines with the deltas merged in, retired ones included: texts and their order never change.

    A proposal that says what a known line says is no new line: it speaks for that line, and its episodes stand behind
    it, too. So a retired line comes back when it is proposed as often as it hurt.
    """
    lines = list(known)
    for delta in deltas:
        for verdict in ("helped", "hurt"):
            for place in sorted(getattr(delta, verdict)):
                at = next((n for n, one in enumerate(lines) if one.text == shown[place].text), None)
                if at is not None:
                    lines[at] = _counted(lines[at], verdict)
        spoken: set[int] = set()
        for text in delta.new:
            at = next((n for n, one in enumerate(lines) if alike(one.text, text)), None)
            if at is None:
                spoken.add(len(lines))
                lines.append(Line(text=text, sources=delta.sources))
            elif at not in spoken:
                spoken.add(at)
                lines[at] = replace(_counted(lines[at], "helped"), sources=lines[at].sources | delta.sources)
    return lines


def active(lines: Sequence[Line], most: int) -> list[Line]:
    """The lines that are shown, in the order they were learned: those not retired, at most so many, the best ones."""
    standing = [(place, one) for place, one in enumerate(lines) if not one.retired]
    best = sorted(standing, key=lambda found: (found[1].hurt - found[1].helped, found[0]))[:most]
    return [one for _, one in sorted(best, key=lambda found: found[0])]


def alike(one: str, other: str) -> bool:
    """Whether two lines say the same by their words. Never where they differ in a number or in a negation."""
    first, second = _words(one), _words(other)
    if _decisive(first) != _decisive(second):
        return False
    union = first | second
    return not union or len(first & second) >= ALIKE * len(union)


def with_lines(artifact: Artifact, lines: Sequence[Line]) -> Artifact:
    """The artifact with these lines below its system text, which stays as it is. Without any: the artifact itself."""
    if not lines:
        return artifact
    before = instructions(artifact) or ""
    ends = len(before) - len(before.rstrip("\n"))
    gap = "\n" * max(0, 2 - ends) if before else ""
    return with_instructions(artifact, "\n".join([f"{before}{gap}{HEADING}", *(_written(one.text) for one in lines)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Playbook:
    """Rounds of: answer, read failures, merge what was learned, tune. Where the tuning score rose, what a round added
    counts as having helped, and what it took out as having hurt; where it fell the other way round."""

    reflection: PromptModel | None = None
    bullets: int = 24
    """Most lines that are shown."""
    rounds: int = 8
    reads: int = 2
    """Readings of a round, each of other failures."""
    examples: int = 4
    """Failures that one reading is shown."""
    batch: int = 16
    """Training cases that the playbook answers in a round; the next round takes others."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reflection is None:
            raise ConfigError("playbook needs a capable model that writes instructions: configure a reflection model")
        if min(self.bullets, self.rounds, self.reads, self.examples, self.batch) < 1:
            raise ConfigError(
                f"playbook: bullets {self.bullets}, rounds {self.rounds}, reads {self.reads}, examples "
                f"{self.examples} and batch {self.batch} must be ≥ 1"
            )

    @property
    def name(self) -> str:
        return "playbook"

    def search(self, study: Study) -> Iterator[Candidate]:
        cases = shuffled(teaching(study), self.seed)
        if not cases or not study.tune:
            return
        problems = known_problems(study, apart(study.train, study.tune))
        own = objections(study, study.baseline, cases)
        scores = {study.baseline.to_json(): tuned(study, study.baseline)}
        lines: list[Line] = []
        seen: frozenset[str] = frozenset()
        for number in range(self.rounds):
            shown = active(lines, self.bullets)
            artifact = with_lines(study.baseline, shown)
            deltas = self._read(study, artifact, shown, problems, seen, batch_of(cases, self.batch, number), number)
            seen = seen.union(*(one.sources for one in deltas))
            fit = [replace(one, new=tuple(self._fit(study, one.new, cases, own))) for one in deltas]
            lines = curated(lines, shown, fit)
            while True:
                after = active(lines, self.bullets)
                tried = with_lines(study.baseline, after)
                added = {one.text for one in after} - {one.text for one in shown}
                gone = {one.text for one in shown} - {one.text for one in after}
                if objections(study, tried, cases) - own:
                    if not added:
                        return
                    lines = [one for one in lines if one.text not in added]  # too long with them
                    continue
                key = tried.to_json()
                if key not in scores:
                    scores[key] = tuned(study, tried)
                    by_line = {_written(one.text): one.sources for one in after}
                    yield candidate(study, self.name, tried, scores[key], seen, by_line)
                change = _value(scores[key]) - _value(scores[artifact.to_json()])
                if change:
                    lines = _credited(lines, *((added, gone) if change > 0 else (gone, added)))
                if change >= 0:
                    break  # else again, without what did harm

    def _read(
        self,
        study: Study,
        artifact: Artifact,
        shown: Sequence[Line],
        problems: Problems,
        seen: frozenset[str],
        batch: Sequence[Case],
        number: int,
    ) -> list[Delta]:
        """What readers of this round's failures propose; nothing where none failed."""
        assert self.reflection is not None  # __post_init__
        failed, right = sorted_out(study, artifact, batch)
        rng = random.Random(f"{self.seed}/{number}")
        rng.shuffle(failed)
        # Two to a reading at least, where there are two: a line that one episode taught rests on one user.
        n = max(1, min(self.reads, len(failed) // 2))
        groups = [failed[place::n][: self.examples] for place in range(n if failed else 0)]
        questions = []
        for place, group in enumerate(groups):
            turn = number * self.reads + place
            # Only what went well can tell which lines helped.
            well = rng.sample(right, min(_RIGHT, len(right))) if shown else []
            rests = frozenset(case.trajectory_id for case, _ in (*group, *well)) | problems.shown(turn)
            text = _question(study, artifact, shown, [*group, *well], problems.text(turn))
            questions.append((rests, Question(text=text, seed=self.seed * 10_000 + turn, shown=seen | rests)))
        answers = ask(self.reflection, _ROLE, [one for _, one in questions])
        return [_delta(answer, rests, len(shown)) for answer, (rests, _) in zip(answers, questions, strict=True)]

    @staticmethod
    def _fit(study: Study, texts: Sequence[str], cases: Sequence[Case], own: set[str]) -> Iterator[str]:
        """The texts that lint has nothing against: one that it objects to costs no other."""
        for text in texts:
            alone = with_lines(study.baseline, [Line(text=text, sources=frozenset())])
            if not objections(study, alone, cases) - own:
                yield text


def _question(study: Study, artifact: Artifact, shown: Sequence[Line], answered: Sequence[Answered], known: str) -> str:
    parts = [shown_prompt(artifact)]
    if shown:
        numbered = "\n".join(f"[{number}] {one.text}" for number, one in enumerate(shown, start=1))
        parts.append(f"Its playbook, numbered:\n<playbook>\n{numbered}\n</playbook>")
    parts += ["Answers that the assistant gave with this prompt:", *told(study, answered)]
    if known:
        parts.append(f"Known problems of this assistant:\n{known}")
    return "\n\n".join([*parts, f"{GUIDANCE} {AS_DATA}", _READ, _WRITE])


def _delta(answer: Mapping[str, Any], sources: frozenset[str], n: int) -> Delta:
    proposed = answer.get("new_lines")
    texts = [proposed] if isinstance(proposed, str) else proposed if isinstance(proposed, list) else []
    lines = [_one_line(text) for text in texts if isinstance(text, str)]
    helped, hurt = _places(answer.get("helped"), n), _places(answer.get("hurt"), n)
    return Delta(
        new=tuple(line for line in lines if _WORD.search(line) and len(line) <= MOST_CHARS)[:_NEW],
        helped=helped - hurt,
        hurt=hurt - helped,
        sources=sources,
    )


def _places(numbers: Any, n: int) -> frozenset[int]:
    if not isinstance(numbers, list):
        return frozenset()
    return frozenset(one - 1 for one in numbers if isinstance(one, int) and 1 <= one <= n and one is not True)


def _one_line(text: str) -> str:
    return " ".join(_MARKER.sub("", text).split())


def _written(text: str) -> str:
    return f"- {text}"


def _counted(line: Line, verdict: str) -> Line:
    if verdict == "helped":
        return replace(line, helped=line.helped + 1)
    return replace(line, hurt=line.hurt + 1)


def _credited(lines: Sequence[Line], helped: set[str], hurt: set[str]) -> list[Line]:
    gained = [_counted(one, "helped") if one.text in helped else one for one in lines]
    return [_counted(one, "hurt") if one.text in hurt else one for one in gained]


def _value(score: tuple[float | None, int]) -> float:
    return -1.0 if score[0] is None else score[0]


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in _WORD.findall(text.casefold()) if not _SMALL.fullmatch(word))


def _decisive(words: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if _NEGATIONS.fullmatch(word) or any(sign.isdigit() for sign in word))
