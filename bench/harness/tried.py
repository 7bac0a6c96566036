"""COPRO and SIMBA of DSPy through tracemill's bench, to be measured beside the optimizers that tracemill offers.

Not offered: `bench/RESULTS.md` says by which figures. Needs dspy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from tracemill.optimize.guided import Bench
from tracemill.optimize.search import PromptModel, apart
from tracemill.records import Artifact, Candidate, ChatRequest, Completion
from tracemill.study import Study


class _Draws:
    """A model asked with temperature: each call is a draw of its own, numbered for the cache."""

    def __init__(self, prompt_model: PromptModel) -> None:
        self._inner = prompt_model.chat
        self._number = count()

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        return self._inner.complete([replace(one, seed=next(self._number)) for one in requests])


def build(name: str, *, seed: int, reflection: PromptModel, calls: int) -> "Copro | Simba":
    """With knobs that use about so many calls."""
    if name == "copro":
        return Copro(reflection=reflection, restarts=calls // 40, seed=seed)
    return Simba(reflection=reflection, steps=max(1, calls // 200), seed=seed)


def _draws(prompt_model: PromptModel) -> PromptModel:
    return replace(prompt_model, chat=_Draws(prompt_model))


@dataclass(frozen=True, slots=True, kw_only=True)
class Copro:
    """Proposals from the prompts tried so far and their scores; each is evaluated on all tuning cases.

    In DSPy 3.4.1 it ends with a RecursionError after some 60 proposals: after 6 × 6 it begins again with other draws.
    """

    reflection: PromptModel
    breadth: int = 6
    depth: int = 6
    restarts: int = 1
    seed: int = 0
    name: str = "copro"

    def search(self, study: Study) -> Iterator[Candidate]:
        bench = Bench(study, self.name, apart(study.train, study.tune))
        yield from bench.dialogue.run(lambda: self._compile(study.baseline, bench))

    def _compile(self, baseline: Artifact, bench: Bench) -> None:
        import dspy

        from tracemill.optimize.replayed import examples, metric_of, replayed_program, writer

        program = replayed_program(baseline, bench)
        copro = dspy.COPRO(
            metric=metric_of(program, bench),
            prompt_model=writer(_draws(self.reflection), bench),
            breadth=self.breadth,
            depth=self.depth,
        )
        tune = examples(program, bench.tune)
        for _ in range(self.restarts):
            copro.compile(program, trainset=tune, eval_kwargs={"num_threads": 1, "display_progress": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Simba:
    """Rules and demonstrations from contrasts within mini-batches; the winners are evaluated on all tuning cases."""

    reflection: PromptModel
    batch: int = 16
    candidates: int = 4
    steps: int = 8
    max_demos: int = 4
    seed: int = 0
    name: str = "simba"

    def search(self, study: Study) -> Iterator[Candidate]:
        new = apart(study.train, study.tune)
        bench = Bench(study, self.name, [case for case in new if case.expected is not None])
        yield from bench.dialogue.run(lambda: self._compile(study.baseline, bench))

    def _compile(self, baseline: Artifact, bench: Bench) -> None:
        import dspy

        from tracemill.optimize.replayed import examples, metric_of, replayed_program, writer

        program = replayed_program(baseline, bench)
        program.set_lm(program.lm)  # SIMBA copies the predictors' own
        simba = dspy.SIMBA(
            metric=metric_of(program, bench),
            bsize=self.batch,
            num_candidates=self.candidates,
            max_steps=self.steps,
            max_demos=self.max_demos,
            prompt_model=writer(_draws(self.reflection), bench),
            num_threads=1,
        )
        best = simba.compile(program, trainset=examples(program, bench.train), seed=self.seed)
        first = examples(program, bench.tune)[0]
        for one in best.candidate_programs:  # best on the training cases first
            one["program"](**first.inputs())  # one tuning case is answered with all of them
