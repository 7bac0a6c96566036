"""Makers of candidates, outcomes and bundles for the tests of promote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracemill.promote import bundle
from tracemill.promote.bundle import Bundle
from tracemill.records import Artifact, Candidate, Decision, Guardrail, Site, Template

MakeCandidate = Callable[..., Candidate]
MakeBundle = Callable[..., Bundle]


@pytest.fixture
def site() -> Site:
    template = Template(messages=({"role": "system", "content": ["Route the ticket."]},))
    return Site(site_id="site", site_version="v1", agent_name="triage", model="small", template=template)


@pytest.fixture
def make_candidate(tmp_path: Path) -> MakeCandidate:
    def make(
        instruction: str = "Route the ticket.",
        *,
        pool: list[dict[str, Any]] | None = None,
        lineage: tuple[str, ...] = (),
        adapter: str | None = None,
    ) -> Candidate:
        prompt: dict[str, Any] = {
            "format": "tracemill.prompt/1",
            "site_id": "site",
            "model": "small",
            "adapter": adapter,
            "messages": [
                {"role": "system", "content": [instruction]},
                {"demonstrations": True},
                {"role": "user", "content": [{"slot": "ticket"}]},
            ],
            "demonstrations": {"select": "fixed", "k": 4, "pool": pool or []},
            "params": {"temperature": 0.0},
            "tools": None,
        }
        folder: Path | None = None
        if adapter is not None:
            folder = tmp_path / "trained" / adapter
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "adapter_model.safetensors").write_bytes(b"weights of " + adapter.encode())
            (folder / "README.md").write_text("# Model card\n")
        return Candidate(
            branch="prompt" if adapter is None else "weights",
            site_id="site",
            site_version="v1",
            optimizer="test",
            artifact=Artifact(prompt=prompt, adapter_path=None if folder is None else str(folder)),
            lineage=lineage,
        )

    return make


@pytest.fixture
def make_decision() -> Callable[[Candidate], Decision]:
    def make(candidate: Candidate) -> Decision:
        return Decision(
            candidate_id=candidate.candidate_id,
            baseline_id="base",
            site_id=candidate.site_id,
            channel="production",
            verdict="PROMOTE",
            reason="Better.",
            n_cases=40,
            n_clusters=40,
            baseline_mean=0.2,
            candidate_mean=0.6,
            delta=0.4,
            low=0.2,
            high=0.6,
            e_value=900.0,
            alpha=0.019,
            guardrails=(Guardrail(name="latency", passed=True, baseline=1.0, candidate=1.0),),
        )

    return make


@pytest.fixture
def make_bundle(
    tmp_path: Path, site: Site, make_candidate: MakeCandidate, make_decision: Callable[[Candidate], Decision]
) -> MakeBundle:
    def make(instruction: str = "Route the ticket.", **options: Any) -> Bundle:
        candidate = make_candidate(instruction, **options)
        return bundle.build(
            candidate,
            make_decision(candidate),
            site=site,
            evaluations=None,
            lineage=["t1", "t2"],
            snapshot_id=7,
            out=tmp_path / "built",
            now_ns=1,
        )

    return make
