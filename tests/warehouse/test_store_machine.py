"""A small store in plain Python and the lake are told the same things and must agree."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tracemill.warehouse import Lake

TRACES = st.sampled_from(["a", "b", "c"])
SPANS = st.lists(
    st.tuples(TRACES, st.sampled_from(["s0", "s1", "s2"]), st.sampled_from(["x", "y"]), st.booleans()),
    min_size=1,
    max_size=5,
)
"""(trace, span, what is said, real call or wrapper)"""


class UndoneError(Exception):
    """Raised on purpose inside a transaction."""


def machine(empty: Path, build: Callable[..., Any], rows_of: Callable[..., pa.Table]) -> type[RuleBasedStateMachine]:
    class Store(RuleBasedStateMachine):
        @initialize()
        def start(self) -> None:
            self.folder = Path(tempfile.mkdtemp(prefix="lake-machine-"))
            shutil.copytree(empty, self.folder / "lake")
            self.lake = Lake.open(self.folder / "lake")
            self.at = 0
            self.batches: list[Any] = []
            self.spans: dict[tuple[str, str], tuple[str, bool]] = {}
            self.said: set[str] = set()
            self.built: dict[str, list[tuple[str, str]]] = {}  # trace -> (span, what is said) of its calls
            self.groups: dict[str, str] = {}
            self.sites: dict[tuple[str, str, str], str] = {}
            self.dirty: set[str] = set()

        def teardown(self) -> None:
            if hasattr(self, "lake"):
                self.lake.close()
                shutil.rmtree(self.folder)

        def made(self, spans: list[tuple[str, str, str, bool]]) -> Any:
            self.at += 1
            made = build(uri=f"file:///{self.at}", at=self.at)
            for seq, (trace, span, text, real) in enumerate(spans):
                flags = None if real else ["wrapper"]
                made.call(trace, span, [("user", text)], "answer", flags=flags, seq=seq, start_ns=int(span[1]))
            return made.batch()

        @rule(spans=SPANS)
        def take(self, spans: list[tuple[str, str, str, bool]]) -> None:
            batch = self.made(spans)
            self.batches.append(batch)
            before = dict(self.spans)
            last = {(trace, span): (text, real, seq) for seq, (trace, span, text, real) in enumerate(spans)}
            self.spans.update(last)
            changed = {key for key in last if before.get(key) != self.spans[key]}
            texts = {text for _, _, text, _ in spans} | {"answer"}
            with self.lake.transaction("take") as tx:
                taken = tx.take(batch)
            assert taken.spans == len(changed)
            assert taken.duplicates == len(spans) - len(changed)
            assert taken.messages == len(texts - self.said)
            assert taken.trace_ids == sorted({trace for trace, _ in changed})
            self.said |= texts
            self.dirty.update(taken.trace_ids)

        @rule(data=st.data())
        def take_again(self, data: st.DataObject) -> None:
            if self.batches:
                with self.lake.transaction("again") as tx:
                    taken = tx.take(data.draw(st.sampled_from(self.batches)))
                assert (taken.spans, taken.messages, taken.files, taken.trace_ids) == (0, 0, 0, [])

        @rule(spans=SPANS)
        def fail(self, spans: list[tuple[str, str, str, bool]]) -> None:
            batch = self.made(spans)
            with pytest.raises(UndoneError), self.lake.transaction("fails") as tx:  # noqa: PT012
                tx.rebuild(tx.take(batch).trace_ids)
                raise UndoneError

        @rule()
        def rebuild(self) -> None:
            with self.lake.transaction("rebuild") as tx:
                ungrouped = tx.rebuild(sorted(self.dirty))
            assert ungrouped.column("trajectory_id").to_pylist() == sorted(self.dirty - set(self.groups))
            for trace in self.dirty:
                calls = [
                    (span, text)
                    for (owner, span), (text, real, _) in sorted(self.spans.items())
                    if owner == trace and real
                ]
                kept = {(trace, span, text) for span, text in calls}
                self.sites = {key: site for key, site in self.sites.items() if key[0] != trace or key in kept}
                self.built[trace] = calls
            self.dirty.clear()

        @rule(trace=TRACES, pool=st.sampled_from(["learn", "gate"]))
        def assign_group(self, trace: str, pool: str) -> None:
            assigned = pa.table({"trajectory_id": [trace], "task_group": [f"g-{trace}-{pool}"], "pool": [pool]})
            with self.lake.transaction("groups") as tx:
                count = tx.assign_groups(assigned, rows_of("task_groups", []))
            new = trace in self.built and trace not in self.groups
            assert count == int(new)
            if new:
                self.groups[trace] = pool

        @rule(trace=TRACES, site=st.sampled_from(["site1", "site2"]))
        def assign_sites(self, trace: str, site: str) -> None:
            calls = self.built.get(trace, [])
            with self.lake.transaction("sites") as tx:
                tx.assign_sites(
                    pa.table(
                        {
                            "trajectory_id": pa.array([trace] * len(calls), pa.string()),
                            "step": pa.array(range(len(calls)), pa.int32()),
                            "site_id": pa.array([site] * len(calls), pa.string()),
                            "site_version": pa.array(["v"] * len(calls), pa.string()),
                        }
                    )
                )
            self.sites.update({(trace, span, text): site for span, text in calls})

        @rule()
        def reopen(self) -> None:
            self.lake.close()
            self.lake = Lake.open(self.folder / "lake")

        @invariant()
        def agree(self) -> None:
            if not hasattr(self, "lake"):
                return
            with self.lake.reader() as con:
                spans = con.execute("SELECT trace_id, span_id FROM spans ORDER BY ALL").fetchall()
                pools = con.execute("SELECT trajectory_id, pool, n_llm_calls FROM trajectories ORDER BY 1").fetchall()
                steps = con.execute(
                    "SELECT trajectory_id, span_id, site_id FROM transitions ORDER BY trajectory_id, step"
                ).fetchall()
            assert spans == sorted(self.spans)
            assert pools == [(trace, self.groups.get(trace), len(calls)) for trace, calls in sorted(self.built.items())]
            assert steps == [
                (trace, span, self.sites.get((trace, span, text)))
                for trace, calls in sorted(self.built.items())
                for span, text in calls
            ]

    return Store


def run(store: type[RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        store,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_lake_agrees_with_a_plain_store(
    empty_lake: Path, build: Callable[..., Any], rows_of: Callable[..., pa.Table]
) -> None:
    run(machine(empty_lake, build, rows_of), examples=3, steps=10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_lake_agrees_with_a_plain_store_through_long_histories(
    empty_lake: Path, build: Callable[..., Any], rows_of: Callable[..., pa.Table]
) -> None:
    run(machine(empty_lake, build, rows_of), examples=40, steps=30)
