"""How pages become HTML that needs nothing beside itself: their templates, the style they share, shares in words."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def rendered(template: str, values: Mapping[str, Any], filters: Mapping[str, Callable[..., str]] | None = None) -> str:
    """The page of this folder's `template`; every value is escaped unless it is markup."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template).render(values)


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
