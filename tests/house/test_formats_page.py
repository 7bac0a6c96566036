"""docs/formats.md is what the readers say of themselves, and they say it well."""

from pathlib import Path

import pytest

from tracemill.ingest import FORMATS, catalogue
from tracemill.ingest.dialects import DIALECTS
from tracemill.ingest.reader import About
from tracemill.ingest.scores import INDIRECT

WRITTEN = "python -m tracemill.ingest.catalogue docs/formats.md"


def test_the_page_of_formats_is_written_from_the_registries(root: Path) -> None:
    if (root / "docs/formats.md").read_text(encoding="utf-8") != catalogue.page():
        pytest.fail(f"docs/formats.md is stale; write it again: {WRITTEN}", pytrace=False)


@pytest.mark.parametrize("name", [one.name for one in (*FORMATS, *DIALECTS)])
def test_every_reader_says_what_it_maps_and_what_it_lacks(name: str) -> None:
    about: About = next(one.about for one in (*FORMATS, *DIALECTS) if one.name == name)
    for text in (about.title, about.maps, about.lacks):
        assert text == text.strip() != ""
        assert not text.endswith("."), text
        assert "\n" not in text
        assert len(text) <= 420, text


def test_names_are_unique_and_formats_say_which_files_they_read() -> None:
    for registry in (FORMATS, DIALECTS):
        names = [one.name for one in registry]
        assert len(names) == len(set(names))
    assert [one.name for one in FORMATS if not one.about.files] == []


def test_every_key_that_feedback_can_be_joined_on_is_named() -> None:
    from tracemill.ingest.formats.feedback import KEYS

    assert [key for key in (*KEYS, *INDIRECT, "attributes.NAME") if f"`{key}`" not in catalogue.page()] == []
