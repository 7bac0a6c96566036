"""The page of formats, docs/formats.md, from what the readers and dialects say of themselves.

`python -m tracemill.ingest.catalogue docs/formats.md` writes it.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from tracemill.ingest.dialects import DIALECTS
from tracemill.ingest.formats import FORMATS

_PAGE = Path(__file__).with_name("catalogue.md")


def page() -> str:
    """The whole page, in Markdown."""
    text = _PAGE.read_text(encoding="utf-8")
    formats = _table(
        ("`--format`", "what it is", "what becomes of it", "gaps"),
        (
            (f"`{one.name}`", f"**{one.about.title}**: {one.about.files}", one.about.maps, one.about.lacks)
            for one in FORMATS
        ),
    )
    dialects = _table(
        ("name", "what it is", "what becomes of it", "gaps"),
        ((f"`{one.name}`", one.about.title, one.about.maps, one.about.lacks) for one in DIALECTS),
    )
    return text.replace("{formats}", formats).replace("{dialects}", dialects)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
