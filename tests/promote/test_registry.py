"""Releases as rows: current, history, and the way back, several steps of it."""

import pyarrow as pa
import pytest

from tracemill import schema
from tracemill.errors import ConfigError
from tracemill.promote import registry


def _promote(releases: pa.Table, name: str, at: int, channel: str = "production") -> pa.Table:
    row = registry.promote(
        releases,
        channel=channel,
        bundle_id=name,
        bundle_uri=f"file:{name}",
        candidate_id=f"c-{name}",
        verdict_id=None,
        snapshot_id=at,
        actor="nightly",
        at=at,
    )
    return pa.concat_tables([releases, row])


def _roll_back(releases: pa.Table, at: int) -> pa.Table:
    return pa.concat_tables([releases, registry.rolled_back(releases, "production", actor="me", at=at)])


def _bundle(releases: pa.Table, channel: str = "production") -> str | None:
    release = registry.current(releases, channel)
    return None if release is None else str(release["bundle_id"])


def test_each_rollback_goes_one_release_further_back() -> None:
    releases = schema.RELEASES.empty_table()
    assert _bundle(releases) is None
    for at, name in enumerate(["a", "b", "c"], start=1):
        releases = _promote(releases, name, at)
    assert releases["previous_bundle_id"].to_pylist() == [None, "a", "b"]
    releases = _roll_back(releases, 4)
    assert _bundle(releases) == "b"
    releases = _roll_back(releases, 5)
    assert _bundle(releases) == "a"
    with pytest.raises(ConfigError, match="first release"):
        registry.rollback(releases, "production")
    releases = _promote(releases, "d", 6)
    assert registry.rollback(releases, "production")["bundle_id"] == "a"
    assert registry.history(releases)["action"].to_pylist() == ["promote", "rollback", "rollback"] + ["promote"] * 3
    assert len(set(releases["release_id"].to_pylist())) == 6


def test_rolling_back_nothing_says_so() -> None:
    with pytest.raises(ConfigError, match="no release"):
        registry.rollback(schema.RELEASES.empty_table(), "production")


def test_channels_do_not_mix_and_row_order_does_not_matter() -> None:
    releases = _promote(schema.RELEASES.empty_table(), "a", 1)
    releases = _promote(_promote(releases, "s", 2, channel="staging"), "b", 3)
    backwards = releases.take([2, 1, 0])
    assert _bundle(backwards) == "b"
    assert _bundle(backwards, "staging") == "s"
    assert registry.history(backwards, "production")["bundle_id"].to_pylist() == ["b", "a"]


def test_promoting_what_already_stands_there_adds_no_row() -> None:
    releases = _promote(schema.RELEASES.empty_table(), "a", 1)
    assert _promote(releases, "a", 2).num_rows == 1
    assert releases.schema == schema.RELEASES
