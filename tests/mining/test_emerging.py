"""What callers begin to ask for becomes a cluster of its own, and nothing else does."""

from typing import Any

import pytest
from clustered import SUBJECTS, Log, by_subject, clusters, members, night


@pytest.mark.parametrize(("fitted_on", "share"), [(100, 0.05), (100, 0.12), (20_000, 0.1)])
def test_a_topic_that_begins_becomes_a_cluster_of_its_own(
    lake: Any, monkeypatch: pytest.MonkeyPatch, fitted_on: int, share: float
) -> None:
    monkeypatch.setattr("tracemill.mining.clusters.clustering.FITTED_ON", fitted_on)
    log, known = Log(lake), ["refund", "parcel", "login"]
    for i in range(300):
        log.episode(known[i % 3], day=i // 15)
    night(lake)
    before = by_subject(lake, log)
    for i in range(300):
        log.episode("broken" if i < 300 * share else known[i % 3], day=20)
    night(lake, "n2")
    found = {one for name, one in members(lake).items() if log.subject[name] == "broken"}
    rows = clusters(lake)
    assert len(found) == 1
    assert not found & set(before.values())
    assert rows[found.pop()]["trend"] == "new"
    assert {subject: one for subject, one in by_subject(lake, log).items() if subject in before} == before
    assert len(rows) == 4
    night(lake, "n3")
    assert set(clusters(lake)) == set(rows)


def test_nothing_emerges_from_what_was_always_said(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.mining.clusters.clustering.FITTED_ON", 100)
    log, seen = Log(lake), []
    for day in range(4):
        for i in range(200):
            # One in ten says something of its own.
            own = " ".join("".join(log.rng.choices("bdfgklmnprst aeiou", k=9)) for _ in range(4))
            log.episode(list(SUBJECTS)[i % 4], day=day, text=own if log.rng.random() < 0.1 else None)
        night(lake, f"n{day}")
        seen.append(set(clusters(lake)))
    assert seen == seen[:1] * 4
