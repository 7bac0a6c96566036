"""Several sites of one system improved together: a site at a time with the others held, then what was found, combined.

Coordinate ascent with any optimizer: while a site is searched, what it is tried in is the whole system with the best
known prompts at the other sites. A pair that pays only as a pair is not found so. Therefore the best of every site,
whether or not they gained anything alone, are raced against each other in all combinations.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil

from tracemill.errors import BudgetError
from tracemill.optimize import portfolio
from tracemill.optimize.replay import Ledger
from tracemill.optimize.search import scored, shuffled, tune_score
from tracemill.protocols import Optimizer
from tracemill.records import Artifact, Candidate, Case
from tracemill.study import Evaluate, Study, refuse_gate_cases

Parts = Mapping[str, Candidate]
"""By site_id, what each site of a system runs."""
_SCREEN = 8
"""Cases that combinations are first tried on."""
_MOST = 64
"""Combinations that are raced."""


@dataclass(frozen=True, kw_only=True)
class System:
    """Several sites that work on the same episodes."""

    production: Candidate
    """The candidate to beat: the prompt of the site whose answer is judged, with those of the others."""
    studies: Mapping[str, Callable[[Mapping[str, Artifact]], Study]]
    """By site_id in the order in which they are searched: the study of a site, by what the sites run beside it."""
    tune: tuple[Case, ...]
    """Cases that ended the episodes on which prompts are compared."""
    replay: Evaluate = field(repr=False)
    """Of artifacts with the prompts of all sites, on such cases."""

    def __post_init__(self) -> None:
        refuse_gate_cases(self.tune)


@dataclass(slots=True, kw_only=True)
class Found:
    """What a search came to."""

    candidates: list[Candidate]
    """Production with its tuning score, then every combination that was tried on all tuning cases."""
    rounds: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    """Used for each site, and for combinations under `together`."""
    ended: str = "nothing new was better"


def run(
    system: System,
    optimizers: Sequence[Optimizer],
    *,
    ledger: Ledger,
    on_candidate: Callable[[Candidate], None],
    on_error: Callable[[str, Exception], None] | None = None,
    backing: portfolio.Backing = portfolio.Backing(),
    rounds: int = 2,
    keep: int = 4,
    seed: int = 0,
) -> Found:
    """Searches all sites in turn, then races combinations of the `keep` best of each; again from the best one, as long
    as that got better, at most `rounds` times.

    All of it draws on one account: every search, and every race, has an equal share of what is left. Raises what
    evaluating production raises: without it nothing can be compared.
    """
    search = _Search(system, ledger, on_candidate, seed)
    own = system.replay(system.production.artifact, system.tune)
    search.begin(tune_score(system.tune, own), scored(own))
    found, legs = search.found, rounds * (len(system.studies) + 1)
    try:
        for number in range(rounds):
            before, found.rounds = search.best, number + 1
            for site_id in system.studies:
                with search.spending(site_id, 1 / legs):
                    search.site(site_id, optimizers, on_error, backing)
                legs -= 1
            with search.spending("together", 1 / legs):
                search.race(keep)
            legs -= 1
            if search.best is before:
                break
        else:
            found.ended = "all rounds were made"
    except BudgetError as error:
        found.ended = str(error)
    return found


def joined(production: Candidate, parts: Parts, score: tuple[float | None, int] = (None, 0)) -> Candidate:
    """The prompts of all sites as one candidate, to be judged and deployed as one.

    Of sites that are not among the parts, production's. What stands behind a part says whose prompt it is behind.
    """
    running = production.artifact.apart
    artifacts = {site_id: parts[site_id].artifact if site_id in parts else running[site_id] for site_id in running}
    others = {site_id: one.prompt for site_id, one in artifacts.items() if site_id != production.site_id}
    artifact = replace(artifacts[production.site_id], others=others)
    if artifact == production.artifact:
        return replace(production, tune_score=score[0], tune_n=score[1])
    new = {site_id: one for site_id, one in parts.items() if one.artifact != running[site_id]}
    return Candidate(
        branch="prompt",
        site_id=production.site_id,
        site_version=production.site_version,
        optimizer="+".join(dict.fromkeys(new[site_id].optimizer for site_id in running if site_id in new)),
        artifact=artifact,
        parent_id=production.candidate_id,
        lineage=tuple(sorted({name for one in new.values() for name in one.lineage})),
        tune_score=score[0],
        tune_n=score[1],
        support=tuple(
            replace(line, site_id=site_id) for site_id in running if site_id in new for line in new[site_id].support
        ),
    )


class _Search:
    """What is known so far: of each site the prompts that were found, of the system the combinations tried."""

    def __init__(self, system: System, ledger: Ledger, heard: Callable[[Candidate], None], seed: int) -> None:
        self.system, self.ledger, self.heard = system, ledger, heard
        self.found = Found(candidates=[])
        self.best: dict[str, Candidate] = {}
        self._cases = shuffled(system.tune, seed)
        self._pools: dict[str, list[tuple[float, Candidate]]] = {}
        self._scores: dict[str, float] = {}
        self._scorable: frozenset[str] = frozenset()
        self._bar = 0.0

    def begin(self, score: tuple[float | None, int], scorable: frozenset[str]) -> None:
        first = self.system.production
        self._scorable, self._bar = scorable, score[0] or 0.0
        self.found.candidates.append(joined(first, {}, score))
        self.heard(self.found.candidates[0])
        for site_id, artifact in first.artifact.apart.items():
            self.best[site_id] = replace(first, site_id=site_id, artifact=artifact)
            self._pools[site_id] = [(self._bar, self.best[site_id])]
        self._scores[first.candidate_id] = self._bar

    @contextmanager
    def spending(self, name: str, share: float) -> Iterator[None]:
        """A share of what is left in the account. Where it is used up, it goes on with the next, unless all is."""
        before = self.ledger.spent.calls
        try:
            with self.ledger.lent(share):
                yield
        except BudgetError:
            if self.ledger.used_up:
                raise
        finally:
            self.found.calls[name] = self.found.calls.get(name, 0) + self.ledger.spent.calls - before

    def site(
        self,
        site_id: str,
        optimizers: Sequence[Optimizer],
        on_error: Callable[[str, Exception], None] | None,
        backing: portfolio.Backing,
    ) -> None:
        """Searches a site with the best known prompts at the others."""
        held = dict(self.best)

        def heard(candidate: Candidate) -> None:
            if candidate.branch != "production" and candidate.tune_score is not None:
                score = self._try({**held, site_id: candidate})
                if all(candidate.artifact != one.artifact for _, one in self._pools[site_id]):
                    self._pools[site_id].append((score, candidate))

        study = self.system.studies[site_id]({name: one.artifact for name, one in held.items()})
        portfolio.run(study, optimizers, on_candidate=heard, on_error=on_error, ledger=self.ledger, backing=backing)

    def race(self, keep: int) -> None:
        """Tries the best of each site with the best of the others: on few cases, the better half on twice as many."""
        while keep > 1 and keep ** len(self._pools) > _MOST:
            keep -= 1
        drawn = []
        for site_id, pool in self._pools.items():
            first, *rest = sorted(pool, key=lambda one: -one[0])[:keep]
            kept = [one for _, one in (first, *rest)]
            # What stands at the site today may do with another prompt elsewhere what it does not do alone.
            drawn.append([*kept, *(one for one in (self.best[site_id], pool[0][1]) if one not in kept)])
        combined = [dict(zip(self._pools, one, strict=True)) for one in product(*drawn)]
        racing = [parts for parts in combined if joined(self.system.production, parts).candidate_id not in self._scores]
        size = min(_SCREEN, len(self._cases))
        while racing and size < len(self._cases):
            some = self._cases[:size]
            ranked = sorted(racing, key=lambda parts: -self._score(parts, some)[0])
            racing, size = ranked[: ceil(len(ranked) / 2)], min(2 * size, len(self._cases))
        for parts in racing:
            self._try(parts)

    def _score(self, parts: Parts, cases: Sequence[Case]) -> tuple[float, int]:
        artifact = joined(self.system.production, parts).artifact
        score, n = tune_score(cases, self.system.replay(artifact, cases), self._scorable)
        return score or 0.0, n

    def _try(self, parts: Mapping[str, Candidate]) -> float:
        """The score of a combination on all tuning cases; the best one so far is kept."""
        name = joined(self.system.production, parts).candidate_id
        if name not in self._scores:
            self._scores[name], n = self._score(parts, self.system.tune)
            candidate = joined(self.system.production, parts, (self._scores[name], n))
            self.found.candidates.append(candidate)
            self.heard(candidate)
        if self._scores[name] > self._bar:
            self._bar, self.best = self._scores[name], dict(parts)
        return self._scores[name]
