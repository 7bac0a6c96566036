"""Ways: loops compared with what is as long without them, and where an unusual way is unusual."""

import random
from typing import Any

import pytest
from mined_episodes import DAY, T0, Call, Log

from tracemill.mining.findings import find
from tracemill.mining.patterns import graph, items, journeys, words


def confirmed(lake: Any) -> list[dict[str, Any]]:
    found = find(lake.con, night_id="n1", now_ns=T0 + 99 * DAY).findings.to_pylist()
    return [row for row in found if row["status"] == "confirmed"]


def test_a_loop_that_alone_makes_its_task_long_is_found(lake: Any) -> None:
    log, rng = Log(lake), random.Random(7)
    for i in range(500):
        # Whoever does not loop makes two calls: no episode is as long as those that do.
        loops = rng.random() < 0.2
        calls: list[Call] = [("search", {"q": i}, False)] * (5 if loops else 1)
        log.episode([*calls, ("read", {"id": i}, False)], failed=rng.random() < (0.7 if loops else 0.15))
    (found,) = [row for row in confirmed(lake) if row["kind"] in ("loop", "thrash")]
    assert found["what"].endswith("called three times or more in a row with the same arguments.")
    assert found["failures_without"] == pytest.approx(0.15, abs=0.08)


def test_calls_that_are_no_repeats_are_a_longer_way(lake: Any) -> None:
    log, rng = Log(lake), random.Random(8)
    for i in range(700):
        n = rng.randint(1, 8)
        calls: list[Call] = [("search", {"q": f"{i} {chr(97 + j) * 9}"}, False) for j in range(n)]
        log.episode(calls, failed=rng.random() < 0.09 * n)
    assert confirmed(lake) == []


def test_an_unusual_way_says_where_it_is_unusual(lake: Any) -> None:
    log, rng = Log(lake), random.Random(5)
    for i in range(700):
        calls: list[Call] = [(name, {"id": i}, False) for name in ("a", "b", "c", "d")]
        strays = rng.random() < 0.06
        if strays:
            calls[1], calls[2] = calls[2], calls[1]
        log.episode(calls, failed=rng.random() < (0.8 if strays else 0.1))
    read = journeys.read(lake.con)
    edges = graph.edges(read)
    found = items.collect(read, edges, graph.follows(read, edges)[1], at_least=5)
    (path,) = [told for told in map(found.describe, range(len(found))) if told[1] == "rare_path"]
    said = words.sentence(path[2])
    assert said == (
        "The episode goes a way that successes hardly ever go, mostly here: "
        'the tool "a" is called, then the tool "c" is called; the tool "c" is called, then the tool "b" is called.'
    )
    assert said in words.feedback(path[2], failures_with=0.8, failures_without=0.1)
    assert items.finding_id(*path) == items.finding_id(path[0], path[1], {"path": "unusual"})
