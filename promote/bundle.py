"""A bundle: one artifact with the decision, figures and lineage behind it, in a folder named by its content.

    prompt.json          the prompt artifact that client.py renders
    prompts/             where it holds prompts of several sites: those of the others, by site id
    agents.json          then: which file is whose, by the agent's name and by site id
    adapter/             safetensors and model card, where weights were tuned
    evaluation.json      the decision, guardrails included
    evaluations.parquet  the figures that it rests on, case by case, without the outputs: those stay in the lake
    lineage.json         trajectories, candidate, parents, site, snapshot, versions
    manifest.json        size and SHA-256 of every file above, the bundle id that follows from them, and when

The same content gives the same id on every machine; a file that was touched later is found by `verify`.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracemill.errors import PublishError
from tracemill.ids import canonical_json, content_id
from tracemill.promote.pointer import AGENTS
from tracemill.promote.texts import pseudonyms
from tracemill.records import Candidate, Decision, Site

FORMAT = "tracemill.bundle/1"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A built bundle and where it lies."""

    bundle_id: str
    path: Path


def build(
    candidate: Candidate,
    decision: Decision | None,
    *,
    site: Site,
    evaluations: pa.Table | None,
    lineage: Sequence[str],
    snapshot_id: int | None,
    out: Path,
    now_ns: int,
    kept_pseudonyms: Collection[str] = (),
    others: Sequence[Site] = (),
) -> Bundle:
    """Write the bundle of `candidate` as the folder `out/<bundle id>`; building it again changes nothing.

    `decision` is None for an artifact that no gate judged (the first production prompt, which rollback returns to).
    `lineage` are the trajectory ids that the artifact was made from, `others` the further sites that it has prompts of.
    Raises PublishError, and leaves nothing behind,
    where the prompt holds a pseudonym that nobody bound or kept, or where the adapter cannot be read.
    """
    unbound = pseudonyms(candidate.artifact.prompts, kept=kept_pseudonyms)
    if unbound:
        raise PublishError(
            f"candidate {candidate.candidate_id} cannot be published: its prompt holds {', '.join(unbound)}, "
            "which stands for redacted text; bind it to a slot or a value, or keep it by rule"
        )
    out.mkdir(parents=True, exist_ok=True)
    # Inside `out`, so that the rename at the end stays on one file system; not tempfile, whose 0700 no server can read.
    draft = out / f".draft-{secrets.token_hex(8)}"
    draft.mkdir()
    try:
        _write_files(draft, candidate, decision, [site, *others], evaluations, lineage, snapshot_id)
        files = _fingerprints(draft)
        bundle_id = content_id(FORMAT, files)
        _write_json(draft / MANIFEST, {"format": FORMAT, "bundle_id": bundle_id, "files": files, "built_ns": now_ns})
        target = out / bundle_id
        settle(draft, target)
    except OSError as error:
        raise PublishError(f"bundle of candidate {candidate.candidate_id} under {out}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    verify(target)
    return Bundle(bundle_id=bundle_id, path=target)


def _write_files(
    draft: Path,
    candidate: Candidate,
    decision: Decision | None,
    sites: Sequence[Site],
    evaluations: pa.Table | None,
    lineage: Sequence[str],
    snapshot_id: int | None,
) -> None:
    prompt = dict(candidate.artifact.prompt)
    _write_json(draft / "prompt.json", prompt)
    if candidate.artifact.others:
        _write_others(draft, candidate, sites)
    if candidate.artifact.adapter_path is not None:
        source = Path(candidate.artifact.adapter_path)
        if not any(source.glob("*.safetensors")):
            raise PublishError(f"adapter {source} of candidate {candidate.candidate_id} holds no safetensors file")
        if not prompt.get("adapter"):
            raise PublishError(
                f"candidate {candidate.candidate_id} has an adapter but its prompt names none; "
                "set prompt['adapter'] to the name that it is served under"
            )
        shutil.copytree(source, draft / "adapter", copy_function=shutil.copyfile)
    _write_json(draft / "evaluation.json", {"decision": None if decision is None else asdict(decision)})
    if evaluations is not None:
        table = evaluations.drop_columns([name for name in ("output",) if name in evaluations.column_names])
        if "evaluation_id" in table.column_names:
            table = table.sort_by("evaluation_id")  # row order is no content
        pq.write_table(table.combine_chunks(), draft / "evaluations.parquet", compression="zstd")
    _write_json(
        draft / "lineage.json",
        {
            "candidate_id": candidate.candidate_id,
            "branch": candidate.branch,
            "optimizer": candidate.optimizer,
            "parent_id": candidate.parent_id,
            "baseline_id": None if decision is None else decision.baseline_id,
            "site": _named(sites[0]),
            **({"others": [_named(site) for site in sites[1:]]} if sites[1:] else {}),
            "trajectories": sorted(set(lineage)),
            "snapshot_id": snapshot_id,
            "versions": {name: version(name) for name in ("tracemill", "pyarrow", "numpy", "scipy")},
        },
    )


def _named(site: Site) -> dict[str, str | None]:
    return {
        "site_id": site.site_id,
        "site_version": site.site_version,
        "agent_name": site.agent_name,
        "model": site.model,
    }


def _write_others(draft: Path, candidate: Candidate, sites: Sequence[Site]) -> None:
    known = {site.site_id: site.agent_name for site in sites}
    names = list(known.values())
    files: dict[str, str] = {}
    (draft / "prompts").mkdir()
    for site_id in (candidate.site_id, *sorted(candidate.artifact.others)):
        if site_id not in known:
            raise PublishError(f"candidate {candidate.candidate_id} has a prompt of site {site_id}, which is not known")
        own = site_id == candidate.site_id
        file = "prompt.json" if own else f"prompts/{site_id}.json"
        if not own:
            _write_json(draft / file, candidate.artifact.others[site_id])
        files[site_id] = file
        agent = known[site_id]
        if agent is not None and names.count(agent) == 1:
            files[agent] = file
    _write_json(draft / AGENTS, files)


def verify(path: Path) -> str:
    """The bundle's id, after every file was read and found to be what was built; PublishError naming what is not."""
    manifest = read_manifest(path)
    files = manifest["files"]
    found = _fingerprints(path)
    for name in sorted(files.keys() | found.keys()):
        if name not in found:
            raise PublishError(f"bundle {path}: {name} is missing; build or fetch it again")
        if name not in files:
            raise PublishError(f"bundle {path}: {name} was added after it was built; remove it")
        if files[name] != found[name]:
            raise PublishError(f"bundle {path}: {name} was changed after it was built; build or fetch it again")
    bundle_id = content_id(FORMAT, files)
    if manifest["bundle_id"] != bundle_id or path.name != bundle_id:
        raise PublishError(
            f"bundle {path}: its content is {bundle_id}, not {manifest['bundle_id']}; build or fetch it again"
        )
    return bundle_id


def read_manifest(path: Path) -> Mapping[str, Any]:
    """The manifest of a bundle folder, unverified; PublishError where there is none."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PublishError(f"bundle {path}: no readable {MANIFEST}: {error}") from error
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("files"), dict)
    ):
        raise PublishError(f"bundle {path}: {MANIFEST} is not of format {FORMAT}")
    return manifest


def read_prompt(path: Path) -> Mapping[str, Any]:
    """The prompt artifact of a bundle folder."""
    prompt: Mapping[str, Any] = json.loads((path / "prompt.json").read_text(encoding="utf-8"))
    return prompt


def settle(draft: Path, target: Path) -> None:
    """Make a finished `draft` folder durable under its name `target`; keep what already stands there."""
    for folder, _, names in os.walk(draft):
        for name in names:
            _sync(Path(folder) / name)
        _sync(Path(folder))
    if target.exists():
        return
    try:
        draft.rename(target)
    except OSError:
        # Another process settled the same content in the meantime.
        if not target.exists():
            raise
    _sync(target.parent)


def replace_text(path: Path, text: str) -> None:
    """Put `text` at `path` so that a reader, and a machine that loses power, finds the old text or the new one."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        draft.write_text(text, encoding="utf-8")
        _sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fingerprints(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 by relative POSIX path of every file but the manifest. A link is refused: it can be re-aimed."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise PublishError(f"bundle {folder}: {name} is a link; bundles hold plain files only")
        if path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[name] = {"sha256": digest, "size_bytes": path.stat().st_size}
    return found


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(canonical_json(value) + "\n", encoding="utf-8")
