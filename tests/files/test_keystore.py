"""Manifests: each way a key folder can be wrong has its own error."""

import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowmem_resnet20.errors import EnvironmentFault, KeyFolderError
from lowmem_resnet20.files import keystore
from lowmem_resnet20.files.keystore import (
    CONTEXT,
    MANIFEST,
    PUBLIC_KEY,
    RELINEARISATION_KEY,
    FileRecord,
    Manifest,
    check_coverage,
    largest_bytes,
    open_folder,
    write_manifest,
)
from lowmem_resnet20.machine import libraries
from lowmem_resnet20.native.keys.keyplan import key_plan, longest
from lowmem_resnet20.native.ring.chain import CHAIN
from lowmem_resnet20.network.architecture import Architecture
from lowmem_resnet20.network.engines import NATIVE, OPENFHE
from lowmem_resnet20.network.parameters import PARAMETER_SETS
from lowmem_resnet20.network.refresh import ChebyshevRefresh
from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.openfhe.context import power_of_two_rotations
from miniature import ARCHITECTURE, INSECURE_NATIVE_SET, INSECURE_SET, INSECURE_SHORT_SET


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.key").write_bytes(b"a" * 100)
    (tmp_path / "b.key").write_bytes(b"b" * 100)
    (tmp_path / "context.bin").write_bytes(b"c" * 100)
    write_manifest(tmp_path, INSECURE_SET, "id", rotations={"a.key": [1, 2], "b.key": [4]}, stages={"1": ["a.key"]})
    return tmp_path


def edit(folder, **changes):
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_intact(folder):
    manifest = open_folder(folder, INSECURE_SET)
    assert manifest.keys == "id" and manifest.steps(1) == {1, 2} and manifest.steps(2) == frozenset()


def test_missing_folder(tmp_path):
    with pytest.raises(KeyFolderError, match="no key folder") as error:
        open_folder(tmp_path / "exp1", INSECURE_SET)
    assert "generate_keys" in error.value.hint
    with pytest.raises(KeyFolderError, match="no key folder") as error:
        open_folder(tmp_path / "exp1" / "client", INSECURE_SET)
    assert "generate_keys" in error.value.hint


def test_keys_missing_on_the_servers_machine_are_copied_and_not_made(tmp_path):
    """New ones would fit no picture of the client's."""
    with pytest.raises(KeyFolderError, match="no key folder") as error:
        open_folder(tmp_path / "exp1" / "server", INSECURE_SET)
    assert error.value.hint.startswith("copy ") and "generate_keys" not in error.value.hint


def test_no_manifest(folder):
    (folder / MANIFEST).unlink()
    with pytest.raises(KeyFolderError, match="has no manifest"):
        open_folder(folder, INSECURE_SET)


def test_wrong_set(folder):
    with pytest.raises(KeyFolderError, match="keys of set 1, not 2"):
        open_folder(folder, replace(INSECURE_SET, number=2))


def test_the_set_has_changed(folder):
    with pytest.raises(KeyFolderError, match="another ring or other primes than parameter set 1 has now") as caught:
        open_folder(folder, replace(INSECURE_SET, refresh=ChebyshevRefresh(27)))
    assert "generate_keys 1" in caught.value.hint


def test_another_network_on_the_same_primes_is_no_other_folder(folder):
    deeper = replace(ARCHITECTURE, blocks_per_stage=2)
    assert open_folder(folder, replace(INSECURE_SET, architecture=deeper)).keys == "id"


NETWORKS = {
    "deeper": replace(ARCHITECTURE, blocks_per_stage=3),
    "of fewer stages": INSECURE_SHORT_SET.architecture,
    "of fewer classes": replace(ARCHITECTURE, classes=4),
}


@pytest.mark.parametrize("set_", [INSECURE_SET, INSECURE_NATIVE_SET], ids=lambda s: s.engine)
def test_one_folder_serves_every_network_that_needs_no_other_keys(set_, tmp_path):
    """And no other: what is lacking is said, and what to do."""
    folder, manifest = tmp_path / "server", covering(set_)
    check_coverage(folder, manifest, set_)
    for architecture in NETWORKS.values():
        other = replace(set_, architecture=architecture)
        assert other.keys_fingerprint == set_.keys_fingerprint
        check_coverage(folder, manifest, other)
    for architecture, message in (
        (replace(ARCHITECTURE, width=8, channels=(8, 16, 32), classes=4), {OPENFHE: "in stage 1", NATIVE: "rotation-"}),
        (Architecture(width=16, channels=(8, 16), blocks_per_stage=1), {OPENFHE: "2048 slots", NATIVE: "rotation-"}),
    ):
        with pytest.raises(KeyFolderError, match=f"lacks keys that this network needs: .*{message[set_.engine]}") as no:
            check_coverage(folder, manifest, replace(set_, architecture=architecture))
        assert no.value.hint == f"make new keys where the client is, and copy {folder} here from there"


def test_native_keys_that_are_cut_too_short_for_a_network_are_refused(tmp_path):
    manifest = covering(INSECURE_NATIVE_SET)
    shorter = replace(manifest, towers=manifest.towers | {"rotation-1": manifest.towers["rotation-1"] - 1})
    most = manifest.towers["rotation-1"]
    with pytest.raises(KeyFolderError, match=rf"rotation-1\.key serves {most - 1} towers, not {most}"):
        check_coverage(tmp_path, shorter, INSECURE_NATIVE_SET)


@pytest.mark.parametrize("name", [CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY])
def test_a_file_that_openfhe_would_read_unchecked_is_missed(tmp_path, name):
    manifest = covering(INSECURE_SET)
    less = {other: record for other, record in manifest.files.items() if other != name}
    with pytest.raises(KeyFolderError, match=f"its manifest does not name {name}"):
        check_coverage(tmp_path, replace(manifest, files=less), INSECURE_SET)


def covering(set_) -> Manifest:
    """What a manifest says of keys that do what a set's network asks, and no more."""
    names, held = [CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY], {}
    if set_.engine == NATIVE:
        held = {"towers": longest(key_plan(set_))}
        names = [CHAIN, *(f"{name}.key" for name in held["towers"])]
    else:
        rotations = {f"{s}.key": [i % set_.full_slots for i in steps] for s, steps in plan(set_).rotations.items()}
        powers = sorted(power_of_two_rotations(set_))  # in one file, of every stage
        held["rotations"] = {name: sorted({*steps} - {*powers}) for name, steps in rotations.items()}
        held["rotations"] |= {"bootstrapping.key": powers}
        held["stages"] = {name.removesuffix(".key"): [name, "bootstrapping.key"] for name in rotations}
        held["bootstrapping"] = {str(set_.stage_slots(int(stage))): [1, 2] for stage in held["stages"]}
    records = {name: FileRecord(1, "") for name in names}
    return Manifest(set_.number, set_.keys_fingerprint, "", "", records, engine=set_.engine, **held)


def test_other_openfhe(folder):
    edit(folder, openfhe="1.0.4")
    with pytest.raises(KeyFolderError, match=r"made with OpenFHE 1\.0\.4"):
        open_folder(folder, INSECURE_SET)


def test_an_openfhe_that_is_not_here(folder, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "version", missing)
    with pytest.raises(EnvironmentFault, match="OpenFHE"):
        open_folder(folder, INSECURE_SET)


def test_other_format(folder):
    for number in (1, 3):
        edit(folder, format=number)
        with pytest.raises(KeyFolderError, match=f"has format {number}, and this program reads 2") as caught:
            open_folder(folder, INSECURE_SET)
        assert "make new keys" in caught.value.hint


def test_missing_file(folder):
    (folder / "a.key").unlink()
    with pytest.raises(KeyFolderError, match=r"a\.key is missing"):
        open_folder(folder, INSECURE_SET)


def test_truncated_file(folder):
    (folder / "a.key").write_bytes(b"a" * 99)
    with pytest.raises(KeyFolderError, match="99 bytes instead of 100"):
        open_folder(folder, INSECURE_SET)


def test_altered_file(folder):
    (folder / "a.key").write_bytes(b"a" * 99 + b"b")
    with pytest.raises(KeyFolderError, match=r"a\.key has been altered"):
        open_folder(folder, INSECURE_SET)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../secret": {"bytes": 1, "sha256": "0"}}},
        {"files": {"a.key": {"bytes": "1", "sha256": "0"}}},
        {"files": {"manifest.json": {"bytes": 1, "sha256": "0"}}},
        {"files": {"a\0.key": {"bytes": 1, "sha256": "0"}}},
        {"files": {"\ud800.key": {"bytes": 1, "sha256": "0"}}},
        {"files": {f"{'a' * 300}.key": {"bytes": 1, "sha256": "0"}}},
        {"stages": {"9" * 5000: []}},
        {"files": []},
        {"rotations": {"c.key": [1]}},
        {"rotations": {"a.key": ["1"]}},
        {"stages": {"1": ["c.key"]}},
        {"stages": {"1": ["context.bin"]}},
        {"stages": {"one": ["a.key"]}},
        {"stages": {"1" * 5000: ["a.key"]}},  # more digits than Python makes a number of
        {"stages": {"01": ["a.key"]}},
        {"rotations": {"context.bin": [1]}},
        {"rotations": {"a.key": [True]}},
        {"rotations": {"a.key": [1, 1]}},
        {"bootstrapping": {"one": [1]}},
        {"towers": {"secret": 1}},
        {"towers": {"rotation-1": "1"}},
        {"towers": {"rotation-0": 1}},
        {"keys": 5},
        {"unknown": 1},
    ],
)
def test_wrong_types(folder, changes):
    edit(folder, **changes)
    with pytest.raises(KeyFolderError, match="not a manifest"):
        open_folder(folder, INSECURE_SET)


def test_a_folder_of_more_files_than_keys_can_be_is_not_read(tmp_path, monkeypatch):
    for i in range(keystore._MOST_FILES):
        (tmp_path / f"{i}.key").write_bytes(b"a")
    write_manifest(tmp_path, INSECURE_NATIVE_SET, "id")
    assert len(open_folder(tmp_path, INSECURE_NATIVE_SET).files) == keystore._MOST_FILES
    (tmp_path / "more.key").write_bytes(b"a")
    (tmp_path / MANIFEST).unlink()
    write_manifest(tmp_path, INSECURE_NATIVE_SET, "id")
    monkeypatch.setattr(keystore, "sha256", lambda path: pytest.fail("must not be read"))
    with pytest.raises(KeyFolderError, match="names 129 files, and a key folder has 128 at most"):
        open_folder(tmp_path, INSECURE_NATIVE_SET)


def test_every_sets_keys_are_fewer_files_than_that():
    beside = 3  # context, public key, chain
    for set_ in PARAMETER_SETS.values():
        if set_.engine == NATIVE:
            assert len(longest(key_plan(set_))) + beside <= keystore._MOST_FILES


def test_a_clients_folder_is_opened_without_planning(folder, monkeypatch):
    """Planning takes seconds, which each command would take longer to start."""
    for name in ("plan", "key_plan"):
        monkeypatch.setattr(keystore, name, lambda set_: pytest.fail("must not be planned"))
    (folder / MANIFEST).unlink()
    write_manifest(folder, INSECURE_NATIVE_SET, "id")
    open_folder(folder, INSECURE_NATIVE_SET)


def sparse(path, size):
    """A file of any size, that takes no disk."""
    with open(path, "wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("name", ["a.key", "context.bin", "bootstrapping.key"])
def test_a_file_larger_than_its_keys_is_not_read(folder, monkeypatch, name):
    """A terabyte would be hashed for an hour, and then loaded."""
    size = largest_bytes(INSECURE_SET, name, 2 if name == "a.key" else 0)
    assert INSECURE_SET.switching_key_bytes // 6 < size < 1 << 30
    monkeypatch.setattr(keystore, "sha256", lambda path: "0")
    files = json.loads((folder / MANIFEST).read_text())["files"]
    edit(folder, files={n: r | {"sha256": "0"} for n, r in files.items()} | {name: {"bytes": size, "sha256": "0"}})
    sparse(folder / name, size)
    open_folder(folder, INSECURE_SET)
    edit(folder, files={n: r | {"sha256": "0"} for n, r in files.items()} | {name: {"bytes": size + 1, "sha256": "0"}})
    sparse(folder / name, size + 1)
    monkeypatch.setattr(keystore, "sha256", lambda path: pytest.fail("must not be read"))
    with pytest.raises(KeyFolderError, match=rf"{name} should have {size + 1} bytes, and its keys have {size} at most"):
        open_folder(folder, INSECURE_SET)


def test_more_rotations_than_any_stage_needs_are_not_read(folder, monkeypatch):
    monkeypatch.setattr(keystore, "sha256", lambda path: pytest.fail("must not be read"))
    edit(folder, rotations={"a.key": list(range(1, 1000)), "b.key": [1000]})
    with pytest.raises(KeyFolderError, match=r"more than \d+ rotations for stage 1"):
        open_folder(folder, INSECURE_SET)


FIELDS = ["set", "fingerprint", "openfhe", "keys", "files", "rotations", "stages", "towers", "format"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary() | st.builds(lambda j: json.dumps(j).encode(), JSON))
def test_any_other_manifest_is_an_error(tmp_path, content):
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(KeyFolderError):
        open_folder(tmp_path, INSECURE_SET)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["set", "fingerprint", "openfhe", "keys", "files", "rotations", "stages", "towers", "format"]), JSON
)
def test_any_field_of_the_wrong_kind_is_an_error_or_harmless(folder, name, value):
    original = (folder / MANIFEST).read_text()
    try:
        edit(folder, **{name: value})
        open_folder(folder, INSECURE_SET)
    except KeyFolderError:
        pass
    finally:
        (folder / MANIFEST).write_text(original)
