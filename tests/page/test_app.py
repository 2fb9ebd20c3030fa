"""What the page's program answers over HTTP: to the browser that was given its address, and to nobody else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openpage
import pytest
from PIL import Image

from lowmem_resnet20.client.checks import check_range
from lowmem_resnet20.model import picture as pictures
from lowmem_resnet20.model.picture import decode_picture
from lowmem_resnet20.page import app as apps
from lowmem_resnet20.page import session as sessions
from lowmem_resnet20.page.app import make_app
from lowmem_resnet20.page.classification import Classifier
from lowmem_resnet20.page.guard import Guard
from lowmem_resnet20.page.session import Session
from miniature import random_picture

httpx = pytest.importorskip("httpx")
testclient = pytest.importorskip("starlette.testclient")

HOST = "127.0.0.1:8123"
ORIGIN = f"http://{HOST}"
STATIC = ("/", "/index.html", "/style.css", "/page.js", "/icon.svg")


@dataclass
class Served:
    guard: Guard
    session: Session

    def client(self, **headers: str) -> httpx.Client:
        """A browser on the page, that has not opened it yet."""
        given = {"origin": ORIGIN, "sec-fetch-site": "same-origin"} | headers
        return testclient.TestClient(self.guard, base_url=ORIGIN, headers=given, raise_server_exceptions=False)

    def opened(self) -> httpx.Client:
        client = self.client()
        assert client.post("/session", content=self.guard.ticket).status_code == 204
        return client


@pytest.fixture
def served(tmp_path) -> Served:
    session = Session(1)
    set_ = openpage.SETS[6]
    client = SimpleNamespace(set=set_, foresee=lambda pixels, name: check_range(pixels, set_, openpage.WEIGHTS, name))
    classifier = Classifier(client, lambda job: pytest.fail("it must not evaluate"), tmp_path)
    return Served(make_app(session, classifier.look, {"set": 6}, (HOST, "localhost:8123")), session)


# --- who may ask ------------------------------------------------------------------------------------------


def test_the_ticket_opens_the_page_and_a_cookie_keeps_it_open(served):
    client = served.client()
    assert client.get("/pictures/1.png").status_code == 401
    answer = client.post("/session", content=served.guard.ticket)
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(r"lowmem-resnet20-8123=[\w-]{43}; HttpOnly; Path=/; SameSite=strict", cookie)
    assert served.guard.ticket not in cookie
    assert client.get("/pictures/1.png").status_code == 404


@pytest.mark.parametrize("ticket", ["", "x" * 43, "é" * 43, "x" * 5000])
def test_another_ticket_does_not(served, ticket):
    client = served.client()
    answer = client.post("/session", content=ticket.encode())
    assert answer.status_code == 403 and "set-cookie" not in answer.headers
    assert client.get("/session").status_code == 405


@pytest.mark.parametrize("host", ["evil.example:8123", "evil.example", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.:8123"])
def test_under_another_name_there_is_nothing(served, host):
    """As after DNS rebinding: a name of someone else's that leads here."""
    client = served.opened()
    for path in (*STATIC, "/events", "/session"):
        assert client.get(path, headers={"host": host}).status_code == 421
    assert client.post("/pictures", headers={"host": host, "origin": f"http://{host}"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": ORIGIN, "sec-fetch-site": "same-site"},
        {"origin": ""},
    ],
)
def test_pages_of_other_sites_can_change_nothing(served, headers):
    client = served.opened()
    for method, path in (("POST", "/pictures"), ("DELETE", "/pictures/1"), ("POST", "/pictures/1/again")):
        assert client.request(method, path, headers=headers).status_code == 403
    assert served.client().post("/session", content=served.guard.ticket, headers=headers).status_code == 403


def test_pages_of_other_sites_can_read_nothing_but_what_is_in_the_package(served):
    client = served.opened()
    for path in ("/events", "/pictures/1.png", "/runs/1.png"):
        assert client.get(path, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert (
        client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200
    )  # a link in a terminal leads here


def test_a_cookie_of_another_program_does_not_open_it(served):
    client = served.client()
    client.cookies.set("lowmem-resnet20-8123", served.guard.ticket)
    assert client.get("/events").status_code == 401


def test_every_answer_forbids_what_the_page_does_not_need(served):
    client = served.opened()
    answers = [client.get(path) for path in (*STATIC, "/none", "/pictures/1.png")]
    answers += [served.client().get("/events"), client.get("/", headers={"host": "evil.example"})]
    assert [answer.status_code for answer in answers] == [*[200] * len(STATIC), 404, 404, 401, 421]
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy[f"{what}-src"] for what in ("script", "style", "img", "connect")} == {"'self'"}
        assert {policy[what] for what in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_the_page_names_no_other_address_and_has_nothing_inline(served):
    client = served.client()
    page = client.get("/").text
    assert page == client.get("/index.html").text
    for text in (client.get(path).text for path in STATIC):
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]* src=)", page)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", client.get("/page.js").text)
    types = [client.get(path).headers["content-type"].partition(";")[0] for path in STATIC]
    assert types[0] == "text/html" and types[2] == "text/css" and types[3].endswith("/javascript")


@pytest.mark.parametrize("path", ["/../guard.py", "/%2e%2e/guard.py", "/..%2fguard.py", "//etc/passwd", "/static/"])
def test_nothing_outside_the_page_can_be_read(served, path):
    assert served.opened().get(path).status_code == 404


# --- pictures ---------------------------------------------------------------------------------------------


def photograph(width: int = 60, height: int = 40) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def test_a_photograph_is_taken_as_the_word_resize_does(served):
    client, content = served.opened(), photograph()
    answer = client.post("/pictures?name=a.png", content=content)
    assert (answer.status_code, answer.json()) == (201, {"id": 1})
    expected = decode_picture(content, Path("a.png"), openpage.WIDTH, resize=True)
    assert np.array_equal(served.session.picture(1).pixels, expected)
    shown = client.get("/pictures/1.png")
    assert shown.headers["content-type"] == "image/png"
    assert np.array_equal(decode_picture(shown.content, Path("b"), openpage.WIDTH), expected)


def test_a_picture_of_the_networks_size_is_taken_as_it_is(served):
    content = openpage.png_of(random_picture(openpage.ARCHITECTURE, np.random.default_rng(1)))
    served.opened().post("/pictures?name=a.png", content=content)
    exact = decode_picture(content, Path("a"), openpage.WIDTH)
    assert np.array_equal(served.session.picture(1).pixels, exact)


@pytest.mark.parametrize(
    "content, error",
    [
        (b"", "a.png is empty"),
        (b"no picture", "a.png is not a JPEG or PNG picture"),
        (photograph()[:200], "a.png is damaged or cut short"),
    ],
)
def test_what_is_no_picture_is_told_in_the_command_lines_words(served, content, error, tmp_path, run):
    answer = served.opened().post("/pictures?name=a.png", content=content)
    assert (answer.status_code, answer.json()["error"]) == (422, error)
    assert served.session.listen(lambda key: None)["pictures"] == []
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(pictures.PictureError) as caught:
        pictures.read_picture(tmp_path / "a.png", resize=True)
    assert caught.value.message.replace(f"{tmp_path}/", "") == error
    assert caught.value.hint == answer.json()["hint"]


def test_one_that_is_too_large_need_not_come_and_cannot(served, monkeypatch):
    """300 MB by what the browser says of it; or, where it says less, as far as it may be."""
    client = served.opened()
    answer = client.post("/pictures?name=a.jpg&bytes=300000000")
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "a.jpg is larger than 250 MB", "hint": "scale it down first"},
    )
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", 1_000_000)
    came = []

    async def receive() -> dict:
        came.append(1)
        return {"type": "http.request", "body": bytes(100_000), "more_body": len(came) < 100}

    status, answer = asyncio.run(posted(served, "name=a.jpg&bytes=10", receive))
    assert (status, answer["error"]) == (422, "a.jpg is larger than 1 MB") and len(came) == 11
    assert client.post("/pictures?name=a.png&bytes=x", content=photograph()).status_code == 201


def test_one_that_stops_on_its_way_does_not_hold_up_the_others(served, monkeypatch):
    monkeypatch.setattr(apps, "_SILENCE", 0.2)
    sent = iter([{"type": "http.request", "body": b"abc", "more_body": True}])

    async def stalled() -> dict:
        for message in sent:
            return message
        await asyncio.sleep(3600)
        raise AssertionError

    async def whole() -> dict:
        return {"type": "http.request", "body": photograph(), "more_body": False}

    async def both() -> list[tuple[int, dict]]:
        return await asyncio.gather(posted(served, "name=a.png", stalled), posted(served, "name=b.png", whole))

    (status, stopped), (other, _) = asyncio.run(both())
    assert (status, stopped["error"]) == (422, "a.png stopped on its way to the program") and other == 201


async def posted(served: Served, query: str, receive: Callable[[], Awaitable[dict]]) -> tuple[int, dict]:
    """Status and fields of the answer to a picture that comes as ``receive`` gives it to the program."""
    [cookie] = [f"{name}={value}" for name, value in served.opened().cookies.items()]
    headers, answered = {"host": HOST, "origin": ORIGIN, "cookie": cookie}, []
    scope = {"type": "http", "method": "POST", "path": "/pictures", "query_string": query.encode()}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def send(message: dict) -> None:
        answered.append(message)

    await served.guard(scope, receive, send)
    return answered[0]["status"], json.loads(answered[1]["body"])


def test_a_thousand_are_too_many(served):
    client, content = served.opened(), photograph(16, 16)
    codes = [client.post(f"/pictures?name={i}.png", content=content).status_code for i in range(105)]
    assert codes == [*[201] * sessions.MOST_WAITING, *[429] * 5]
    answer = client.post("/pictures?name=x.png", content=content).json()
    assert answer["error"] == "100 pictures wait, and no more may" and "load_keys" in answer["hint"]


def test_a_warning_comes_before_the_evaluation(served, inputs):
    """Of a picture beyond the ranges, which the miniature's were not measured on; in the command line's words."""
    served.opened().post("/pictures?name=far.png", content=(inputs / "ship.png").read_bytes())
    picture = served.session.picture(1)
    assert picture.foreseen is not None and not picture.foreseen.in_range
    [warning] = picture.as_json()["warnings"]
    assert re.fullmatch(
        r"far\.png comes to \d\.\d\d times what set 6 can take, at [\w.]+: .* wrong", warning["message"]
    )
    assert warning["hint"]


def test_pictures_can_be_removed_and_unknown_ones_cannot(served):
    client = served.opened()
    client.post("/pictures?name=a.png", content=photograph())
    assert client.post("/pictures/1/again").status_code == 204
    assert [client.delete("/pictures/1").status_code for _ in range(2)] == [204, 404]
    for method, path in (("POST", "/pictures/7/again"), ("GET", "/pictures/7.png"), ("GET", "/runs/7.png")):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["error"]) == (404, "there is no such picture")
    assert client.delete("/pictures/x").status_code == 405
    assert client.put("/pictures").status_code == 405


def test_a_name_is_never_markup_nor_controls_the_terminal(served):
    served.opened().post("/pictures", params={"name": "<img src=x>\n\x1b[31m.png"}, content=photograph())
    assert served.session.picture(1).as_json()["name"] == "<img src=x>\\n\\x1b[31m.png"


def test_what_goes_wrong_inside_is_told_without_a_traceback(served, monkeypatch):
    monkeypatch.setattr(served.session, "remove", lambda number: 1 // 0)
    answer = served.opened().delete("/pictures/1")
    assert answer.status_code == 500
    assert answer.json()["error"] == "unexpected ZeroDivisionError: integer division or modulo by zero"


# --- events -----------------------------------------------------------------------------------------------


def test_events_tell_what_there_is_and_then_what_changes(served, monkeypatch):
    """Over a socket, as a browser hears them: the first at once, and a sign of life where nothing changes."""
    from lowmem_resnet20.page.command import listening, serve

    monkeypatch.setattr(apps, "_HEARTBEAT", 0.3)
    with listening("") as sock:
        origin = f"http://127.0.0.1:{sock.getsockname()[1]}"
        served.guard._hosts = (origin.removeprefix("http://"),)
        serve(served.guard, sock)
        client = httpx.Client(base_url=origin, headers={"origin": origin}, timeout=60)
        client.post("/session", content=served.guard.ticket)
        client.post("/pictures?name=a.png", content=photograph())
        with client.stream("GET", "/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(lines) == "event: all"
            there = json.loads(next(lines).removeprefix("data: "))
            assert there["about"] == {"set": 6} and [p["name"] for p in there["pictures"]] == ["a.png"]
            while next(lines) != ": still here":
                pass
            served.session.next_run()
            told = (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))
            changed = [next(told), next(told)]
        assert [fields.get("state") for fields in changed] == ["encrypting", None]
        assert changed[1]["pictures"] == 1 and changed[1]["done"] == []
