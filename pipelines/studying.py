"""A lesson as the study that optimizers are given: its cases, what was said of them, and what ran before."""

from dataclasses import replace

from tracemill.mining import notes
from tracemill.mining import sites as mined_sites
from tracemill.optimize import artifact as artifacts
from tracemill.pipelines import replaying
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night
from tracemill.records import Artifact, Case
from tracemill.study import Evaluate, Study, Variant


def compared_on(night: Night, lesson: Lesson) -> tuple[Case, ...]:
    """The tuning cases that all of a night's candidates are compared on."""
    # By the groups' keyed names: a draw that neither time nor content decides.
    drawn = sorted(lesson.tune, key=lambda case: case.task_group)
    # What nobody can judge of a replay compares nothing.
    drawn = [case for case in drawn if case.case_id in lesson.judgeable] or drawn
    return replaying.spread(drawn, night.config.optimize.max_tune_cases)


def study(night: Night, lesson: Lesson, start: Artifact, evaluate: Evaluate) -> Study:
    """What the prompt branch may know tonight of the lesson's site, read at the lesson's snapshot.

    `start`: production's artifact on the model that replays (replaying.on_endpoint).
    """
    with night.learner(lesson.snapshot) as con:
        said = notes.notes(con, lesson.train)
        hints = notes.hints(con, lesson.site)
        ran = notes.versions(con, lesson.site)
        variants = []
        for version, mean in ran.items():
            if version == lesson.site.site_version:
                continue
            for site in mined_sites.load(con, lesson.site.site_id, version=version):
                prompt = artifacts.baseline(replace(site, params=lesson.site.params)).prompt
                # What is compared is the prompt: model and sampling are those of tonight.
                keep = {key: start.prompt.get(key) for key in ("model", "adapter", "params")}
                variants.append(
                    Variant(
                        site_version=version,
                        artifact=replace(start, prompt={**prompt, **keep}),
                        n=mean.n,
                        mean=mean.estimate,
                        low=mean.low,
                        high=mean.high,
                    )
                )
    return Study(
        site=lesson.site,
        baseline=start,
        train=lesson.train,
        tune=compared_on(night, lesson),
        replay=evaluate,
        notes=said,
        hints=hints,
        variants=tuple(variants),
        judgeable=lesson.judgeable,
    )
