"""What was measured, in scripts/measurements.json, and the tables of it in the texts.

    scripts/measurements.py      write all tables anew

The file has a section for each script that measures, and in it rows by name, each with its origin: code, weights,
machine and versions.  A row stays until it is measured anew; below a table stands which of its rows are of which
origin.  A text has a table between ``<!-- measured: NAME -->`` and ``<!-- /measured -->``; it
is written again whenever a row is recorded.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lowmem_resnet20.machine.files import atomic_write
from origin import Origin
from tables import TABLES, Table

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "scripts" / "measurements.json"
#: Where texts are.
TEXTS = ("*.md", "*/README.md", "src/*/README.md")
#: Columns of a text's lines.
WIDTH = 118
_PLACE = re.compile(r"(<!-- measured: ([a-z ]+) -->\n)(.*?)(<!-- /measured -->)", re.DOTALL)


def read(file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the rows by section and name."""
    file = file or FILE
    return json.loads(file.read_text()) if file.exists() else {}


def rows_of(section: str, origin: Origin) -> dict[str, Any]:
    """Return the rows of a section that are of this origin."""
    return {name: row for name, row in read().get(section, {}).items() if row["origin"] == asdict(origin)}


def record(section: str, origin: Origin, rows: dict[str, Any]) -> None:
    """Put rows of this origin in the place of those of their names, and write the tables anew."""
    renewed = {name: row | {"origin": asdict(origin)} for name, row in rows.items()}
    sections = read()
    sections[section] = sections.get(section, {}) | renewed
    atomic_write(FILE, (json.dumps(sections, indent=1, sort_keys=True) + "\n").encode())
    write_tables()


def write_tables(root: Path | None = None) -> None:
    for path in texts(root or ROOT):
        text = path.read_text(encoding="utf-8")
        renewed = with_tables(text)
        if renewed != text:
            atomic_write(path, renewed.encode())


def with_tables(text: str) -> str:
    """``text`` with each of its tables as the file has it."""
    sections = read()
    return _PLACE.sub(lambda place: place[1] + table(place[2], sections) + place[4], text)


def table(name: str, sections: dict[str, Any]) -> str:
    """A table in Markdown, and below it where its figures come from."""
    described = TABLES[name]
    rows = sections.get(described.section)
    if not rows:
        return f"Not measured yet: `{described.command}`.\n"
    lines = [described.headings(rows), *described.cells(rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    told = (
        textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False) for text in sources(described, rows)
    )
    return f"{body}\n" + "\n\n".join(told) + "\n"


def sources(described: Table, rows: dict[str, Any]) -> list[str]:
    """Return the source of the rows, newest first; of several origins each with the names of its rows."""
    groups: dict[str, dict[str, Any]] = {}
    for name, row in sorted(described.shown(rows).items(), key=lambda item: item[1]["time"], reverse=True):
        groups.setdefault(json.dumps(row["origin"], sort_keys=True), {})[name] = row
    told: list[str] = []
    for group in groups.values():
        named = f"{', '.join(sorted(group))}: " if len(groups) > 1 else ""
        where = "{machine}; {versions}.".format_map(next(iter(group.values()))["origin"])
        if any(where in others for others in told):
            where = "The same machine and versions."
        told.append(f"{named}{source(described.command, group)} {where}")
    return told


def source(command: str, rows: dict[str, Any]) -> str:
    """Return command, commits and time of rows of one origin."""
    commits = dict.fromkeys(row["commit"] + (" with changes" if row["changed"] else "") for row in rows.values())
    named = ("commit " if len(commits) == 1 else "the same code at commits ") + ", ".join(commits)
    times = sorted(row["time"] for row in rows.values())
    when = " to ".join(dict.fromkeys((times[0], times[-1]))) + " UTC"
    return f"`{command}`, {named}, {when}."


def texts(root: Path) -> Iterator[Path]:
    for pattern in TEXTS:
        yield from sorted(root.glob(pattern))


if __name__ == "__main__":
    write_tables()
