"""What is installed is what the checkout holds: the links under src/tracemill must survive packaging."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOMS = ["app", "ingest", "mining", "optimize", "pipelines", "promote", "rewards", "train", "warehouse"]
PACKED = ["pyproject.toml", "README.md", "LICENSE", "src", *ROOMS]


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that `build` makes from the sdist that it makes from the checkout."""
    work = tmp_path_factory.mktemp("wheel")
    copy = work / "checkout"
    copy.mkdir()
    leftovers = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in PACKED:
        if (root / name).is_dir():
            shutil.copytree(root / name, copy / name, symlinks=True, ignore=leftovers)
        else:
            shutil.copy2(root / name, copy / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(work / "dist"), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (work / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def test_every_room_is_a_link_to_its_folder(root: Path) -> None:
    for room in ROOMS:
        assert os.readlink(root / "src/tracemill" / room) == f"../../{room}"


def test_the_wheel_holds_every_file_of_every_room_byte_for_byte(root: Path, wheel: zipfile.ZipFile) -> None:
    package = root / "src/tracemill"
    expected: dict[str, bytes] = {}
    for folder in [package, *(package / room for room in ROOMS)]:
        for path in folder.rglob("*"):  # rglob does not enter the links, so each room is walked by itself
            if path.is_file() and "__pycache__" not in path.parts:
                expected[f"tracemill/{path.relative_to(package)}"] = path.read_bytes()
    packed = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("tracemill/")}
    assert sorted(packed) == sorted(expected)
    assert [name for name in packed if packed[name] != expected[name]] == []


def test_the_wheel_carries_licence_and_command(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "tracemill = tracemill.app.cli:main" in wheel.read(entry_points).decode()
    assert not any(name.startswith(("tests/", "bench/", "examples/")) for name in names)
