"""Episodes that say something about a subject, and nights that cluster them."""

import random
from typing import Any

import numpy as np

from tracemill.mining.clusters.clustering import Clustered, cluster
from tracemill.mining.embedding import HashingEmbedder

DAY = 86_400 * 10**9
T0 = 1_790_000_000 * 10**9
FIRST_DAY = T0 // DAY
SUBJECTS = {
    "refund": "refund money charged payment card twice invoice billing amount account bank statement",
    "parcel": "parcel delivery courier tracking shipment arrived doorstep warehouse postman late shipping",
    "login": "password login username reset authentication locked email browser session website",
    "broken": "broken kettle scratched screen battery cracked damaged handle noise motor repair",
}


def wording(subject: str, rng: random.Random) -> str:
    return " ".join(rng.sample(SUBJECTS[subject].split(), 5)) + f" number {rng.randrange(10**6)}"


class Log:
    """Episodes of one agent that say something about a subject."""

    def __init__(self, lake: Any, seed: int = 0) -> None:
        self.lake, self.rng, self.n = lake, random.Random(seed), 0
        self.subject: dict[str, str] = {}

    def episode(
        self, subject: str, *, failed: bool | None = False, day: int = 0, pool: str = "learn", text: str | None = None,
        error: str | None = None,
    ) -> str:  # fmt: skip
        name, self.n = f"t{self.n:05d}", self.n + 1
        self.subject[name] = subject
        said = text if text is not None else wording(subject, self.rng)
        at = T0 + day * DAY
        self.lake.call(name, [{"role": "system", "content": "desk"}, {"role": "user", "content": said}], "done", at=at)
        if error is not None:
            self.lake.add(
                "spans",
                {"trace_id": name, "span_id": "c", "kind": "tool", "tool_name": "lookup", "status": "error",
                 "error_message": error, "seq": 9},
            )  # fmt: skip
        self.lake.trajectory(
            name, group=f"g{name}", pool=pool, session_id=f"s{name}", agent_name="desk", start_ns=at,
            day=np.datetime64(FIRST_DAY + day, "D").astype(object),
        )  # fmt: skip
        if failed is not None:
            self.lake.score(name, "combined", 0.0 if failed else 1.0)
        return name


def night(lake: Any, name: str = "n1", embedder: Any = None, **more: Any) -> Clustered:
    found = cluster(lake.con, embedder or HashingEmbedder(), night_id=name, now_ns=1, **more)
    lake.put("clusters", found.clusters)
    lake.put("cluster_members", found.members)
    return found


def clusters(lake: Any, kind: str = "intent") -> dict[str, dict[str, Any]]:
    rows = lake.con.execute("select * from clusters where kind = ?", [kind]).to_arrow_table().to_pylist()
    return {row["cluster_id"]: row for row in rows}


def members(lake: Any, kind: str = "intent") -> dict[str, str | None]:
    query = "select trajectory_id, cluster_id from cluster_members where kind = ?"
    return dict(lake.con.execute(query, [kind]).fetchall())


def by_subject(lake: Any, log: Log) -> dict[str, str | None]:
    """The cluster in which each subject's episodes are; fails where they are in several."""
    found: dict[str, str | None] = {}
    for trajectory, cluster_id in members(lake).items():
        assert found.setdefault(log.subject[trajectory], cluster_id) == cluster_id
    return found
