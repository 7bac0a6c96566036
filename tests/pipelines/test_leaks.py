"""What the gate judges by does not leak into learning; where that cannot be found out, nothing is learned."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tracemill.errors import ContaminationError
from tracemill.mining import embedding
from tracemill.mining.embedding import HashingEmbedder, Vectors
from tracemill.pipelines import clustering, learning
from tracemill.pipelines.config import ClustersConfig
from tracemill.pipelines.night import Night


@pytest.fixture
def night(mined: Any) -> Night:
    found: Night = mined.night()
    return found


def with_clusters(night: Night, **settings: Any) -> Night:
    return replace(night, config=replace(night.config, clusters=ClustersConfig(**settings)))


def test_a_case_that_means_what_a_gate_case_means_is_left_out(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    (lesson,), _ = learning.choose(with_clusters(night, embedder="hashing"))
    planted = lesson.train[0]
    text = "\n".join(planted.values.values())
    hits = 0

    class Told:
        name = "told"

        def embed(self, texts: Sequence[str]) -> Vectors:
            nonlocal hits
            found = np.zeros((len(texts), len(texts)), dtype=np.float32)
            np.fill_diagonal(found, 1)
            (at,) = [i for i, one in enumerate(texts) if one == text]
            found[-1] = found[at]  # the gate's come last
            hits += 1
            return found

    monkeypatch.setattr(clustering, "embedder", lambda night: Told())
    (clean,), left = learning.choose(night)
    assert hits == 1
    gone = {case.case_id for case in lesson.learn} - {case.case_id for case in clean.learn}
    assert planted.case_id in gone
    assert all("\n".join(case.values.values()) != text for case in clean.learn)
    (told,) = [one for one in left if "too near those of the gate" in one]
    assert f"{len(gone)} of {len(lesson.learn)} judged cases" in told
    assert "by meaning" in told


def test_where_too_little_is_left_nothing_is_learned(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    class Same:
        name = "same"

        def embed(self, texts: Sequence[str]) -> Vectors:
            return np.ones((len(texts), 1), dtype=np.float32)

    monkeypatch.setattr(clustering, "embedder", lambda night: Same())
    lessons, left = learning.choose(night)
    assert lessons == []
    assert any("0 are left" in one for one in left)


def test_an_embedder_that_is_not_there_stops_learning(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = with_clusters(night, url="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(ContaminationError, match=r"nothing is learned.*127\.0\.0\.1:9"):
        learning.choose(dead)
    with pytest.raises(ContaminationError, match="NO_SUCH_KEY"):
        learning.choose(with_clusters(night, embedder="hashing", key_env="NO_SUCH_KEY"))
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(ContaminationError, match="patterns"):
        learning.choose(with_clusters(night, embedder="wordllama"))
    assert clustering.embedder(with_clusters(night)).name == HashingEmbedder().name
