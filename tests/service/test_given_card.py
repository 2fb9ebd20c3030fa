"""What a service gives of its network: the card, to who has the token, and no weight."""

from __future__ import annotations

import json

import httpx

from lowmem_resnet20.network.cardfile import LONGEST_CARD, parse_card
from serving import weights


def test_it_gives_its_card(served):
    answer = served.client.get("/v1/card")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert parse_card(answer.content, "it") == weights().card
    assert answer.json()["fingerprint"] == served.client.get("/v1/service").json()["weights"]
    assert set(answer.json()) == {
        "format", "network", "classes", "name", "mean", "std", "largest_logit", "fingerprint",
    }  # fmt: skip
    assert len(answer.content) < LONGEST_CARD and "conv1" not in json.dumps(answer.json())


def test_to_nobody_without_the_token(served):
    for headers in ({}, {"Authorization": "Bearer x"}):
        assert httpx.get(f"{served.client.base_url}/v1/card", headers=headers).status_code == 401
    for method in ("POST", "PUT", "DELETE"):
        assert served.client.request(method, "/v1/card").status_code == 405
