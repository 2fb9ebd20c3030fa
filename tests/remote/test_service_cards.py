"""A service with a network of its own, for clients without its weights: the card it gives, kept at first use."""

from __future__ import annotations

import io
import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import fakes
from fakeservice import FakeService
from lowmem_resnet20.cli.main import main
from lowmem_resnet20.client.cards import card_path
from lowmem_resnet20.client.client import Client
from lowmem_resnet20.errors import ExitCode
from lowmem_resnet20.files.keystore import write_manifest
from lowmem_resnet20.network.architecture import RESNET20
from lowmem_resnet20.network.card import Card
from lowmem_resnet20.network.cardfile import card_text, load_card, save_card
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.remote import connection

FOLDER = Path("keys/exp6")
ERROR = "lowmem-resnet20: error: "
#: Names that are not ASCII, and one that looks like markup.
NAMES = ("Halt", "Straße", "止まれ", "<b>bold</b>", "e", "Vorfahrt", "g", "h", "i", "j")


def card_of(name: str = "signs", fingerprint: str = "0123456789abcdef", classes: tuple[str, ...] = NAMES) -> Card:
    return replace(fakes.own_weights().card, name=name, classes=classes, fingerprint=fingerprint)


def give(service: FakeService, card: Card) -> None:
    service.facts["weights"], service.card = card.fingerprint, card_text(card)


@pytest.fixture
def private(service) -> FakeService:
    give(service, card_of())
    return service


def load(run, service: FakeService, *words: str):
    """Of the first encryption the stand-in for a client finds class 5."""
    fakes.entries.clear()
    return run("load_keys", "6", "server", service.url, "verbose", "-1", *words)


def test_the_first_use_shows_the_card_and_keeps_it(run, client, private):
    """Before anything is encrypted; the second finds it."""
    path = card_path(FOLDER, private.url)
    done = load(run, private)
    assert done.code == ExitCode.OK and "class   Vorfahrt\n" in done.out
    assert done.err == (
        f"the network of the service at {private.url}, by its card, which is kept in {path}:\n"
        "network  signs, a ResNet-20 of channels 16/32/64, for 32x32 pictures of 3 colours in 10 classes\n"
        f"classes  {', '.join(NAMES)}\n"
        "weights  0123456789abcdef\n"
    )
    assert load_card(path) == card_of() and private.requests[:2] == ["GET /v1/service", "GET /v1/card"]
    again = load(run, private, "json")
    line = json.loads(again.out)
    assert again.err == "" and (line["class"], line["range"], line["warnings"]) == ("Vorfahrt", None, [])


def test_of_many_classes_some_are_shown(run, client, private):
    classes = tuple(f"class {number}" for number in range(43))
    card = card_of(classes=classes)
    give(private, replace(card, architecture=replace(card.architecture, classes=43)))
    assert f"\nclasses  {', '.join(classes[:16])} and 27 more\n" in load(run, private).err


def test_a_stream_that_lacks_a_letter_is_given_an_escape(client, private):
    out, err = (io.TextIOWrapper(io.BytesIO(), "ascii") for _ in range(2))
    give(private, card_of(classes=(*NAMES[:5], "止まれ!", *NAMES[6:])))
    assert main(["load_keys", "6", "server", private.url], out, err) == ExitCode.OK
    assert rb"class   \u6b62\u307e\u308c!" in out.buffer.getvalue()
    assert rb"Stra\xdfe, \u6b62\u307e\u308c" in err.buffer.getvalue()


@pytest.mark.parametrize(
    "other, told",
    [
        (card_of(fingerprint="f" * 16), "of weights ffffffffffffffff"),
        (card_of(classes=(*NAMES[1:], NAMES[0])), "of the same weights"),
        (card_of(name="other"), "of the same weights"),
        (None, f"of weights {fakes.own_weights().fingerprint}"),
    ],
)
def test_another_card_is_refused_until_it_is_named(run, client, private, other, told):
    """Also the program's own network; nothing is encrypted, and what was kept stays."""
    other, path = other or fakes.own_weights().card, card_path(FOLDER, private.url)
    assert load(run, private).code == ExitCode.OK
    give(private, other)
    client.clear()
    refused = load(run, private)
    assert (refused.code, refused.out) == (ExitCode.WEIGHTS, "")
    assert refused.err == (
        f"{ERROR}the service at {private.url} has another card than the one that was kept of it, {told}\n"
        f"hint: ask who runs it; if that is meant, name the new one (card CARD), or remove {path}\n"
    )
    assert (client, load_card(path)) == ([], card_of())
    save_card("new", other)
    named = load(run, private, "card", "new")
    assert named.code == ExitCode.OK and load_card(path) == other
    assert load(run, private).code == ExitCode.OK
    give(private, card_of())
    assert load(run, private).code == ExitCode.WEIGHTS
    path.unlink()
    assert load(run, private).code == ExitCode.OK and load_card(path) == card_of()


def test_the_programs_own_network_is_kept_without_a_word(run, client, service):
    """It is foreseen as ever; and what it is exchanged for later is refused."""
    done = load(run, service, "json")
    assert done.err == "" and json.loads(done.out)["range"] is not None
    assert load_card(card_path(FOLDER, service.url)) == fakes.own_weights().card
    give(service, card_of())
    assert load(run, service).code == ExitCode.WEIGHTS


def test_a_card_that_is_named_must_be_the_services(run, client, private):
    save_card("other", card_of(fingerprint="f" * 16))
    done = load(run, private, "card", "other")
    assert done.code == ExitCode.WEIGHTS and f"the service at {private.url} has other weights\n" in done.err
    assert not card_path(FOLDER, private.url).exists() and private.requests == ["GET /v1/service"]


def test_two_services_have_a_card_each(run, client, private):
    with FakeService() as other:
        give(other, card_of("letters", "f" * 16, tuple("ABCDEFGHIJ")))
        for _ in range(2):
            assert "class   Vorfahrt\n" in load(run, private).out
            assert "class   F\n" in load(run, other).out
        assert len(list((FOLDER / "client" / "cards").iterdir())) == 2


def test_what_was_left_there_is_fetched_by_the_card_that_is_kept(run, client, private):
    """Of the network that was asked then, whatever the service has now, and without its being asked."""
    assert load(run, private).code == ExitCode.OK
    [job] = private.jobs
    give(private, card_of(fingerprint="f" * 16))
    private.requests.clear()
    fetched = run("fetch", job, "server", private.url)
    assert (fetched.code, fetched.err) == (ExitCode.OK, "") and "class   Vorfahrt\n" in fetched.out
    assert private.requests == [f"GET /v1/jobs/{job}/events", f"GET /v1/jobs/{job}/result"]
    save_card("a card", card_of(classes=tuple("ABCDEFGHIJ")))
    assert "class   F\n" in run("fetch", job, "server", private.url, "card", "a card").out
    assert load_card(card_path(FOLDER, private.url)) == card_of()


def test_the_line_about_a_job_that_stays_names_the_card(run, client, private, monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE", connection.Patience(0.3, 0.01, 0.02))
    private.fault = lambda number, request: (
        threading.Thread(target=private.stop).start() if "events" in request else None
    )
    private.held.clear()
    save_card("a card", card_of())
    done = load(run, private, "card", "a card")
    [job] = private.jobs
    assert done.code == ExitCode.SERVER
    assert done.err.endswith(f": lowmem-resnet20 fetch {job} server {private.url} card 'a card'\n")


def test_one_that_cannot_be_kept_is_warned_of(run, client, private):
    (FOLDER / "client" / "cards").write_text("no folder")
    done = load(run, private)
    assert done.code == ExitCode.OK and "class   Vorfahrt\n" in done.out
    warning = "^lowmem-resnet20: warning: .*: next time another card would be taken unseen$"
    assert re.search(warning, done.err, re.MULTILINE)


@pytest.mark.parametrize(
    "card, told",
    [
        (b"", "is not a card of this program"),
        (b"\x1b]0;title\x07", "is not a card of this program"),
        (card_text(card_of()).replace(b"Halt", b"Ha\\u001b[2Jlt"), "cannot be a name"),
        (card_text(card_of(fingerprint="f" * 16)), "is of other weights than it has"),
        (b" " * (1 << 20), "more than the 131072 bytes that can be right"),
    ],
)
def test_what_is_no_card_is_refused_in_a_line(run, client, private, card, told):
    private.card = card
    done = load(run, private)
    assert done.out == "" and done.code in (ExitCode.WEIGHTS, ExitCode.SERVER)
    assert (
        done.err.startswith(ERROR) and told in done.err and len(done.err.splitlines()) <= 2 and "\x1b" not in done.err
    )
    assert client == [] and not (FOLDER / "client" / "cards").exists()


def test_plain_needs_the_weights(run, client, private):
    done = load(run, private, "plain")
    assert (done.code, done.out) == (ExitCode.USAGE, "")
    assert f"{ERROR}plain needs the network's weights, and here is its card alone\n" in done.err
    assert not [call for call in client if call[0] != "load_weights"]


@pytest.mark.parametrize(
    "words, message",
    [
        ("load_keys 6 card c", "to evaluate takes the network's weights, and a card has none"),
        ("page 6 card c", "to evaluate takes the network's weights, and a card has none"),
        ("encrypt 6 output o card c weights w", "weights and card name a network each"),
        ("load_keys 6 card c weights w server http://127.0.0.1:1", "weights and card name a network each"),
        ("evaluate 6 p.ct output o card c", "card does not go with evaluate"),
        ("serve 6 card c", "card does not go with serve"),
        ("decrypt 6 r.ct card c input inputs/dog.png plain", "plain needs the network's weights"),
        ("decrypt 6 r.ct card c input inputs/dog.png checkpoints d", "checkpoints needs the network's weights"),
    ],
)
def test_where_a_card_is_not_enough(run, client, words, message):
    save_card("c", card_of())
    done = run(*words.split())
    assert (done.code, done.out) == (ExitCode.USAGE, "") and done.err.startswith(f"{ERROR}{message}")


def test_keys_of_too_short_a_ring_are_refused_and_the_card_is_there_to_make_others(run, client, private, monkeypatch):
    """Of set 6, for a network of channels 32, 64, 128: the card that was kept names the ring for new keys."""
    wide = replace(card_of(), architecture=replace(RESNET20, channels=(32, 64, 128)))
    give(private, wide)
    monkeypatch.setattr("lowmem_resnet20.client.Client", Client)
    write_manifest(FOLDER / "client", parameter_set(6), "k")
    refused = load(run, private)
    assert refused.code == ExitCode.KEYS and "make keys for it in another folder" in refused.err
    kept = card_path(FOLDER, private.url)
    assert run("generate_keys", "6", "card", str(kept), "keys", "wide").code == ExitCode.OK
    assert (
        fakes.calls[-1] == ("generate_keys", 6, Path("wide/exp6"))
        and parameter_set(6, "", wide.architecture).log2_ring == 16
    )
