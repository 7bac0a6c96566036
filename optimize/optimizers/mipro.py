"""MIPROv2 (arXiv 2406.11695) over the site: instructions by a capable model, demonstrations from the logs, chosen
together by a Bayesian search.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tracemill.errors import ConfigError
from tracemill.optimize.evidence import AS_DATA
from tracemill.optimize.guided import Bench
from tracemill.optimize.search import PromptModel, demonstrations
from tracemill.records import Artifact, Candidate
from tracemill.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Mipro:
    """Every distinct prompt that a trial tries is evaluated on all tuning cases and is a candidate.

    Full evaluations only: MIPROv2's minibatch scores crown prompts that were lucky on few cases.
    """

    prompt_model: PromptModel | None = None
    candidates: int = 4
    trials: int = 8
    max_demos: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prompt_model is None:
            raise ConfigError("mipro needs a capable model that writes instructions: configure a prompt model")

    @property
    def name(self) -> str:
        return "mipro"

    def search(self, study: Study) -> Iterator[Candidate]:
        teaching = [one.case for one in demonstrations(study)]
        if not teaching or not study.tune:
            return
        bench = Bench(study, self.name, teaching)
        yield from bench.dialogue.run(lambda: self._compile(study.baseline, bench))

    def _compile(self, baseline: Artifact, bench: Bench) -> None:
        from tracemill.optimize.replayed import QuotingMipro, examples, metric_of, replayed_program, writer

        assert self.prompt_model is not None  # __post_init__
        program = replayed_program(baseline, bench)
        mipro = QuotingMipro(
            metric=metric_of(program, bench),
            prompt_model=writer(self.prompt_model, bench, told=AS_DATA),
            task_model=program.lm,
            auto=None,
            num_candidates=self.candidates,
            max_bootstrapped_demos=self.max_demos,
            max_labeled_demos=self.max_demos,
            num_threads=1,
            max_errors=1,
            seed=self.seed + 1,  # MIPROv2 takes 0 for “the default”
            track_stats=False,
        )
        mipro.compile(
            program,
            trainset=examples(program, bench.train),
            valset=examples(program, bench.tune),
            num_trials=self.trials,
            minibatch=False,
            # Reads the program's source code through the module's file; a site has none.
            program_aware_proposer=False,
        )
