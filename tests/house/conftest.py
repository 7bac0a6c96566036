"""Where the checkout is, and which of its files are ours."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFTOVERS = {
    *(".git", ".venv", ".venv-gpu", ".tracemill", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
    *(".hypothesis", ".import_linter_cache", "build", "dist", "demo-run", "tracemill.egg-info"),
}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def files(root: Path) -> list[Path]:
    """Every file of the checkout, each once (links in src/ not followed), without what tools leave behind."""
    found: list[Path] = []
    pending = [root]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if path.name in LEFTOVERS or path.is_symlink():
                continue
            if path.is_dir():
                pending.append(path)
            else:
                found.append(path)
    assert len(found) > 30, "the checkout was not found"
    return sorted(found)
