"""What the code imports is what pyproject declares, where it declares it, and at versions that resolve."""

import ast
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

KERNEL_AND_ROOMS = [
    "src",
    "ingest",
    "warehouse",
    "mining",
    "rewards",
    "optimize",
    "train",
    "promote",
    "pipelines",
    "app",
]

# The extra that a room may import when it is imported; whatever else it wants, it wants inside a function.
STAGE_OF_EXTRA = {
    "prompts": ("optimize/", "rewards/llm/program.py"),
    "train": ("train/",),
    "flows": ("pipelines/", "app/scheduled.py"),
    "report": ("app/report/",),
}

# Declared, though no file imports them by name.
NOT_IMPORTED = {
    "fastapi": "holds back what prefect resolves",
    "sqlalchemy": "holds back what prefect resolves",
    "pytz": "duckdb imports it for timestamps with a time zone",
    "duckdb-extension-ducklake": "a binary that DuckDB loads by path",
    "duckdb-extension-sqlite-scanner": "a binary that DuckDB loads by path",
    "duckdb-extension-httpfs": "a binary that DuckDB loads by path",
    "duckdb-extension-postgres-scanner": "a binary that DuckDB loads by path",
    "accelerate": "transformers and trl want it to train",
    "gguf": "transformers wants it to read GGUF weights",
    "s3fs": "fsspec reads s3:// with it",
    "gcsfs": "fsspec reads gs:// with it",
    "adlfs": "fsspec reads abfs:// with it",
    "aiohttp": "fsspec reads https:// with it",
    "wordllama": "imported by name, for it has no types",
    "presidio-analyzer": "imported by name, where the settings name it",
}

# Of use to few, and heavy: not in `all`, and so not in the pinned set.
NOT_IN_ALL = {"gs", "azure", "names", "ray"}


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, list[Requirement]]:
    """Extra → its requirements, with "" for the base install; `all` is left out."""
    table = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in table["optional-dependencies"].items() if name != "all"}
    return {
        name: [Requirement(line) for line in lines] for name, lines in {"": table["dependencies"], **extras}.items()
    }


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def imports(tree: ast.AST, at_import: bool = True) -> Iterator[tuple[str, bool]]:
    """(dotted module, whether it is imported as soon as the file is) of every import that runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from google.protobuf import x` and `from opentelemetry.proto import y` share namespaces
            yield from ((f"{node.module}.{alias.name}", at_import) for alias in node.names)
        elif not is_type_checking(node):
            yield from imports(node, at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.fixture(scope="module")
def third_party(root: Path, files: list[Path]) -> list[tuple[str, str, bool]]:
    """(file, distribution, whether imported with the file) for every import of something that is not ours."""
    owners = importlib.metadata.packages_distributions()
    namespaces = {
        "opentelemetry.sdk": "opentelemetry-sdk",
        "opentelemetry.proto": "opentelemetry-proto",
        "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry": "opentelemetry-api",
        "openinference.instrumentation.openai": "openinference-instrumentation-openai",
        "google.protobuf": "protobuf",
        "google.rpc": "googleapis-common-protos",
    }
    sources = [path for path in files if path.suffix == ".py"]
    local = {"tracemill", *(path.parent.name if path.stem == "__init__" else path.stem for path in sources)}
    found = []
    for path in sources:
        for module, at_import in imports(ast.parse(path.read_text())):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names:
                continue
            owner = next((dist for space, dist in namespaces.items() if f"{module}.".startswith(f"{space}.")), None)
            if owner is None and top in owners:
                owner = owners[top][0]
            if owner is None and top in local:
                continue
            if owner != "tracemill":
                found.append((path.relative_to(root).as_posix(), canonicalize_name(owner or top), at_import))
    return found


def test_whatever_is_imported_is_declared(
    project: dict[str, list[Requirement]], third_party: list[tuple[str, str, bool]]
) -> None:
    base = names(project[""])
    shipped = set().union(*(names(lines) for extra, lines in project.items() if extra != "dev"))
    # What these bring is part of what they promise.
    brought = {
        "jinja2": {"markupsafe"},
        "opentelemetry-proto": {"protobuf"},
        "opentelemetry-sdk": {"opentelemetry-api"},
        "s3fs": {"botocore"},
        "transformers": {"tokenizers"},
    }
    wrong = []
    for file, distribution, at_import in third_party:
        if file.split("/")[0] not in KERNEL_AND_ROOMS:
            allowed = shipped | names(project["dev"])
        elif at_import:
            stages = [extra for extra, stage in STAGE_OF_EXTRA.items() if file.startswith(stage)]
            allowed = base.union(*(names(project[extra]) for extra in stages))
        else:
            allowed = shipped
        allowed = allowed.union(*(brings for name, brings in brought.items() if name in allowed))
        if distribution not in allowed:
            wrong.append(f"{file}: {distribution} {'at the top' if at_import else 'in a function'}")
    assert sorted(set(wrong)) == []


def test_whatever_is_declared_is_imported(
    project: dict[str, list[Requirement]], third_party: list[tuple[str, str, bool]]
) -> None:
    shipped = set().union(*(names(lines) for extra, lines in project.items() if extra != "dev"))
    ours = {distribution for file, distribution, _ in third_party if file.split("/")[0] in KERNEL_AND_ROOMS}
    assert shipped - ours == set(NOT_IMPORTED)


def test_extra_all_is_every_extra_but_dev_and_what_few_need(root: Path, project: dict[str, list[Requirement]]) -> None:
    table = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (all_of_it,) = [Requirement(line) for line in table["all"]]
    assert all_of_it.name == "tracemill"
    assert all_of_it.extras == set(project) - {"", "dev"} - NOT_IN_ALL


def test_the_pinned_set_satisfies_pyproject(root: Path, project: dict[str, list[Requirement]]) -> None:
    lines = (root / "requirements/lock.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = [requirements for extra, requirements in project.items() if extra not in NOT_IN_ALL]
    for requirement in (requirement for requirements in pinned for requirement in requirements):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in requirements/lock.txt: run make lock"
        assert requirement.specifier.contains(pin, prereleases=True), f"{requirement} but {pin}: run make lock"


def test_prefect_is_kept_from_the_fastapi_that_breaks_it(project: dict[str, list[Requirement]]) -> None:
    (fastapi,) = [requirement for requirement in project["flows"] if requirement.name == "fastapi"]
    assert not fastapi.specifier.contains("0.151.0")
    assert fastapi.specifier.contains("0.150.0")
