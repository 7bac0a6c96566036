"""Rewrites requirements/lock.txt: the exact versions that pip resolves for `.[all,dev]` today. Run by `make lock`."""

import json
import re
import subprocess
import sys
from pathlib import Path

HEADER = """\
# What `make setup` installs, exactly; written by `make lock` from pyproject.toml. Used as constraints, so lines for
# another platform do no harm.
"""

# The CUDA libraries come with torch's default build only, at the versions that this build itself pins.
OF_THE_TORCH_BUILD = re.compile(r"^(nvidia-|cuda-|triton$)")


def main() -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    # torch is held: a newer one is a decision (requirements/gpu.txt and the CPU build have to move with it).
    held = [line for line in (root / "requirements/lock.txt").read_text().splitlines() if line.startswith("torch==")]
    command += ["--report", "-", *held, ".[all,dev]"]
    report = json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout)
    pins = {}
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if name != "tracemill" and not OF_THE_TORCH_BUILD.match(name):
            pins[name] = item["metadata"]["version"].split("+")[0]
    lines = [f"{name}=={version}\n" for name, version in sorted(pins.items())]
    (root / "requirements/lock.txt").write_text(HEADER + "".join(lines))
    print(f"requirements/lock.txt: {len(lines)} packages")


if __name__ == "__main__":
    main()
