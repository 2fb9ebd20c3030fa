"""The figures that are committed are those that the packing's code draws today."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import figures

#: Drawn by hand.
BY_HAND = {"overview"}


def shown(svg: str) -> list[tuple[str, str]]:
    """Texts and fills."""
    return re.findall(r'>([^<>]+)</text>|fill="(#\w+)"', svg)


@pytest.mark.parametrize("draw", figures.DRAWINGS, ids=lambda draw: draw.__name__)
def test_a_figure_is_drawn_from_the_code_as_it_is(draw):
    """Every text and every colour, in their order; where exactly they stand depends on matplotlib's version."""
    committed = shown((figures.FIGURES / f"{draw.__name__}.svg").read_text(encoding="utf-8"))
    assert shown(figures.source(draw)) == committed, "draw them again: scripts/figures.py"
    assert len(committed) > 2 * figures.CHANNELS * figures.SIDE


def test_every_figure_is_drawn_or_by_hand():
    assert {path.stem for path in figures.FIGURES.iterdir()} == BY_HAND | {draw.__name__ for draw in figures.DRAWINGS}


def test_the_script_writes_all_of_them(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["figures.py", "--output", str(tmp_path / "drawn")])
    figures.main()
    for draw in figures.DRAWINGS:  # the same each time: without a date, or ids of chance
        path = tmp_path / "drawn" / f"{draw.__name__}.svg"
        assert path.read_text(encoding="utf-8") == figures.source(draw)
    assert len(list((tmp_path / "drawn").iterdir())) == len(figures.DRAWINGS)


def test_every_pixel_arrives_once():
    """The gather moves each result to a slot of its own, and each channel's pixels come to lie together."""
    owner, pixel, steps = figures.gathering()
    *_, main, shortcut = (source for _, _, source in steps)
    assert sorted([*main, *shortcut]) == list(range(len(owner)))
    channels = figures.CHANNELS
    assert owner[main].tolist() == [channel for channel in range(channels) for _ in range(4)]
    assert owner[shortcut].tolist() == [channels + channel for channel in range(channels) for _ in range(4)]
    assert pixel[main].tolist() == pixel[shortcut].tolist() == [0, 1, 2, 3] * channels
