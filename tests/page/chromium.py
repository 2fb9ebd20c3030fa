"""A headless Chromium, driven by the protocol of its developer tools."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless=new", "--no-first-run", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip
#: Longer than any wait but one without end: a busy machine may have to compile the kernels first.
_SECONDS = 600
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Escape": 27}
#: Anything that Chromium says against what the page does.
_COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown", "Audits.issueAdded")


class Tab:
    """One page.  requested: addresses of all it asked for; complaints: what the browser says it did wrong."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self._connection, self._number = connection, 0
        self.requested: list[str] = []
        self.complaints: list[Any] = []
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        elif message.get("method") in _COMPLAINTS and "PerformanceIssue" not in str(message["params"].get("issue")):
            self.complaints.append(message["params"])

    def close(self) -> None:
        self.call("Page.close")
        self._connection.close()

    def evaluate(self, expression: str) -> Any:
        """The value of some JavaScript; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = _SECONDS) -> Any:
        """Until it is true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression}\n{self.evaluate('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def press(self, key: str, shift: bool = False) -> None:
        text = {"Enter": "\r", " ": " "}.get(key, "")
        fields = {"key": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **fields)
        self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def drop(self, selector: str, *files: Path) -> None:
        """Files dragged from elsewhere onto an element."""
        x, y = self.evaluate(
            f"(() => {{ const r = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def choose(self, selector: str, *files: Path) -> None:
        """Files chosen in the dialogue of an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def emulate(self, **features: str) -> None:
        """Such as ``prefers_color_scheme="dark"``."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def size(self, width: int, height: int, scale: float = 1) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def screenshot(self, path: Path, whole: bool = True) -> None:
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def accessible(self) -> list[dict[str, Any]]:
        """Role, name and properties of all that a screen reader is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                **{p["name"]: p["value"].get("value") for p in node.get("properties", ())},
                **({"value": node["value"]["value"]} if "value" in node else {}),
            }
            for node in nodes
            if not node["ignored"]
        ]


@contextmanager
def chromium(folder: Path) -> Iterator[Callable[[], Tab]]:
    """A browser with an empty profile in ``folder``; gives what opens a tab."""
    assert PROGRAM
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [PROGRAM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdout=log, stderr=log, env=os.environ | {"HOME": str(folder)},
        )  # fmt: skip
    tabs: list[websocket.WebSocket] = []
    try:
        port = _port(folder / "log", process)

        def tab() -> Tab:
            browser = websocket.create_connection(_browser(folder / "log"), timeout=_SECONDS, suppress_origin=True)
            tabs.append(browser)
            browser.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
            while (answer := json.loads(browser.recv())).get("id") != 1:
                pass
            target = answer["result"]["targetId"]
            address = f"ws://127.0.0.1:{port}/devtools/page/{target}"
            tabs.append(websocket.create_connection(address, timeout=_SECONDS, suppress_origin=True))
            return Tab(tabs[-1])

        yield tab
    finally:
        for connection in tabs:
            connection.close()
        process.terminate()
        process.wait()


def _browser(log: Path) -> str:
    found = re.search(r"DevTools listening on (ws://\S+)", log.read_text())
    return found[1] if found else ""


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + _SECONDS
    while not (address := _browser(log)):
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    return int(address.split(":")[2].partition("/")[0])
