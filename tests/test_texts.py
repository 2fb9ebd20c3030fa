"""What the texts say is there: links, commands, paths, tables; and the drawings in them are whole and refer to
nothing."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from documented import code_lines
from lowmem_resnet20 import __version__
from lowmem_resnet20.cli import words
from lowmem_resnet20.errors import ExitCode, UsageError
from lowmem_resnet20.native.keys.keyplan import key_size
from lowmem_resnet20.network.parameters import PARAMETER_SETS, parameter_set

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "lowmem_resnet20"
FOLDERS = ("src", "weights", "inputs", "keys", "scripts", "tests")
TEXTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
DRAWINGS = sorted((ROOT / "src").rglob("figures/*.svg"))

#: Names in the texts of what is not in the repository: what commands make, what users have, what is elsewhere.
ELSEWHERE = {
    "ages.json",
    "RESULT.unfinished",
    "cat/a.png",
    "cifar10_NN_LABEL.png",
    "docs/static_docs/Security.md",
    "foolbox/data",
    "incoming/",
    "jobs.sqlite",
    "jobs/ID/",
    "keys/CLIENT/K/server/",
    "limits.json",
    "manifest.json",
    "STORE/limits.json",
    "uploads/CLIENT/K/",
    "keys/exp5/server",
    "keys/exp6",
    "keys/exp6/server",
    "service/token",
    "keys/expN/client",
    "keys/expN/server",
    "DIR/expN",
    "expN/client/",
    "expN/server/",
    "picture.ct",
    "pictures.jsonl",
    "result.ct",
    "secret.key",
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
}
#: A name of a file: it has a folder before it, or one of these endings.
PATH = re.compile(
    r"[\w.*-]+(/[\w.*-]*)+|[\w.*-]+\.(py|md|json|jsonl|toml|sh|svg|cff|safetensors|ct|key|jpg|png|unfinished)"
)
#: In place of what a reader puts in.
EXAMPLES = {
    "N": "6", "SET": "6", "CT": "a.ct", "..": "", "JOB": "6-0123456789abcdef01234567", "R,G,B": "1,1,1",
    "COUNT": "10",
    "HOST:PORT": "127.0.0.1:8642", "URL": "http://127.0.0.1:8642", "PICTURE": "inputs/vale.jpg", "NUMBER": "1e-4",
    "NAME": "ben",
    "PIXELS": "16",
}  # fmt: skip
#: Whether an option's words are right is seen beside a command that takes it.
BARE = (
    "generate_keys 6", "load_keys 6", "encrypt 6 output o.ct", "evaluate 6 a.ct output o.ct", "decrypt 6 a.ct",
    "decrypt 6 a.ct input a.png", "import_weights a b pictures c", "serve 6", "token add ben", "page 6 server http://127.0.0.1:8642",
    "load_keys 6 server http://127.0.0.1:8642", "evaluate 6 a.ct", "encrypt 6", "load_keys 6 input a.png", "estimate 6",
)  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=name_of)


def prose(text: str) -> str:
    """The text without its code blocks."""
    kept, inside, before = [], False, ""
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
        elif not inside and not (line.startswith("    ") and (not before.strip() or before.startswith("    "))):
            kept.append(line)
        before = line
    return "\n".join(kept)


def spans(text: str) -> list[str]:
    """What stands in backticks in the prose, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(text))]


def anchors(path: Path) -> set[str]:
    """Of a text's headings, as the sites that show it make them."""
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[tuple[str, str]]:
    """(text, target) of each."""
    return re.findall(r"\[([^\]]+)\]\(([^)\s]+)\)", prose(text))


def examples(line: str) -> list[str]:
    """The words of a command, with something in place of what a reader puts in."""
    return [word for word in (EXAMPLES.get(word, word) for word in shlex.split(line)) if word]


# --- links, paths -----------------------------------------------------------------------------------------


@each(TEXTS)
def test_every_link_leads_somewhere(path):
    for shown, target in links(path.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        aim = (path.parent / file).resolve() if file else path
        assert aim.exists(), f"{shown}: {target}"
        assert aim.is_relative_to(ROOT), f"{shown}: {target}"
        assert not anchor or anchor in anchors(aim), f"{shown}: {target}"


def is_there(name: str, text: Path) -> bool:
    """As a path from the root, from the text's folder, from the package or among the pictures; of modules without their
    ending."""
    for folder in (ROOT, text.parent, PACKAGE, ROOT / "inputs"):
        if "*" in name:
            if any(folder.glob(name)):
                return True
        elif (folder / name).exists() or (not name.endswith("/") and (folder / f"{name}.py").exists()):
            return True
    return False


@each(TEXTS)
def test_every_path_is_there(path):
    named = {span for span in spans(path.read_text()) if PATH.fullmatch(span) and span not in ELSEWHERE}
    assert not [name for name in named if not is_there(name, path)]


def test_what_is_elsewhere_is_named():
    named = {span for path in TEXTS for span in spans(path.read_text())}
    assert named >= ELSEWHERE


# --- commands ---------------------------------------------------------------------------------------------


@each(TEXTS)
def test_every_command_of_the_program_is_understood(path):
    text = path.read_text()
    for line in [*code_lines(text), *spans(text)]:
        if line.startswith(f"{words.PROGRAM} ") and line.split()[1] not in ("--help", "--version", "help"):
            assert words.parse(examples(line)[1:])


@each(TEXTS)
def test_commands_and_options_in_backticks_are_understood(path):
    """Such as ``generate_keys N passphrase``, or ``verbose 2``, which any command will do to try."""
    for span in spans(path.read_text()):
        first, *more = span.split()
        if span in words.COMMANDS:
            continue
        if more and {first, f"{first} {more[0]}"} & words.COMMANDS.keys():
            assert words.parse(examples(span))
        elif more and first in words.OPTIONS:
            assert any(parses([*bare.split(), *examples(span)]) for bare in BARE), span


def parses(given: list[str]) -> bool:
    try:
        words.parse(given)
    except UsageError:
        return False
    return True


def test_every_word_is_described():
    text = "\n".join(path.read_text() for path in TEXTS)
    lines = [line.split() for line in code_lines(text) if line.startswith(words.PROGRAM)]
    described = set()
    for line in [*map(str.split, spans(text)), *lines]:
        described |= {*line, *map(" ".join, pairwise(line))}
    assert set(words.COMMANDS) - {"help"} <= described
    assert set(words.OPTIONS) <= described


class Understood(Exception):
    """The script has read its arguments."""


def script_lines() -> list[tuple[str, str]]:
    """(text, line) of each command that runs a script."""
    found = []
    for path in TEXTS:
        text = path.read_text()
        found += [(name_of(path), line) for line in [*code_lines(text), *spans(text)] if line.startswith("scripts/")]
    return sorted(set(found))


@pytest.mark.parametrize(("text", "line"), script_lines())
def test_every_command_of_a_script_is_understood(monkeypatch, text, line):
    name, *arguments = examples(line)
    script = ROOT / name
    assert script.exists()
    if script.suffix != ".py" or not arguments:
        return
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.chdir(ROOT)
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *given, **named):
        parse(self, *given, **named)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        module = importlib.import_module(script.stem)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "torchvision", "matplotlib", "sklearn"):
            raise
        pytest.skip(f"{error.name} is not installed")
    with pytest.raises(SystemExit if "--help" in arguments else Understood):
        module.main()


def test_every_script_is_listed():
    listed = (ROOT / "scripts" / "README.md").read_text()
    for path in (ROOT / "scripts").iterdir():
        if path.is_file() and path.name != "README.md":
            assert f"`{path.name}`" in listed, path.name


# --- tables -----------------------------------------------------------------------------------------------


def rows(path: Path, *headings: str) -> list[dict[str, str]]:
    """Of every table that has these headings, the rows by heading."""
    found: list[dict[str, str]] = []
    columns: list[str] = []
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            columns = []
        elif not columns:
            columns = cells
        elif set(headings) <= set(columns) and not set("".join(cells)) <= set("-:"):
            found.append(dict(zip(columns, cells, strict=True)))
    return found


def test_exit_codes():
    table = rows(PACKAGE / "USAGE.md", "code", "name")
    assert {int(row["code"]): row["name"] for row in table} == {code.value: code.name.lower() for code in ExitCode}


def set_of(row: dict[str, str]):
    return parameter_set(int(row["set"]), row["engine"].partition(",")[0].lower())


def described(set_) -> dict[str, str]:
    """What the tables say of a parameter set."""
    refresh = set_.refresh
    return {
        "ReLU": f"{'Fourier' if refresh.functional else 'Chebyshev'}, degree {refresh.degree}",
        "primes, bits": f"{set_.first_modulus_bits} + {set_.multiplicative_depth} x {set_.scaling_bits}",
        "special": f"{set_.special_towers} x 60",
        "digits": str(set_.large_digits),
        "levels": f"{set_.refresh_levels} + {set_.usable_levels} + {set_.reserve_levels}",
        "log2 QP": str(set_.log2_qp),
        "rotation key": key_size(set_),
    }


@each([ROOT / "README.md", PACKAGE / "README.md"])
def test_the_tables_of_sets(path):
    table = rows(path, "set", "engine", "log2 QP")
    assert table
    for row in table:
        facts = described(set_of(row))
        assert {name: row[name] for name in facts if name in row} == {n: fact for n, fact in facts.items() if n in row}


def test_the_full_table_has_every_set():
    table = rows(PACKAGE / "README.md", "set", "engine", "log2 QP")
    assert sorted((s.number, s.engine) for s in map(set_of, table)) == sorted(PARAMETER_SETS)


def test_how_the_originals_sets_differ():
    text = (PACKAGE / "README.md").read_text()
    for name, fact in (("digits", "large_digits"), ("log2 QP", "log2_qp"), ("ReLU degree", "refresh.degree")):
        [line] = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
        ours = line.strip("|").split("|")[2::2]
        owner, _, field = fact.rpartition(".")
        sets = [parameter_set(number) for number in (1, 2, 3, 4)]
        assert [int(cell) for cell in ours] == [getattr(s.refresh if owner else s, field) for s in sets]


def test_extras():
    section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    table = rows(PACKAGE / "USAGE.md", "extra", "for")
    assert {row["extra"].strip("`") for row in table} == set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))


# --- the README, the citation -----------------------------------------------------------------------------


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 130


@each(TEXTS)
def test_lines_are_short(path):
    """But for tables, and links that are longer."""
    long = [line for line in path.read_text().splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not [line for line in long if "https://" not in line]


def test_the_demo_does_what_the_readme_says():
    demo = (ROOT / "scripts" / "demo").read_text()
    assert "generate_keys 6" in demo and "load_keys 6 input inputs/vale.jpg plain" in demo


def test_the_readme_states_the_accuracy_that_is_measured():
    """Plain, and of all sets the least and the most."""
    told = " ".join((ROOT / "README.md").read_text().split())
    [(right, of, part, least, most)] = re.findall(
        r"right on (\d+) of (\d+) .*?\(([\d.]+)%\).*? on (\d+) to (\d+)\.", told
    )
    table = rows(ROOT / "scripts" / "README.md", "network", "right")
    measured = {row["network"]: row["right"] for row in table if row["right"].split()[2] == of}
    assert measured.pop("plain") == f"{right} of {of} ({part}%)" and f"{int(right) / int(of):.1%}" == f"{part}%"
    counts = [int(cell.split()[0]) for cell in measured.values()]
    assert (min(counts), max(counts)) == (int(least), int(most))


def test_the_readme_states_the_cheapest_attack():
    """In the table of SECURITY.md."""
    [told] = re.findall(r"takes 2\^([\d.]+) operations", (ROOT / "README.md").read_text())
    table = rows(ROOT / "SECURITY.md", "set", "log2 QP", "primal hybrid, MATZOV")
    costs = [row["primal hybrid, MATZOV"] for row in table]
    assert float(told) == min(float(cost) for cost in costs if re.fullmatch(r"[\d.]+", cost))


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [__version__]
    assert re.findall(r"^title: (.+)$", citation, re.MULTILINE) == [words.PROGRAM]
    assert __version__ in (ROOT / "CHANGELOG.md").read_text()
    assert "10.1142/S0129065724500254" in citation


# --- drawings ---------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


@each(DRAWINGS)
def test_a_drawing_is_whole_and_says_what_it_shows(path):
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    spoken = {element.get("id"): element.text for element in root if element.tag in (f"{SVG}title", f"{SVG}desc")}
    assert sorted(root.get("aria-labelledby", "").split()) == sorted(spoken)
    assert len(spoken) == 2 and all(text and len(text) > 20 for text in spoken.values())
    assert "prefers-color-scheme: dark" in path.read_text()


@each(DRAWINGS)
def test_a_drawing_refers_to_nothing_outside(path):
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    for element in root.iter():
        assert element.tag.removeprefix(SVG) not in ("script", "foreignObject", "iframe")
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert "href" not in name or value.startswith(("#", "data:image/"))
            assert re.findall(r"url\((.)", value) in ([], ["#"])
        assert not re.search(r"@import|url\(", (element.text or "") if element.tag == f"{SVG}style" else "")


@each(DRAWINGS)
def test_a_drawing_is_shown_in_a_text_with_words_in_its_place(path):
    shown = [
        (alt, (text.parent / target).resolve())
        for text in TEXTS
        for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", text.read_text())
    ]
    assert [alt for alt, target in shown if target == path.resolve() and len(alt) > 20]


def test_the_sizes_in_the_picture_are_those_of_the_table():
    [row] = [
        row
        for row in rows(ROOT / "README.md", "set", "server folder")
        if (row["set"], row["engine"]) == ("6", "native")
    ]
    picture = (PACKAGE / "figures" / "overview.svg").read_text()
    up, down = row["up, down"].split(", ")
    folder, unit = row["server folder"].split()
    assert f"{float(folder):.1f} {unit}" in picture and up in picture and down in picture


# --- what no file names -----------------------------------------------------------------------------------

#: Hosts of packages, from right to left, for this file is committed too.
HOSTS = tuple(
    host[::-1] for host in (".ipyp", "detsohnohtyp", ".adnocana", "hcrotyp.daolnwod", "egakcap ipyp", ".sjmpn")
)


def committed() -> list[Path]:
    endings = (".md", ".py", ".sh", ".toml", ".cff", ".svg", ".html", ".js", ".css", ".json", "")
    folders = [path for folder in (*FOLDERS, ".ci") for path in (ROOT / folder).rglob("*")]
    ours = [path for path in (*ROOT.iterdir(), *folders) if path.is_file() and path.suffix in endings]
    return [path for path in ours if "__pycache__" not in path.parts and not path.is_relative_to(ROOT / "keys")]


def test_no_file_names_a_host_of_packages():
    named = {(name_of(path), host) for path in committed() for host in HOSTS if host in path.read_text().lower()}
    assert not named
