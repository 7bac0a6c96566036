"""The page of the lake in SQL, docs/sql.md: its prose from `sql_page.md`, its views and tables from what they are.

`python -m tracemill.warehouse.sql_page docs/sql.md` writes it.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb

from tracemill.schema import TABLES, Table
from tracemill.warehouse import layout, meanings

_PAGE = Path(__file__).with_name("sql_page.md")


def page() -> str:
    """The whole page, in Markdown."""
    text = _PAGE.read_text(encoding="utf-8")
    columns = relations()
    told = meanings.tables()
    views = layout.views()
    ordered = [name for name in meanings.views_in_order() if name in views]
    ordered += [name for name in views if name not in ordered]
    return (
        text.replace("{list of views}", _listed((name, meanings.view(name, views[name], ()).about) for name in ordered))
        .replace("{list of tables}", _listed((name, one.about) for name, one in told.items()))
        .replace(
            "{views}",
            "\n\n".join(_section(name, meanings.view(name, views[name], columns[name]), columns) for name in ordered),
        )
        .replace(
            "{tables}",
            "\n\n".join(_section(name, told[name], columns, _kept(table)) for name, table in TABLES.items()),
        )
    )


def relations() -> dict[str, dict[str, str]]:
    """Every table and view of the lake to its columns and their types, in order."""
    with duckdb.connect() as con:
        for table in TABLES.values():
            con.execute(layout.table_ddl(table)[0])
        for name, select in layout.views().items():
            con.execute(f'CREATE VIEW "{name}" AS {select}')
        return {
            name: {str(row[0]): str(row[1]) for row in con.execute(f'DESCRIBE "{name}"').fetchall()}
            for name in (*TABLES, *layout.views())
        }


def _listed(entries: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"| [`{name}`](#{name}) | {_first(about)} |" for name, about in entries)


def _first(about: str) -> str:
    """The first sentence: what a row is."""
    return about.split(". ")[0].split(": ")[0].rstrip(".")


def _section(name: str, meaning: meanings.Meaning, columns: Mapping[str, Mapping[str, str]], kept: str = "") -> str:
    rows = (f"| `{one}` | {columns[name][one]} | {_cell(text)} |" for one, text in meaning.columns.items())
    about = "\n\n".join(text for text in (meaning.about, kept) if text)
    return "\n".join([f"### `{name}`", "", about, "", "| column | type | meaning |", "|---|---|---|", *rows])


def _kept(table: Table) -> str:
    """What makes a row of the table unique, and how its files are laid out: what a fast query asks by."""
    said = [f"One row per {_names(table.key)}."]
    if table.partition_by:
        said.append(f"A file holds one {_names(table.partition_by)}.")
    if table.sort_by:
        said.append(f"Rows are in order of {_names(table.sort_by)}.")
    return " ".join(said)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
