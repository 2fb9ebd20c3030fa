"""What was measured, in scripts/measurements.json, and the tables of it in the texts.

    scripts/measurements.py      write all tables anew

The file has a section for each script that measures, with the origin of its rows: one of another origin is never put
beside them, the older ones go.  A text has a table between ``<!-- measured: NAME -->`` and ``<!-- /measured -->``; it
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
from tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "scripts" / "measurements.json"
#: Where texts are.
TEXTS = ("*.md", "*/README.md", "src/*/README.md")
#: Columns of a text's lines.
WIDTH = 118
_PLACE = re.compile(r"(<!-- measured: ([a-z ]+) -->\n)(.*?)(<!-- /measured -->)", re.DOTALL)


def read(file: Path | None = None) -> dict[str, dict[str, Any]]:
    """By section: origin, and rows by name."""
    file = file or FILE
    return json.loads(file.read_text()) if file.exists() else {}


def rows_of(section: str, origin: Origin) -> dict[str, Any]:
    """The rows of a section, if they are of this origin; else none may stand beside new ones."""
    known = read().get(section)
    return dict(known["rows"]) if known and known["origin"] == asdict(origin) else {}


def record(section: str, origin: Origin, rows: dict[str, Any]) -> None:
    """Replace a section, and write the tables anew."""
    sections = read() | {section: {"origin": asdict(origin), "rows": rows}}
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
    section = sections.get(described.section)
    if not section or not section["rows"]:
        return f"Not measured yet: `{described.command}`.\n"
    rows = section["rows"]
    lines = [described.headings(rows), *described.cells(rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    told = textwrap.fill(source(described.command, section), WIDTH, break_on_hyphens=False, break_long_words=False)
    return f"{body}\n{told}\n"


def source(command: str, section: dict[str, Any]) -> str:
    """Command, commits, time, machine and versions of a section's rows, in a sentence or two."""
    rows, origin = list(section["rows"].values()), section["origin"]
    commits = dict.fromkeys(row["commit"] + (" with changes" if row["changed"] else "") for row in rows)
    named = ("commit " if len(commits) == 1 else "the same code at commits ") + ", ".join(commits)
    times = sorted(row["time"] for row in rows)
    when = " to ".join(dict.fromkeys((times[0], times[-1]))) + " UTC"
    return f"`{command}`, {named}, {when}. {origin['machine']}; {origin['versions']}."


def texts(root: Path) -> Iterator[Path]:
    for pattern in TEXTS:
        yield from sorted(root.glob(pattern))


if __name__ == "__main__":
    write_tables()
