"""The service's answers, with keys and ciphertexts that are none and workers that do not compute."""

from __future__ import annotations

import pytest

from serving import FakeWorker, Served, ciphertext, serving


@pytest.fixture
def served(tmp_path):
    FakeWorker.reset()
    with serving(tmp_path / "store") as served:
        yield served


def test_a_job_from_upload_to_result(served: Served, tmp_path):
    name = served.upload()
    status = served.client.get(f"/v1/keys/{name}").json()
    assert status["complete"] and all(f["bytes"] == f["received"] for f in status["files"].values())
    accepted = served.post(name, ciphertext(tmp_path))
    done = served.wait(accepted["job"])
    assert done["state"] == "done" and done["seconds"] == 1.5 and done["peak_bytes"] == 1 << 30, done
    result = served.client.get(f"/v1/jobs/{accepted['job']}/result")
    assert result.status_code == 200 and result.content.endswith(b"logits of a picture")
