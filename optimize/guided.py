"""What GEPA and MIPROv2 share: DSPy runs in a thread of its own, and asks the caller's thread for every answer.

DSPy's optimizers own their loop, swallow what a program raises, and report at the end. Here every evaluation and every
call of the prompt model comes back to the thread that iterates over the search: a used-up budget or a dead endpoint
ends the search with that very error, candidates are handed over as they are found, and evaluation needs no locks.
The two threads take turns, so the stream is the same every time.
"""

import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from tracemill.ids import content_id
from tracemill.optimize.artifact import PRODUCTION_SOURCE, pool_of
from tracemill.optimize.evidence import about, called, feedback
from tracemill.optimize.provenance import Lines
from tracemill.optimize.replay import named, output_of
from tracemill.optimize.search import PromptModel, candidate, objections, tune_score
from tracemill.records import Artifact, Candidate, Case, ChatMessage, ChatRequest, Completion, Outcome
from tracemill.study import Study


class _StoppedError(Exception):
    """Ends the thread of a search that nobody listens to any more."""


class Dialogue:
    """Two threads taking turns: `call` in the search's thread runs a function in the thread that iterates `run`."""

    def __init__(self) -> None:
        self._asks: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self.found: list[Candidate] = []

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def call(self, function: Callable[[], Any]) -> Any:
        if self.stopped:
            raise _StoppedError
        self._asks.put(function)
        answer = self._answers.get()
        if self.stopped:
            raise _StoppedError
        return answer

    def run(self, search: Callable[[], Any]) -> Iterator[Candidate]:
        """Candidates as the search appends them to `found`. Raises what a called function or the search raised."""
        thread = threading.Thread(target=self._search, args=(search,), name="guided-search", daemon=True)
        handed = 0
        try:
            with _muted():
                thread.start()
                asked = self._asks.get()
            while asked is not None:
                answer = asked()
                while handed < len(self.found):
                    handed += 1
                    yield self.found[handed - 1]
                with _muted():
                    self._answers.put(answer)
                    asked = self._asks.get()
        finally:
            with _muted():
                self._stopped.set()
                self._answers.put(None)
                thread.join(timeout=10.0)
        if self._error is not None:
            raise self._error
        yield from self.found[handed:]

    def _search(self, search: Callable[[], Any]) -> None:
        _SEARCHING.set(True)  # gepa's own threads inherit it with the context
        try:
            search()
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that iterates, which raises it
            self._error = error
        finally:
            self._asks.put(None)


_SEARCHING: ContextVar[bool] = ContextVar("searching", default=False)


class _Muted:
    """A stream that searches write to in vain. Others write through it: the other branch shows its own progress."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if _SEARCHING.get() else int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _muted() -> Iterator[None]:
    # DSPy and gepa draw progress bars on standard output, where `--json` writes, while they have their turn.
    dspy_log = logging.getLogger("dspy")
    level = dspy_log.level
    dspy_log.setLevel(logging.CRITICAL)
    out: Any = _Muted(sys.stdout)
    err: Any = _Muted(sys.stderr)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        dspy_log.setLevel(level)


@dataclass(frozen=True, slots=True)
class RelayedModel:
    """A ChatModel whose calls are made in the thread that iterates over the search.

    What it answers is forgotten with any episode that the search learns from: DSPy does not tell which it shows.
    """

    prompt_model: PromptModel
    bench: "Bench"
    told: str = ""
    """Stands below the system text of every request."""

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        about = tuple(sorted(map(named, self.bench.sources)))
        asked = [replace(one, about=about, messages=self._telling(one.messages)) for one in requests]
        answers: list[Completion] = self.bench.dialogue.call(lambda: self.prompt_model.chat.complete(asked))
        return answers

    def _telling(self, messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
        if not self.told:
            return messages
        if messages and messages[0].get("role") == "system":  # not every model takes two of them
            return {**messages[0], "content": f"{messages[0]['content']}\n\n{self.told}"}, *messages[1:]
        return {"role": "system", "content": self.told}, *messages


class Bench:
    """Answers a search's questions by replay, judges them, and turns what was tuned in full into candidates.

    Proposals that lint objects to are refused without a call: they answer with nothing and earn nothing.
    """

    def __init__(self, study: Study, optimizer: str, train: Sequence[Case]) -> None:
        """`train`: those of the study's cases that the search learns from."""
        self.dialogue = Dialogue()
        self.train = _by_values(train)
        self.tune = _by_values(study.tune)
        self._study = study
        self._optimizer = optimizer
        self._train_cases = list(train)
        self._own_objections = objections(study, study.baseline, train)
        self._objections: dict[str, set[str]] = {}
        self._answers: dict[tuple[str, str], str] = {}
        self._rewards: dict[tuple[str, str], float | None] = {}
        self._ways: dict[tuple[str, str], list[str]] = {}
        self._tuned = {content_id(study.baseline.to_json())}
        self._seen: set[str] = set()
        self._lines = Lines(study)

    def objections(self, artifact: Artifact) -> set[str]:
        key = content_id(artifact.to_json())
        if key not in self._objections:
            self._objections[key] = objections(self._study, artifact, self._train_cases) - self._own_objections
        return self._objections[key]

    def answer(self, artifact: Artifact, values: Mapping[str, Any]) -> str:
        """The output of the artifact on the cases with these values; "" where it failed or was refused."""
        self._lines.wrote(artifact)
        if self.objections(artifact):
            return ""
        self._lines.looked_at(case.trajectory_id for case in self.train.get(values_key(values), ()))
        asked, known = values_key(values), content_id(artifact.to_json())
        if (known, asked) not in self._answers:
            in_tune = asked in self.tune
            cases = self._study.tune if in_tune else self.train[asked]
            outcomes = self.dialogue.call(lambda: self._judge(artifact, known, cases, in_tune))
            by_case = {outcome.case_id: outcome for outcome in outcomes}
            for key, group in _by_values(cases).items():
                self._note(known, key, group, [by_case[case.case_id] for case in group])
        return self._answers[known, asked]

    def reward(self, values: Mapping[str, Any], output: str) -> float | None:
        """Weighted mean reward of this output on the cases with these values; None where nobody can say."""
        return self._rewards.get((values_key(values), output))

    def expected(self, values: Mapping[str, Any]) -> str | None:
        known = [case.expected for case in self._cases(values) if case.expected is not None]
        return known[0] if known else None

    def feedback(self, values: Mapping[str, Any], output: str) -> str:
        """How this output did on the cases with these values, and what was said of the logged answer to them."""
        way = self._ways.get((values_key(values), output), ())
        return feedback(self._study, self._cases(values), self.reward(values, output), self.expected(values), way)

    def about(self, values: Mapping[str, Any], output: str) -> str:
        """All that is known of this output on the cases with these values, unquoted."""
        return about(self._study, self._cases(values), output, self._ways.get((values_key(values), output), ()))

    def shown(self, trajectories: Iterable[str]) -> None:
        """Notes that candidates from now on rest on these episodes, too."""
        known = set(trajectories)
        self._seen |= known
        self._lines.looked_at(known)

    @property
    def sources(self) -> frozenset[str]:
        """The episodes that the search may show to a model that writes, and those that it was shown besides."""
        return frozenset(self._seen) | {case.trajectory_id for case in self._train_cases}

    def source(self, values: Mapping[str, Any]) -> str:
        """The trajectory that a demonstration with these values was taken from."""
        return self._cases(values)[0].trajectory_id

    def _cases(self, values: Mapping[str, Any]) -> list[Case]:
        key = values_key(values)
        return self.train.get(key) or self.tune[key]

    def _judge(self, artifact: Artifact, known: str, cases: Sequence[Case], in_tune: bool) -> list[Outcome]:
        outcomes = self._study.evaluate(artifact, cases)
        if not in_tune:
            self._seen.update(case.trajectory_id for case in cases)
        elif known not in self._tuned:
            self._tuned.add(known)
            sources = {demo["source"] for demo in pool_of(artifact)} - {PRODUCTION_SOURCE}
            score = tune_score(cases, outcomes, self._study.scorable)
            made = self._seen | sources
            self.dialogue.found.append(
                candidate(self._study, self._optimizer, artifact, score, made, self._lines.known)
            )
        return outcomes

    def _note(self, known: str, key: str, group: Sequence[Case], outcomes: Sequence[Outcome]) -> None:
        outputs = (output_of(one.completion) for one in outcomes)
        output = next((one for one in outputs if one is not None), "")
        self._answers[known, key] = output
        self._rewards[key, output] = tune_score(group, outcomes)[0]
        self._ways[key, output] = called(outcomes[0])


def values_key(values: Mapping[str, Any]) -> str:
    return content_id(dict(values))


def _by_values(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Cases that a prompt cannot tell apart, together: one question, one answer."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(values_key(case.values), []).append(case)
    return groups
