"""Bundles: named by content, complete or absent, and any later change is found."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracemill import schema
from tracemill.errors import PublishError
from tracemill.promote import bundle
from tracemill.promote.bundle import Bundle
from tracemill.records import Artifact, Candidate, Decision, Site

MakeBundle = Callable[..., Bundle]


def test_a_bundle_holds_artifact_evaluation_and_lineage(
    tmp_path: Path, site: Site, make_candidate: Callable[..., Candidate], make_decision: Callable[[Candidate], Decision]
) -> None:
    candidate = make_candidate(adapter="triage-1")
    rows = pa.Table.from_pylist(
        [{"evaluation_id": str(i), "case_id": f"t{i}/0", "output": "somebody's words", "reward": None} for i in (2, 1)],
        schema=schema.EVALUATIONS,
    )
    built = bundle.build(
        candidate,
        make_decision(candidate),
        site=site,
        evaluations=rows,
        lineage=["t2", "t1", "t2"],
        snapshot_id=7,
        out=tmp_path / "out",
        now_ns=5,
    )
    assert bundle.verify(built.path) == built.bundle_id == built.path.name
    assert json.loads((built.path / "prompt.json").read_text()) == candidate.artifact.prompt
    assert (built.path / "adapter" / "adapter_model.safetensors").read_bytes() == b"weights of triage-1"
    assert json.loads((built.path / "evaluation.json").read_text())["decision"]["verdict"] == "PROMOTE"
    lineage = json.loads((built.path / "lineage.json").read_text())
    assert lineage["trajectories"] == ["t1", "t2"]
    assert lineage["candidate_id"] == candidate.candidate_id
    assert lineage["snapshot_id"] == 7
    assert "tracemill" in lineage["versions"]
    table = pq.read_table(built.path / "evaluations.parquet")
    assert "output" not in table.column_names
    assert table["evaluation_id"].to_pylist() == ["1", "2"]
    assert table["reward"].to_pylist() == [None, None]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [built.bundle_id]


def test_the_same_content_is_the_same_bundle_and_other_content_another(make_bundle: MakeBundle) -> None:
    first = make_bundle("One.")
    before = (first.path / "manifest.json").stat().st_mtime_ns
    assert make_bundle("One.") == first
    assert (first.path / "manifest.json").stat().st_mtime_ns == before
    assert make_bundle("Two.").bundle_id != first.bundle_id


def test_every_kind_of_tampering_is_found(make_bundle: MakeBundle) -> None:
    path = make_bundle("One.", adapter="a1").path
    bundle.verify(path)
    prompt = (path / "prompt.json").read_text()
    (path / "prompt.json").write_text(prompt.replace("One", "Own"))
    with pytest.raises(PublishError, match=r"prompt\.json was changed"):
        bundle.verify(path)
    (path / "prompt.json").write_text(prompt)
    (path / "adapter" / "extra.bin").write_bytes(b"x")
    with pytest.raises(PublishError, match=r"adapter/extra\.bin was added"):
        bundle.verify(path)
    (path / "adapter" / "extra.bin").unlink()
    os.rename(path / "lineage.json", path.parent / "kept")
    with pytest.raises(PublishError, match=r"lineage\.json is missing"):
        bundle.verify(path)
    (path / "lineage.json").symlink_to(path.parent / "kept")
    with pytest.raises(PublishError, match=r"lineage\.json is a link"):
        bundle.verify(path)


def test_a_consistently_forged_bundle_has_another_name(make_bundle: MakeBundle) -> None:
    good, other = make_bundle("One."), make_bundle("Two.")
    for file in other.path.iterdir():
        (good.path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(PublishError, match="its content is"):
        bundle.verify(good.path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "tracemill.bundle/9"}'])
def test_an_unreadable_manifest_is_a_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(PublishError, match=r"manifest\.json"):
        bundle.verify(tmp_path)


def test_an_unbound_pseudonym_is_never_bundled(tmp_path: Path, make_bundle: MakeBundle) -> None:
    with pytest.raises(PublishError, match=r"\[SECRET_0a1b2c3d\].*bind it"):
        make_bundle("Use [SECRET_0a1b2c3d].")
    assert not (tmp_path / "built").exists()


def test_an_adapter_without_weights_or_name_is_refused_and_leaves_nothing(
    tmp_path: Path, site: Site, make_candidate: Callable[..., Candidate]
) -> None:
    def build(candidate: Candidate) -> None:
        bundle.build(
            candidate, None, site=site, evaluations=None, lineage=[], snapshot_id=None, out=tmp_path / "out", now_ns=1
        )

    good = make_candidate(adapter="a1")
    assert good.artifact.adapter_path is not None
    nameless = {**good.artifact.prompt, "adapter": None}
    for artifact, message in (
        (Artifact(prompt=good.artifact.prompt, adapter_path=str(tmp_path / "nowhere")), "no safetensors"),
        (Artifact(prompt=nameless, adapter_path=good.artifact.adapter_path), "its prompt names none"),
    ):
        with pytest.raises(PublishError, match=message):
            build(Candidate(branch="weights", site_id="s", site_version="v", optimizer="o", artifact=artifact))
    assert list((tmp_path / "out").iterdir()) == []
