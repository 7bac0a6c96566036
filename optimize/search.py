"""What every optimizer shares: which cases may teach, what makes a demonstration, how candidates are compared."""

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracemill.errors import ConfigError
from tracemill.ids import PSEUDONYM, canonical_json, content_id
from tracemill.optimize.artifact import demo_from_case
from tracemill.optimize.lint import lint
from tracemill.optimize.provenance import supports
from tracemill.protocols import ChatModel
from tracemill.records import Artifact, Candidate, Case, Outcome
from tracemill.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptModel:
    """A capable model that writes instructions: where it answers, its name there, and how it samples."""

    chat: ChatModel
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A case as something to show, with the output it teaches."""

    case: Case
    demo: Mapping[str, Any]
    output: str


def apart(train: Sequence[Case], tune: Sequence[Case]) -> list[Case]:
    """The training cases of task groups that `tune` does not hold: nothing is tuned on what it was taught."""
    tuned = {case.task_group for case in tune}
    return [case for case in train if case.task_group not in tuned]


def teaching(study: Study) -> list[Case]:
    """The training cases apart from what is tuned on: those whose right output is known or whose answers somebody can
    judge, all where that is so of none."""
    new = apart(study.train, study.tune)
    # Where a verifier or an environment judges, the right output is known of what went well only.
    return [case for case in new if case.expected is not None or case.case_id in study.judgeable] or new


def objections(study: Study, artifact: Artifact, cases: Sequence[Case]) -> set[str]:
    """What lint objects to. Callers take off what it has against production's own prompt."""
    return set(lint(artifact, baseline=study.baseline, cases=cases))


def demonstrations(study: Study, *, per_group: int = 1, max_chars: int = 4000) -> list[Demonstration]:
    """Demonstrations of right outputs in the training cases, corrected ones first, at most `per_group` of a task group.

    Left out: groups that tuning cases hold (they would be judged on themselves), demonstrations with a pseudonym in
    them (nothing unbound may be published), blank outputs, over-long ones. Where several outputs are claimed to be
    right for one text, the one with most claims teaches, a correction counting more than all rewarded repeats: one
    poisoned row does not speak for the rest.
    """
    claims: dict[str, dict[str, list[Demonstration]]] = defaultdict(lambda: defaultdict(list))
    for case in sorted(apart(study.train, study.tune), key=lambda case: case.case_id):
        if case.expected is None or not case.expected.strip():
            continue
        try:
            demo = demo_from_case(study.baseline, case)
        except ConfigError:
            continue  # this case's values do not fill the turn: nothing to show
        shown = canonical_json(demo["messages"])
        if PSEUDONYM.search(shown) or PSEUDONYM.search(demo["text"]) or len(shown) > max_chars:
            continue
        claims[demo["text"]][case.expected].append(Demonstration(case=case, demo=demo, output=case.expected))
    best = [max(outputs.values(), key=_standing)[0] for outputs in claims.values()]
    best.sort(key=lambda one: (one.case.correction is None, one.case.case_id))
    kept: list[Demonstration] = []
    taken: dict[str, int] = defaultdict(int)
    for one in best:
        if taken[one.case.task_group] < per_group:
            taken[one.case.task_group] += 1
            kept.append(one)
    return kept


def _standing(claims: Sequence[Demonstration]) -> tuple[int, int, str]:
    return sum(one.case.correction is not None for one in claims), len(claims), claims[0].output


def balanced(pool: Sequence[Demonstration], k: int, rng: random.Random) -> list[Demonstration]:
    """A random draw of k in random order, as even over the distinct outputs as k allows."""
    by_output: dict[str, list[Demonstration]] = defaultdict(list)
    for one in pool:
        by_output[one.output].append(one)
    piles = [rng.sample(pile, len(pile)) for _, pile in sorted(by_output.items())]
    rng.shuffle(piles)
    drawn: list[Demonstration] = []
    while len(drawn) < k and any(piles):
        drawn += [pile.pop() for pile in piles if pile][: k - len(drawn)]
    rng.shuffle(drawn)
    return drawn


def tune_score(
    cases: Sequence[Case], outcomes: Sequence[Outcome], scorable: Collection[str] = frozenset()
) -> tuple[float | None, int]:
    """Weighted mean reward over the cases that could be scored, and how many these are. None where none could.

    An answer to one of the `scorable` cases that nobody can score counts as 0, or a prompt would look better by giving
    its judges nothing to judge where it fails. A call that failed counts neither way.
    """
    weights = {case.case_id: case.weight for case in cases}
    rewards = [
        (one.case_id, 0.0 if one.reward is None else one.reward)
        for one in outcomes
        if one.reward is not None or (one.case_id in scorable and one.completion.error is None)
    ]
    scored = [(weights[case], reward) for case, reward in rewards]
    total = sum(weight for weight, _ in scored)
    if not total:
        return None, 0
    return sum(weight * reward for weight, reward in scored) / total, len(scored)


def scored(outcomes: Iterable[Outcome]) -> frozenset[str]:
    """Ids of the cases whose answers somebody could score: production's are the `scorable` ones of all others."""
    return frozenset(one.case_id for one in outcomes if one.reward is not None)


def tuned(study: Study, artifact: Artifact) -> tuple[float | None, int]:
    """The tuning score of an artifact on all tuning cases."""
    return tune_score(study.tune, study.evaluate(artifact, study.tune), study.scorable)


def candidate(
    study: Study,
    optimizer: str,
    artifact: Artifact,
    score: tuple[float | None, int],
    lineage: Iterable[str] = (),
    by_line: Mapping[str, Iterable[str]] | None = None,
) -> Candidate:
    """A proposal of the prompt branch, child of the production artifact.

    `lineage`: the episodes that it was made from; none where it was not made from logs. `by_line`: those that single
    lines were written from. Episodes that stand behind what it shows, having claimed the same, are of its lineage, too.
    """
    made_from = sorted(set(lineage))
    behind = supports(study, artifact, made_from, by_line or {}) if made_from else ()
    return Candidate(
        branch="prompt",
        site_id=study.site.site_id,
        site_version=study.site.site_version,
        optimizer=optimizer,
        artifact=artifact,
        parent_id=production(study).candidate_id,
        lineage=tuple(sorted({*made_from, *(name for one in behind for name in one.trajectories)})),
        tune_score=score[0],
        tune_n=score[1],
        support=behind,
    )


def production(study: Study, score: tuple[float | None, int] = (None, 0)) -> Candidate:
    """The production artifact as the candidate to beat."""
    return Candidate(
        branch="production",
        site_id=study.site.site_id,
        site_version=study.site.site_version,
        optimizer="production",
        artifact=study.baseline,
        tune_score=score[0],
        tune_n=score[1],
    )


def shuffled(cases: Sequence[Case], seed: int) -> list[Case]:
    """The cases in an order that depends on the seed and their ids only."""
    return sorted(cases, key=lambda case: content_id(seed, case.case_id))
