"""What goes between workers and committer: groups of objects one way, staged batches the other."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine_logs import write_logs

from tracemill import ingest
from tracemill.pipelines.engines.staging import SMALL_BYTES, Staging
from tracemill.pipelines.engines.work import LostError, shards
from tracemill.records import Batch

NOW = 1_790_000_000_000_000_000


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("parcels") / "logs")


@pytest.mark.parametrize("small_bytes", [-1, SMALL_BYTES])
def test_a_batch_comes_out_of_its_parcel_as_it_was(tmp_path: Path, logs: Path, small_bytes: int) -> None:
    staging = Staging(url=str(tmp_path / "staging"), small_bytes=small_bytes)
    staging.open()
    assert staging.reached()
    for batch in ingest.batches(ingest.find([logs]), key=b"k" * 32, now_ns=NOW, max_bytes=160_000):
        parcel = staging.pack(batch)
        found = parcel.load()
        assert isinstance(found, Batch)
        assert replace(found, tables={}) == replace(batch, tables={})
        assert list(found.tables) == list(batch.tables)
        for name, table in batch.tables.items():
            assert found.tables[name].schema == table.schema
            assert found.tables[name].equals(table), name
        parcel.discard()
        parcel.discard()
        if small_bytes < 0:
            with pytest.raises(LostError):
                parcel.load()
    staging.close()
    assert not (tmp_path / "staging").exists()
    assert not staging.reached()


def sized(*sizes: int) -> Iterator[ingest.SourceObject]:
    for number, size in enumerate(sizes):
        yield ingest.SourceObject(uri=f"/logs/{number}", size_bytes=size)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ((), []),
        ((3, 3, 3, 3), [[0, 1, 2], [3]]),
        ((1, 50, 1, 1), [[0], [1], [2, 3]]),
        ((10, 10), [[0], [1]]),
        ((0,) * 5, [[0, 1, 2, 3, 4]]),
    ],
)
def test_groups_are_of_one_size_and_in_order(sizes: tuple[int, ...], groups: list[list[int]]) -> None:
    found = [[int(one.name) for one in group] for group in shards(sized(*sizes), 10)]
    assert found == groups
