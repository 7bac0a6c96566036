"""What the lake knows of a site beside its cases: what was said of single answers, what goes wrong, what ran before."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import duckdb

from tracemill.mining.lake import table
from tracemill.records import Case, Site
from tracemill.stats import Interval, clustered_mean
from tracemill.study import Hint, Note

_CHARS = 1_000
_WORTH = 0.5


def notes(con: duckdb.DuckDBPyConnection, cases: Sequence[Case]) -> dict[str, tuple[Note, ...]]:
    """By case_id, what people, judges and tools said of logged answers that were not good, and what users said next.

    Of a note on a whole episode each of its cases hears. Text is as logged, at most 1,000 characters.
    """
    poor = [case for case in cases if case.reward is None or (case.sure_reward or 0.0) < _WORTH]
    if not poor:
        return {}
    wanted = sorted({case.trajectory_id for case in poor})
    of_step: dict[tuple[str, int | None], list[Note]] = defaultdict(list)
    for row in table(con, "notes", {"trajectories": wanted}).to_pylist():
        of_step[row["trajectory_id"], row["step"]].append(Note(voice=row["voice"], text=row["text"][:_CHARS]))
    found = {}
    for case in poor:
        said = (*of_step[case.trajectory_id, case.step], *of_step[case.trajectory_id, None])
        if said:
            found[case.case_id] = tuple(dict.fromkeys(said))
    return found


def hints(con: duckdb.DuckDBPyConnection, site: Site) -> tuple[Hint, ...]:
    """The confirmed findings about a site, or about its agent where they name no site; the costliest first."""
    return tuple(
        Hint(
            finding_id=row["finding_id"],
            text=row["feedback"],
            trajectories=tuple(row["exemplars"] or ()),
            n_users=row["n_users"] or 0,
        )
        for row in table(con, "hints", {"site_id": site.site_id, "agent": site.agent_name}).to_pylist()
    )


def versions(con: duckdb.DuckDBPyConnection, site: Site) -> Mapping[str, Interval]:
    """By site_version, what its judged episodes of the learn pool came to: the lower bound of their rewards.

    Episodes of a single call only: what a longer one came to is no evidence about one prompt of it.
    """
    rewards: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in table(con, "prompt_rewards", {"site_id": site.site_id}).to_pylist():
        rewards[row["site_version"]].append((row["reward"], row["task_group"]))
    found = {}
    for version, known in sorted(rewards.items()):
        mean = clustered_mean([reward for reward, _ in known], [group for _, group in known])
        if mean is not None:
            found[version] = mean
    return found
