"""The page in a real browser: dropped pictures come to ten bars, by mouse, by keyboard and for a screen reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import openpage
import pytest

from lowmem_resnet20.network.architecture import CIFAR10_CLASSES
from lowmem_resnet20.network.forward import forward
from miniature import random_picture
from processes import until
from serving import Process

pytest.importorskip("websocket")
pytest.importorskip("uvicorn")
import chromium
from chromium import Tab

pytestmark = pytest.mark.skipif(not chromium.PROGRAM, reason="there is no Chromium")

PIXELS = [np.rint(255 * random_picture(openpage.ARCHITECTURE, np.random.default_rng(seed))) / 255 for seed in range(2)]
#: The least contrast of text with what is behind it that WCAG 2.2 asks for at level AA, and of large text.
CONTRAST, LARGE_CONTRAST = 4.5, 3.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Keys of the miniature, its weights, two pictures and a file that is none."""
    folder = tmp_path_factory.mktemp("page")
    openpage.make_keys(folder, openpage.SETS[6])
    for number, pixels in enumerate(PIXELS):
        (folder / f"{number}.png").write_bytes(openpage.png_of(pixels))
    (folder / "none.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Callable[[], Tab]]:
    with chromium.chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture(scope="module")
def program(folder) -> Iterator[openpage.Program]:
    with openpage.open_page(folder, 6) as program:
        yield program


@pytest.fixture
def page(browser, program) -> Iterator[Tab]:
    """A tab on the page, which has no pictures yet; it must not have done anything that it should not."""
    tab = browser()
    tab.open(program.address)
    tab.wait("!document.querySelector('#files').disabled")
    yield tab
    while tab.evaluate("!document.querySelector('#remove').closest('#picture').hidden"):
        count = tab.evaluate("document.querySelectorAll('#pictures li').length")
        tab.wait(
            "document.querySelector('#remove').innerText === 'Remove' && [...document.images].every((i) => i.complete)"
        )
        tab.evaluate("document.querySelector('#remove').click()")
        tab.wait(f"document.querySelectorAll('#pictures li').length < {count}")
    refusals = [c for c in tab.complaints if "status of 422" in c.get("entry", {}).get("text", "")]
    assert tab.complaints == refusals
    assert {re.sub(r"(?<=\d)/.*", "", address) for address in tab.requested} == {program.origin}
    tab.close()


def bars(tab: Tab) -> dict[str, tuple[float, float]]:
    """By class, the decrypted logit and the plain network's, as the page writes them."""
    rows = tab.evaluate(
        "[...document.querySelectorAll('#logits tr')].map((row) => row.innerText.split('\\n').join(' '))"
    )
    numbers = [row.replace("\N{MINUS SIGN}", "-").split() for row in rows]
    return {name: (float(decrypted), float(plain)) for name, decrypted, plain in numbers}


def wait_for_answer(tab: Tab, name: str) -> None:
    tab.wait(
        "document.querySelector('#outcome')?.className === 'done' &&"
        f" document.querySelector('#name').innerText === {name!r}"
    )


def check_bars(tab: Tab, pixels: np.ndarray) -> None:
    """As a direct evaluation in the clear, but for what encryption takes from it."""
    shown, plain = bars(tab), forward(openpage.WEIGHTS, pixels)["fc"]
    assert tuple(shown) == CIFAR10_CLASSES
    decrypted, clear = np.array(list(shown.values())).T
    assert np.abs(clear - plain).max() < 6e-4
    assert 1e-4 < np.abs(decrypted - plain).max() < 0.3  # it was encrypted
    assert tab.evaluate("document.querySelector('#outcome').innerText") == CIFAR10_CLASSES[decrypted.argmax()]
    wide = tab.evaluate("[...document.querySelectorAll('.bar.decrypted')].map((b) => b.getBoundingClientRect().width)")
    units = [width / abs(value) for width, value in zip(wide, decrypted, strict=True) if abs(value) > 1]
    assert 1 < max(units) < 1.01 * min(units)  # pixels of a logit, the same in every bar


def test_a_dropped_picture_comes_to_ten_bars(page, folder):
    """And what is seen on the way: the picture, the ciphertext, the layers; then a second one, by the input."""
    page.drop("#drop", folder / "0.png")
    page.wait("document.querySelectorAll('.cell.done').length > 1")
    sizes = page.evaluate("document.querySelector('#sizes').innerText")
    assert re.match(r"A ciphertext of 0\.\d MB\. Some of its numbers", sizes)
    rows = page.evaluate("document.querySelector('#hex').innerText").splitlines()
    assert len(rows) == 8 and all(re.fullmatch(r"[0-9a-f]{8} ( [0-9a-f]{2}){5} 00 00 00", row) for row in rows), rows
    for image, width in (("pixels", openpage.WIDTH), ("noise", 32)):
        assert page.wait(f"document.querySelector('#{image}').naturalWidth") == width
    assert page.evaluate("document.querySelectorAll('.stage').length") == 4
    assert page.evaluate("document.title") == "Being evaluated · 0.png"
    wait_for_answer(page, "0.png")
    assert page.evaluate("document.querySelectorAll('.cell:not(.done)').length") == 0
    assert re.match(
        rf"All {openpage.STEPS} steps in \d+ seconds?\.", page.evaluate("document.querySelector('#now').innerText")
    )
    check_bars(page, PIXELS[0])
    page.choose("#files", folder / "1.png")
    wait_for_answer(page, "1.png")
    check_bars(page, PIXELS[1])


def test_several_tabs_and_one_loaded_again_show_the_same(page, browser, program, folder):
    page.drop("#drop", folder / "0.png", folder / "1.png")
    other = browser()
    other.open(f"{program.origin}/")
    wait_for_answer(other, "1.png")
    page.call("Page.bringToFront")
    wait_for_answer(page, "1.png")
    assert bars(page) == bars(other)
    before = page.evaluate("document.body.innerText")
    page.call("Page.reload")
    wait_for_answer(page, "1.png")
    assert page.evaluate("document.querySelector('#picture').innerText") in before
    assert other.complaints == []
    other.close()


def test_many_tabs_can_be_open(page, browser, program, folder):
    """More than a browser keeps connections to one host: it has some for the tab that is looked at."""
    others = [browser() for _ in range(8)]
    for other in others:
        other.open(f"{program.origin}/")
        other.wait("!document.querySelector('#files').disabled")
    assert others[0].evaluate("document.hidden") and not others[-1].evaluate("document.hidden")
    others[-1].choose("#files", folder / "0.png")
    wait_for_answer(others[-1], "0.png")
    others[0].call("Page.bringToFront")
    wait_for_answer(others[0], "0.png")
    for other in others:
        other.close()
    page.call("Page.bringToFront")
    wait_for_answer(page, "0.png")


def test_another_browser_cannot_look(program, tmp_path):
    """One that has the address without the ticket."""
    with chromium.chromium(tmp_path) as tab:
        stranger = tab()
        stranger.open(f"{program.origin}/")
        stranger.wait("!document.querySelector('#lost').hidden")
        assert "the address that the program printed" in stranger.evaluate("document.querySelector('#lost').innerText")
        assert stranger.evaluate("document.querySelector('#files').disabled")


def test_the_ticket_does_not_stay_in_the_address(page, program):
    assert page.evaluate("location.href") == f"{program.origin}/"
    assert program.ticket not in page.evaluate("document.documentElement.outerHTML")
    assert page.evaluate("document.cookie") == ""


def test_what_is_no_picture_is_told(page, folder):
    """The others go on; the message stays until it is dismissed, which can be done by keyboard."""
    page.drop("#drop", folder / "none.png", folder / "0.png")
    wait_for_answer(page, "0.png")
    said = page.evaluate("document.querySelector('#refused').innerText")
    assert said == "Error: none.png is not a JPEG or PNG picture"
    page.evaluate("document.querySelector('#dismiss').focus()")
    page.press("Enter")
    page.wait("document.querySelector('#refused').hidden && document.activeElement.id === 'files'")


def test_one_that_was_stopped_is_tried_again_or_the_page_says_why_not(page, folder):
    """What the program says when as many pictures wait as may is put in its place here, in the browser."""
    page.drop("#drop", folder / "0.png")
    page.wait("document.querySelector('#now').checkVisibility() && document.querySelectorAll('.cell.done').length > 1")
    page.evaluate("document.querySelector('#remove').click()")
    page.wait("!document.querySelector('#again').hidden")
    page.evaluate(
        "window.asked = window.fetch; window.fetch = async () =>"
        " new Response(JSON.stringify({ error: 'too many wait', hint: 'come again' }), { status: 429 })"
    )
    page.evaluate("document.querySelector('#again').click()")
    page.wait("!document.querySelector('#refused').hidden")
    said = page.evaluate("document.querySelector('#refused').innerText")
    assert said.splitlines() == ["Error: too many wait", "Hint: come again"]
    page.evaluate("window.fetch = window.asked")
    page.evaluate("document.querySelector('#again').click()")
    wait_for_answer(page, "0.png")


def test_stop_cancels_the_job_at_a_service(browser, folder, tmp_path):
    with Process(tmp_path / "store") as service, service.client() as operator:
        words = ["server", service.told["url"], "token", service.told["token_file"]]
        with openpage.open_page(folder, 6, *words) as program:
            tab = browser()
            tab.open(program.address)
            tab.wait("!document.querySelector('#files').disabled")
            tab.drop("#drop", folder / "0.png")
            until(lambda: operator.get("/v1/jobs").json()["jobs"], 300)
            assert tab.evaluate("document.querySelector('#remove').innerText") == "Stop"
            tab.evaluate("document.querySelector('#remove').click()")
            tab.wait("!document.querySelector('#again').hidden")
            assert [job["state"] for job in operator.get("/v1/jobs").json()["jobs"]] == ["cancelled"]
            assert tab.complaints == []
            tab.close()


def test_one_that_is_too_large_is_told_without_being_sent(page, folder, tmp_path):
    large = tmp_path / "large.jpg"
    with open(large, "wb") as file:
        file.truncate(300_000_000)
    page.drop("#drop", large)
    page.wait("!document.querySelector('#refused').hidden")
    said = page.evaluate("document.querySelector('#refused').innerText")
    assert said.splitlines() == ["Error: large.jpg is larger than 250 MB", "Hint: scale it down first"]


def focused(tab: Tab) -> str:
    return tab.evaluate(
        "(() => { const e = document.activeElement; return e.id || e.getAttribute('aria-label') || e.innerText; })()"
    )


def test_all_of_it_by_keyboard(page, folder):
    """In the order it is read: skip link, files, each picture, what can be done with it; each visibly in focus."""
    page.evaluate(
        "window.opened = 0; document.querySelector('#files').addEventListener('click', () => window.opened++)"
    )
    page.press("Tab")
    assert focused(page) == "Skip to the picture"
    page.press("Tab")
    assert focused(page) == "files"
    page.call("Page.setInterceptFileChooserDialog", enabled=True)
    page.press(" ")
    page.wait("window.opened === 1")
    page.choose("#files", folder / "0.png", folder / "1.png")
    wait_for_answer(page, "1.png")
    order = []
    for _ in range(4):
        page.press("Tab")
        order.append(focused(page))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", order
    classes = [page.evaluate(f"document.querySelectorAll('#pictures .state')[{i}].innerText") for i in range(2)]
    assert order == [f"0.png\n{classes[0]}", f"1.png\n{classes[1]}", "remove", "hex"]
    for _ in range(3):
        page.press("Tab", shift=True)
    page.press("Enter")
    page.wait("document.querySelector('#name').innerText === '0.png'")
    check_bars(page, PIXELS[0])
    page.press("Tab")
    page.press("Tab")
    assert focused(page) == "remove"
    page.press("Enter")
    page.wait("document.querySelectorAll('#pictures li').length === 1")
    assert focused(page).startswith("1.png")


def test_a_screen_reader_is_told_what_is_to_be_seen(page, folder):
    """Roles and names of all that can be used or looked at; no image without words; headings without gaps."""
    page.drop("#drop", folder / "0.png")
    wait_for_answer(page, "0.png")
    nodes = page.accessible()
    named = {(node["role"], node["name"]) for node in nodes}
    label = page.evaluate("document.querySelector('#outcome').innerText")
    assert {
        ("main", ""),
        ("button", "Choose pictures or drop them here"),
        ("navigation", "Pictures"),
        ("article", "0.png"),
        ("region", "The picture"),
        ("region", "What the server gets"),
        ("region", "On the server, encrypted"),
        ("region", "Decrypted on this machine"),
        ("image", f"0.png, {openpage.WIDTH} by {openpage.WIDTH} pixels"),
        ("image", "Numbers of the ciphertext as colours: noise without any form"),
        ("columnheader", "Decrypted"),
        ("columnheader", "In the clear"),
        ("rowheader", "Airplane"),
        ("button", "Remove 0.png"),
        ("button", f"0.png {label}"),
    } <= named, named
    [progress] = [node for node in nodes if node["role"] == "progressbar"]
    assert progress["name"] == "On the server, encrypted" and progress["valuemax"] == openpage.STEPS
    said = page.evaluate("document.querySelector('#progress').getAttribute('aria-valuetext')")
    assert progress["value"] == openpage.STEPS and said.startswith(f"All {openpage.STEPS} steps")
    [table] = [node for node in nodes if node["role"] == "table"]
    assert table["name"].startswith(f"The class is {label}. In the clear the network says {label} too")
    assert [node["live"] for node in nodes if node["role"] == "status"] == ["polite"]
    assert page.evaluate("document.querySelector('#spoken').innerText") == f"0.png: Class: {label}"
    for node in nodes:
        if node["role"] in ("button", "link", "textbox", "navigation", "region", "progressbar", "table"):
            assert node["name"], node
    levels = [node["level"] for node in nodes if node["role"] == "heading"]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    assert page.evaluate("document.documentElement.lang") == "en"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


#: Contrast of every piece of text that is seen with the first opaque background behind it.
_CONTRASTS = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !e.checkVisibility() || e.closest(".unseen, .skip, :disabled")) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(parse(style.color)), light(behind(e))].sort((x, y) => y - x);
    found.push([texts.currentNode.data.trim(), (a + 0.05) / (b + 0.05), parseFloat(style.fontSize)]);
  }
  return found;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_can_be_read(page, folder, scheme):
    page.emulate(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    page.drop("#drop", folder / "0.png", folder / "none.png")
    wait_for_answer(page, "0.png")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background))) / 3
    assert (brightness > 200, brightness < 60) == (scheme == "light", scheme == "dark")
    found = page.evaluate(_CONTRASTS)
    assert len(found) > 50 and "Dismiss" in [text for text, *_ in found]
    for text, contrast, size in found:
        assert contrast >= (LARGE_CONTRAST if size >= 24 else CONTRAST), (text, contrast)
    assert page.evaluate("getComputedStyle(document.querySelector('.cell')).transitionDuration") == "0s"


@pytest.mark.parametrize("width", [320, 390, 800])
def test_a_narrow_screen_needs_no_scrolling_sideways(page, folder, width):
    page.size(width, 800)
    page.drop("#drop", folder / "0.png")
    wait_for_answer(page, "0.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.evaluate(
        "[...document.querySelectorAll('th, td, h1, h2, h3, p, button')].filter((e) => e.checkVisibility() &&"
        " e.scrollWidth > e.clientWidth + 1 && e.clientWidth && !e.closest('.unseen, .skip')).map((e) => e.outerHTML)"
    )
    assert cut == []


def test_the_names_of_a_services_own_network_are_text_and_nothing_is_compared(browser, folder, tmp_path):
    """Without the weights there is no column for the network in the clear."""
    names = ("<b>30</b>", "<img src=x onerror=alert(1)>", "止まれ", "Straße", "&amp;", *"fghij")
    with Process(tmp_path / "store", network=replace(openpage.WEIGHTS, classes=names)) as service:
        words = ["server", service.told["url"], "token", service.told["token_file"]]
        with openpage.open_page(folder, 6, *words, weights=False) as program:
            tab = browser()
            tab.open(program.address)
            tab.wait("!document.querySelector('#files').disabled")
            tab.drop("#drop", folder / "0.png")
            wait_for_answer(tab, "0.png")
            rows = tab.evaluate(
                "[...document.querySelectorAll('#logits tr')].map((r) => [...r.cells].map((c) => c.innerText))"
            )
            assert [row[0] for row in rows] == list(names) and {len(row) for row in rows} == {3}
            logits = [float(row[2].replace("\N{MINUS SIGN}", "-")) for row in rows]
            assert np.abs(logits - forward(openpage.WEIGHTS, PIXELS[0])["fc"]).max() < 0.3
            label = names[int(np.argmax(logits))]
            assert tab.evaluate("document.querySelector('#outcome').innerText") == label
            caption = tab.evaluate("document.querySelector('#compared').innerText")
            assert caption.startswith(f"The class is {label}. It is compared with nothing")
            assert not tab.evaluate("document.querySelector('#in-the-clear').checkVisibility()")
            assert tab.evaluate("document.querySelectorAll('.bar.plain, #logits img, #logits b').length") == 0
            assert tab.complaints == []
            tab.close()


def test_when_the_program_has_ended_the_page_says_so(browser, folder):
    with openpage.open_page(folder, 6) as program:
        tab = browser()
        tab.open(program.address)
        tab.wait("!document.querySelector('#files').disabled")
        program.process.terminate()
        program.process.wait()
    tab.wait("!document.querySelector('#lost').hidden")
    assert tab.evaluate("document.querySelector('#lost').innerText").startswith("The program does not answer.")
    tab.close()
