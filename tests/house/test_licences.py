"""Whoever installs tracemill gets permissive licences only; the exceptions are listed with their reason."""

import importlib.metadata
import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What a licence may say for us to depend on it: do what you like, keep the notice.
PERMISSIVE = re.compile(
    r"^(MIT|MIT-0|MIT-CMU|0BSD|BSD|BSD-[234]-Clause|Apache|Apache-2\.0|ISC|PSF-2\.0|Python-2\.0|Zlib|CC0-1\.0|BSL-1\.0"
    r"|CNRI-Python|Unlicense|HPND|Apache-2\.0 WITH LLVM-exception|LLVM-exception)$"
)
CLASSIFIERS = {
    "MIT License": "MIT",
    "BSD License": "BSD",
    "Apache Software License": "Apache",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "zlib/libpng License": "Zlib",
    "The Unlicense (Unlicense)": "Unlicense",
}
FREE_TEXT = {
    "Apache 2.0": "Apache", "Apache 2.0 License": "Apache", "Apache License 2.0": "Apache", "MIT License": "MIT",
    "3-Clause BSD License": "BSD", "BSD 3-Clause License": "BSD",
}  # fmt: skip
# Weak copyleft by file, or a choice of licences, in libraries that others bring and nobody here changes or ships.
LICENCE_EXCEPTIONS = {
    "certifi": "MPL-2.0: a list of certificates, used unmodified; httpx and requests bring it",
    "orjson": "MPL-2.0 AND (Apache-2.0 OR MIT), used unmodified; dspy and prefect bring it",
    "pathspec": "MPL-2.0, used unmodified; prefect brings it",
    "tqdm": "MPL-2.0 AND MIT, used unmodified; transformers and datasets bring it",
    "text-unidecode": "Artistic-1.0 by choice, instead of the GPL; prefect brings it through python-slugify",
}
# torch's default build brings NVIDIA's runtime under NVIDIA's own terms; the CPU build does not.
OF_A_GPU_BUILD = re.compile(r"^(nvidia-|cuda-|triton$)")


def closure(name: str, extras: frozenset[str]) -> set[str]:
    """Installed distributions that an installation of `name[extras]` needs, here."""
    seen: dict[str, set[str]] = {}
    pending = [(canonicalize_name(name), extras)]
    while pending:
        name, extras = pending.pop()
        if name in seen and extras <= seen[name]:
            continue
        seen.setdefault(name, set()).update(extras)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            del seen[name]
            continue
        for requirement in map(Requirement, requires):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                pending.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return set(seen)


def licences(name: str) -> set[str]:
    """What a distribution says of its licence, as short names: its expression, else classifiers, else free text."""
    metadata = importlib.metadata.metadata(name)
    if expression := metadata.get("License-Expression"):
        return {part.strip("() ") for part in re.split(r"\s+(?:AND|OR|WITH)\s+", expression)}
    labels = [label for label in metadata.get_all("Classifier") or [] if label.startswith("License ::")]
    if labels:
        shorts = {label.rpartition("::")[2].strip() for label in labels} - {"OSI Approved"}
        return {CLASSIFIERS.get(short, short) for short in shorts}
    first_line = (metadata.get("License") or "").strip().partition("\n")[0]
    return {FREE_TEXT.get(part, part) for part in first_line.split(" AND ")}


def test_dependencies_have_permissive_licences() -> None:
    needed = {name for name in closure("tracemill", frozenset({"all"})) if not OF_A_GPU_BUILD.match(name)} - {
        "tracemill"
    }
    assert len(needed) > 100, "the environment does not have the extras installed"
    odd = {name: said for name in needed if not all(map(PERMISSIVE.match, said := licences(name)))}
    assert {name: said for name, said in odd.items() if name not in LICENCE_EXCEPTIONS} == {}
    assert set(LICENCE_EXCEPTIONS) & needed == set(LICENCE_EXCEPTIONS) & set(odd), "an exception is needed no more"
