"""GEPA (arXiv 2507.19457) over the site's instructions, and where chosen what describes its tools: a capable model
reads failures and rewrites one of these texts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tracemill.errors import ConfigError
from tracemill.optimize.evidence import GUIDANCE, Problems, known_problems
from tracemill.optimize.guided import Bench
from tracemill.optimize.search import PromptModel, apart, teaching
from tracemill.records import Artifact, Candidate
from tracemill.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Gepa:
    """Every instruction that wins its minibatch is evaluated on all tuning cases and is a candidate.

    The model that writes is shown failures with what they earned, the right answers, what people, users, tools and
    judges said of the logged answers, and the site's findings: quoted as data.
    """

    reflection: PromptModel | None = None
    metric_calls: int = 400
    """Answers judged in the whole search, cached ones included."""
    minibatch: int = 3
    tool_descriptions: bool = False
    """Whether every second rewrite is one of a tool's description, where the prompt has tools."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reflection is None:
            raise ConfigError("gepa needs a capable model that writes instructions: configure a reflection model")

    @property
    def name(self) -> str:
        return "gepa"

    def search(self, study: Study) -> Iterator[Candidate]:
        cases = teaching(study)
        if not cases or not study.tune:
            return
        bench = Bench(study, self.name, cases)
        problems = known_problems(study, apart(study.train, study.tune))
        yield from bench.dialogue.run(lambda: self._compile(study.baseline, bench, problems))

    def _compile(self, baseline: Artifact, bench: Bench, problems: Problems) -> None:
        import dspy

        from tracemill.optimize.replayed import InTurn, QuotingProposer, examples, metric_of, replayed_program, writer

        assert self.reflection is not None  # __post_init__
        program = replayed_program(baseline, bench, tools_open=self.tool_descriptions)
        score = metric_of(program, bench)

        def metric(gold: Any, pred: Any, trace: Any = None, name: Any = None, pred_trace: Any = None) -> Any:
            said = bench.feedback(program.fields.values(dict(gold)), str(pred[program.fields.output]))
            return dspy.Prediction(score=score(gold, pred), feedback=said)

        gepa = dspy.GEPA(
            metric=metric,
            max_metric_calls=self.metric_calls,
            reflection_minibatch_size=self.minibatch,
            reflection_lm=writer(self.reflection, bench),
            instruction_proposer=QuotingProposer(GUIDANCE, problems, bench, program),
            component_selector=InTurn(program, bench),
            # Each prompt grows from its parent's instructions and descriptions: there is nothing to merge.
            use_merge=False,
            num_threads=1,
            seed=self.seed,
            gepa_kwargs={"stop_callbacks": lambda state: bench.dialogue.stopped},
        )
        gepa.compile(program, trainset=examples(program, bench.train), valset=examples(program, bench.tune))
