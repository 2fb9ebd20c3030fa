"""Makes key folders, client/ and server/, for either engine.  The client's: it holds the secret key while it does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from ..files.keystore import (
    BOOTSTRAPPING_KEYS,
    CLIENT,
    CONTEXT,
    PUBLIC_KEY,
    RELINEARISATION_KEY,
    SERVER,
    key_id,
    largest_bytes,
    write_manifest,
)
from ..machine.files import atomic_write, check_space, new_folder
from ..machine.memory import return_freed_memory
from ..native.kernels.order import ORDER, memory_order
from ..native.keys.keyplan import key_bytes, key_plan, longest
from ..native.keys.keys import Order
from ..network.engines import NATIVE
from ..network.parameters import ParameterSet, parameter_set
from ..network.resnet20 import plan
from ..openfhe.context import (
    clear_relinearisation_keys,
    clear_rotation_keys,
    context_bytes,
    new_context,
    power_of_two_rotations,
    write_object,
    write_relinearisation_key,
    write_rotation_keys,
)
from ..openfhe.library import BINARY, openfhe
from ..openfhe.native_keys import make_native_keys
from ..openfhe.secret import (
    SECRET_KEY,
    ClientContext,
    KeyPair,
    bootstrapping_rotations,
    client_context,
    make_shared_bootstrapping_keys,
)
from ..progress.display import Progress, Shown, Step, progress_of
from .sealing import encoded, sealer

#: What is done to the bytes of a secret key before they are written.
Seal = Callable[[bytes], bytes]


def generate_keys(
    set_: ParameterSet | int,
    folder: str | Path,
    passphrase: str | bytes | None = None,
    progress: Shown = None,
) -> None:
    """Make ``folder`` (keys/expN) with client/ and server/, whole or not at all.

    set_: the parameter set, or its number;
    passphrase: the secret key is written under it (see :mod:`.sealing`), or as it is where there is none;
    progress: called with stage and name as each step begins, or a display.

    Rotation keys are made, written and forgotten file by file, so memory stays well below their sum.  OpenFHE holds
    keys process-wide: those that it held before are forgotten.

    Errors: KeyFolderError if ``folder`` exists; EnvironmentFault if it cannot be written, kept private, or does not fit
    on the disk, which is looked at before any key is made; UsageError for a number that is no set's; PlanError.
    """
    set_ = parameter_set(set_) if isinstance(set_, int) else set_
    shown = progress_of(progress)
    seal = bytes if passphrase is None else sealer(encoded(passphrase))
    with new_folder(Path(folder)) as new:
        shown.start(f"generating keys for parameter set {set_.number}")
        shown.step("plan", "rotations")
        (_generate_native if set_.engine == NATIVE else _generate_openfhe)(set_, new, shown, seal)
        shown.close()


def _generate_native(set_: ParameterSet, new: Path, progress: Progress, seal: Seal) -> None:
    """Make keys in the native form, each as long as the levels of its uses."""
    towers = longest(key_plan(set_))
    kept = sum(key_bytes(set_, count) for count in towers.values())
    at_once = set_.switching_key_bytes  # OpenFHE's own, on its way
    check_space(new, kept + at_once, f"the keys of parameter set {set_.number}")
    progress.expect([Step("keys", name, "key") for name in towers])
    progress.step("keys", "secret and public key")
    context = client_context(new_context(set_))
    pair = context.KeyGen()
    _write_basic_keys(new, set_, pair, seal)
    order = Order(ORDER, memory_order(set_.ring_dimension))
    server = new / SERVER
    make_native_keys(context, pair.secretKey, towers, server, order, lambda name: progress.step("keys", name))
    progress.step("keys", "manifests")
    keys = key_id(new / CLIENT / PUBLIC_KEY)
    write_manifest(new / CLIENT, set_, keys)
    write_manifest(new / SERVER, set_, keys, towers=towers)


def _generate_openfhe(set_: ParameterSet, new: Path, progress: Progress, seal: Seal) -> None:
    """Make keys in OpenFHE's form, in files by the stages that use them."""
    needed, bootstrapping = _rotations_by_stage(set_)
    shared = power_of_two_rotations(set_)
    files = _divide({stage: steps - shared for stage, steps in needed.items()})
    check_space(new, _folder_bytes(set_, shared, files), f"the keys of parameter set {set_.number}")
    names = {name: f"{len(steps)} rotation keys, {name}" for name, (_, steps) in files.items()}
    coming = [Step("keys", "bootstrapping keys", "rotation key", len(shared))]
    coming += [Step("keys", names[name], "rotation key", len(steps)) for name, (_, steps) in files.items()]
    progress.expect(coming)
    progress.step("keys", "secret, public and relinearisation key")
    context = client_context(new_context(set_))
    pair = context.KeyGen()
    _write_basic_keys(new, set_, pair, seal)
    _write_relinearisation_key(new / SERVER / RELINEARISATION_KEY, context, pair)
    progress.step("keys", "bootstrapping keys")
    make_shared_bootstrapping_keys(context, set_, pair.secretKey)
    _write_held_rotation_keys(new / SERVER / BOOTSTRAPPING_KEYS, context, pair)
    for name, (_, steps) in files.items():
        progress.step("keys", names[name])
        context.EvalRotateKeyGen(pair.secretKey, sorted(steps))
        _write_held_rotation_keys(new / SERVER / name, context, pair)
    progress.step("keys", "manifests")
    _write_manifests(new, set_, shared, files, bootstrapping)


def _rotations_by_stage(set_: ParameterSet) -> tuple[dict[int, frozenset[int]], dict[int, frozenset[int]]]:
    """Return the rotations, by stage, of layers and bootstrapping, and those of bootstrapping alone, in [1, N/2)."""
    bootstrapping = bootstrapping_rotations(set_)
    layers = {
        stage: frozenset(step % set_.full_slots for step in steps) for stage, steps in plan(set_).rotations.items()
    }
    return {stage: layers[stage] | bootstrapping[stage] for stage in layers}, bootstrapping


def _divide(needed: dict[int, frozenset[int]]) -> dict[str, tuple[tuple[int, ...], set[int]]]:
    """Divide rotations into files by the stages that use them: name -> (stages, steps)."""
    users: dict[int, tuple[int, ...]] = {}
    for step in sorted(frozenset().union(*needed.values())):
        users[step] = tuple(stage for stage in sorted(needed) if step in needed[stage])
    groups: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for step, stages in users.items():
        groups[stages].add(step)
    return {f"rotations-{'-'.join(map(str, stages))}.key": (stages, groups[stages]) for stages in sorted(groups)}


def openfhe_folder_bytes(set_: ParameterSet) -> int:
    """Return the bytes of a server's folder of OpenFHE's keys, a hundredth more rather than less.

    OpenFHE holds rotation keys process-wide: those that it held before are forgotten.
    """
    needed, _ = _rotations_by_stage(set_)
    shared = power_of_two_rotations(set_)
    return _server_bytes(set_, shared, _divide({stage: steps - shared for stage, steps in needed.items()}))


def _server_bytes(
    set_: ParameterSet, shared: frozenset[int], files: dict[str, tuple[tuple[int, ...], set[int]]]
) -> int:
    rotations = {name: len(steps) for name, (_, steps) in files.items()} | {BOOTSTRAPPING_KEYS: len(shared)}
    rotations |= dict.fromkeys((CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY), 0)
    return sum(largest_bytes(set_, name, number) for name, number in rotations.items())


def _folder_bytes(
    set_: ParameterSet, shared: frozenset[int], files: dict[str, tuple[tuple[int, ...], set[int]]]
) -> int:
    """Return the disk that the keys take, a hundredth more rather than less."""
    client = sum(largest_bytes(set_, name, 0) for name in (CONTEXT, PUBLIC_KEY, SECRET_KEY))
    return _server_bytes(set_, shared, files) + client


def _write_basic_keys(new: Path, set_: ParameterSet, pair: KeyPair, seal: Seal) -> None:
    """Write them; the secret key is serialised in memory: no file ever holds it otherwise than sealed."""
    client, server = new / CLIENT, new / SERVER
    client.mkdir(mode=0o700)
    server.mkdir(mode=0o755)
    atomic_write(server / CONTEXT, context_bytes(set_))
    write_object(server / PUBLIC_KEY, pair.publicKey)
    for name in (CONTEXT, PUBLIC_KEY):
        atomic_write(client / name, (server / name).read_bytes(), private=True)
    atomic_write(client / SECRET_KEY, seal(openfhe.Serialize(pair.secretKey, BINARY)), private=True)


def _write_relinearisation_key(path: Path, context: ClientContext, pair: KeyPair) -> None:
    context.EvalMultKeyGen(pair.secretKey)
    write_relinearisation_key(path, context, pair.secretKey.GetKeyTag())
    clear_relinearisation_keys()


def _write_held_rotation_keys(path: Path, context: ClientContext, pair: KeyPair) -> None:
    write_rotation_keys(path, context, pair.secretKey.GetKeyTag())
    clear_rotation_keys()
    return_freed_memory()


def _write_manifests(
    new: Path,
    set_: ParameterSet,
    shared: frozenset[int],
    files: dict[str, tuple[tuple[int, ...], set[int]]],
    bootstrapping: dict[int, frozenset[int]],
) -> None:
    stages = {
        str(stage): [BOOTSTRAPPING_KEYS, *(name for name, (users, _) in files.items() if stage in users)]
        for stage in bootstrapping
    }
    rotations = {name: sorted(steps) for name, (_, steps) in files.items()} | {BOOTSTRAPPING_KEYS: sorted(shared)}
    lists = {str(set_.stage_slots(stage)): sorted(steps) for stage, steps in bootstrapping.items()}
    keys = key_id(new / CLIENT / PUBLIC_KEY)
    write_manifest(new / CLIENT, set_, keys)
    write_manifest(new / SERVER, set_, keys, rotations=rotations, stages=stages, bootstrapping=lists)
