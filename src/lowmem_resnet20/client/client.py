"""The holder of the secret key: encrypts pictures, and decrypts what a server answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import CiphertextError, KeyFolderError, UsageError
from ..files.envelope import LOGITS, PICTURE, Ciphertext, Envelope, Facts, belonging, digest_of, sealed
from ..files.group import group_and_place, join, picture_id
from ..files.keystore import CLIENT, CONTEXT, PUBLIC_KEY, keys_set, open_folder
from ..machine.files import hiding_hint, os_errors
from ..model.classification import Classification
from ..network.card import Card
from ..network.parameters import PICTURE_LEVELS, ParameterSet
from ..network.ranges import Foreseen, are_logits
from ..network.resnet20 import group_logits, logit_slots, pack_group
from ..network.weights import Weights, network_given
from ..openfhe.ciphertexts import Strangers, payload_of
from ..openfhe.context import read_context, read_public_key
from ..openfhe.library import BINARY, PublicKey, openfhe, openfhe_errors
from ..openfhe.secret import SECRET_KEY, ClientContext, PrivateKey, client_context
from .checks import Caution, check_difference, check_pixels, check_range
from .encryptions import Entry, pixel_digest, read_entries, record
from .sealing import encoded, is_sealed, opened

#: A passphrase; or what is asked for one when the secret key is first needed, and told the key's file.
Passphrase = str | bytes | Callable[[Path], bytes]

_OUT_OF_RANGE_HINT = "a value left its range: the picture may be unlike those the weights were calibrated on"


@dataclass(frozen=True)
class Named:
    """A picture to encrypt.

    pixels: (colours, width, width) in [0, 1];
    name: kept in the client's list of encryptions, and nowhere else.
    """

    pixels: np.ndarray
    name: str


@dataclass(frozen=True)
class Result(Classification):
    """The class of a picture.

    logits: (classes,), as they were decrypted: SECURITY.md says to whom they must not be shown;
    index, label: of the largest, and the name of its class;
    picture: id of the encryption that this answers;
    name: of the picture, in the client's list of encryptions;
    warnings: why the class may be wrong, of a picture that this client encrypted with the weights at hand: a value
    beyond the range of its ReLU, or logits unlike the plain network's.
    """

    picture: str = ""
    name: str = ""
    warnings: tuple[Caution, ...] = ()


class Client(AbstractContextManager):
    """Encrypts pictures, and decrypts results, with the keys of one folder.

    folder: keys/expN, of which client/ alone is read, and checked once, when this is made;
    weights: the network's, or the file of them; by default the program's own; or the network's card alone, without
    which nothing can be foreseen of a picture, nor compared with its result;
    passphrase: of the secret key, where it has one;
    set_: the parameter set that the keys must be of, or its number; None for any.

    ``card`` says what the network is, and ``weights`` is None where the client has nothing but that.

    The secret key is read when a result is first decrypted, and held until :meth:`close`: a core dump of the process
    would show it.  For one thread at a time.

    Errors: KeyFolderError, WeightsError, EnvironmentFault.
    """

    def __init__(
        self,
        folder: str | Path,
        weights: Weights | Card | str | Path | None = None,
        passphrase: Passphrase | None = None,
        set_: ParameterSet | int | None = None,
    ) -> None:
        self.folder, self._passphrase = Path(folder), passphrase
        network = network_given(weights)
        self.weights = None if isinstance(network, Card) else network
        self.card = network if isinstance(network, Card) else network.card
        self.set = keys_set(self._side, set_, self.card.architecture)
        manifest = open_folder(self._side, self.set)
        self._secret_key_file()
        self.belonging = belonging(self.set, manifest.keys, self.card)
        self._foreseen: dict[str, tuple[Foreseen | None, tuple[Caution, ...]]] = {}

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the secret key and all else that is held."""
        for held in ("context", "_secret_key", "_public_key", "_strangers"):
            self.__dict__.pop(held, None)
        self._foreseen.clear()

    # Encrypting ------------------------------------------------------------------------------------------------------

    def encrypt(self, *pictures: np.ndarray, names: Sequence[str] = ()) -> list[Ciphertext]:
        """Return the pictures encrypted, in their order: each by itself, or as many together as the set evaluates at
        once (eight in set 7; the last of them may have empty places).

        pictures: (colours, width, width) each, floating, in [0, 1], as :func:`.read_picture` gives them;
        names: of each, which its result will repeat; they are kept in the client's folder and go nowhere else.

        Errors: PictureError; ValueError for more or fewer names than pictures; EnvironmentFault where the list of
        encryptions cannot be written.
        """
        names = names or [f"picture {number}" for number in range(1, len(pictures) + 1)]
        named = [Named(pixels, name) for pixels, name in zip(pictures, names, strict=True)]
        for picture in named:
            check_pixels(picture.pixels, self.set.architecture, picture.name)
        ciphertexts = []
        for first in range(0, len(named), self.set.pictures):
            group = named[first : first + self.set.pictures]
            ciphertext, ids = self.encrypt_group(group)
            for identity, picture in zip(ids, group, strict=True):
                self._foreseen[identity] = self.foresee(picture.pixels, picture.name)
            ciphertexts.append(ciphertext)
        return ciphertexts

    def encrypt_group(self, group: Sequence[Named | None]) -> tuple[Ciphertext, list[str]]:
        """Normalise and encrypt up to ``set.pictures`` pictures together; a place of None stays empty.

        Each of OpenFHE's ciphertexts holds the colours and one empty channel of its pictures, on no more primes than
        the first convolution needs.  Returns, beside the ciphertext, the id of each picture's encryption, which its
        result will repeat; the names are noted beside them in the client's list (see :mod:`.encryptions`).
        """
        level = self.set.multiplicative_depth - self.set.reserve_levels - PICTURE_LEVELS
        parts = []
        for slots in pack_group(self.set, [self.card.normalise(named.pixels) if named else None for named in group]):
            plaintext = self.context.MakeCKKSPackedPlaintext(slots, 1, level, None, len(slots))
            parts.append(payload_of(self.context.Encrypt(self._public_key, plaintext)))
        payload = join(parts)
        ids = [picture_id(digest_of(payload), place, self.set.pictures) for place in range(len(group))]
        for identity, named in zip(ids, group, strict=True):
            if named:
                entry = Entry(identity, pixel_digest(named.pixels), named.name)
                record(self._side, entry)
        return sealed(payload, Facts.of(self.belonging, PICTURE)), ids

    def foresee(self, pixels: np.ndarray, name: str) -> tuple[Foreseen | None, tuple[Caution, ...]]:
        """Return a picture in the plain network, and a caution where encryption cannot follow; see :mod:`.checks`.
        Without weights nothing is known of either."""
        return check_range(pixels, self.set, self.weights, name) if self.weights else (None, ())

    def classify(self, logits: np.ndarray) -> Classification:
        """Return the class that logits (classes,) name.  Errors: CiphertextError where one is not finite."""
        return Classification.of(logits, self.card.classes)

    def compare(self, logits: np.ndarray, foreseen: Foreseen | None, name: str) -> tuple[Caution, ...]:
        """Return a caution where decrypted logits (classes,) are not the plain network's, if that was foreseen."""
        return check_difference(logits, foreseen, self.card, name) if foreseen else ()

    def weights_for(self, what: str) -> Weights:
        """Return the network's weights, which ``what`` needs.  Errors: UsageError where its card alone is here."""
        if self.weights is None:
            raise UsageError(f"{what} needs the network's weights, and here is its card alone", "leave the word out")
        return self.weights

    def encryptions(self) -> dict[str, Entry]:
        """Return what this folder's client has encrypted, by id."""
        return read_entries(self._side)

    # Decrypting ------------------------------------------------------------------------------------------------------

    def decrypt(self, results: Ciphertext | Iterable[Ciphertext]) -> list[Result]:
        """Return the result of each picture, in the order of the ciphertexts and of the places in them.

        Errors: CiphertextError for one that is damaged, of other keys or weights, or holds no logits; KeyFolderError
        for a wrong passphrase.
        """
        known = self.encryptions()
        found = []
        for result in [results] if isinstance(results, Ciphertext) else results:
            ids = self.answered(result)
            numbers = self.decrypt_group(result)
            for identity in [i for i in ids if i in known] or ids:
                _, place = group_and_place(identity, self.set.pictures)
                self.check_logits(result.path, numbers[place])
                name = known[identity].name if identity in known else str(result.path)
                warnings: tuple[Caution, ...] = ()
                if identity in self._foreseen:
                    foreseen, warnings = self._foreseen[identity]
                    warnings += self.compare(numbers[place], foreseen, name)
                t = self.classify(numbers[place])
                found.append(Result(t.logits, t.index, t.label, picture=identity, name=name, warnings=warnings))
        return found

    def answered(self, result: Ciphertext) -> list[str]:
        """Return the id of the encryption that each place of a result answers, whether the place was filled or not."""
        group = result.opened().facts.picture
        return [picture_id(group, place, self.set.pictures) for place in range(self.set.pictures)]

    def decrypt_group(self, result: Ciphertext, group: str | None = None) -> np.ndarray:
        """Return the numbers (pictures, classes) in a server's answer, by place; what they are, of each place that was
        filled, :meth:`check_logits` tells.

        group: id of the encryption that must be the one it answers, where that is known.

        Errors: CiphertextError, KeyFolderError.
        """
        self.unlock()
        envelope = result.opened()
        envelope.expect(LOGITS, self.belonging)
        if group not in (None, envelope.facts.picture):
            raise CiphertextError(f"{result.path} is the result of another picture")
        slots = self.decrypt_slots(envelope)
        if len(slots) < logit_slots(self.set):
            raise CiphertextError(f"{result.path} holds {len(slots)} numbers, too few for logits")
        return group_logits(self.set, slots)

    def check_logits(self, path: Path, numbers: np.ndarray) -> None:
        """Raise CiphertextError unless numbers (classes,) from ``path`` can be logits.

        A value that left the range of a Chebyshev series grows without bound, and what comes out is noise, far larger
        than any logit that the weights were calibrated with.  One that left the range of a Fourier series does not show
        here (see :mod:`..network.ranges`).
        """
        if not are_logits(self.card, numbers):
            raise CiphertextError(f"{path} holds numbers that are no logits of this network", _OUT_OF_RANGE_HINT)

    def decrypt_slots(self, envelope: Envelope) -> np.ndarray:
        """Return (slots,) real values.  Errors: CiphertextError where it holds no ciphertext, or noise."""

        def refused(reason: str) -> CiphertextError:
            words = reason.rpartition("(): ")[2]  # without the place in OpenFHE's source
            return CiphertextError(f"{envelope.path} does not decrypt: {words}", _OUT_OF_RANGE_HINT)

        ciphertext = self._strangers.read(envelope.payload, envelope.path)
        context, secret_key = self.context, self._secret_key
        with openfhe_errors(refused):
            values = context.Decrypt(ciphertext, secret_key).GetRealPackedValue()
        return np.array(values)

    # Keys ------------------------------------------------------------------------------------------------------------

    def unlock(self) -> None:
        """Read the secret key, with its passphrase if it has one, unless that has been done.

        Errors: KeyFolderError, also where the passphrase is another's; as of what is asked for it.
        """
        self._secret_key  # noqa: B018 - reads it

    @cached_property
    def context(self) -> ClientContext:
        """Return OpenFHE's context."""
        return client_context(read_context(self._side / CONTEXT))

    @property
    def _side(self) -> Path:
        return self.folder / CLIENT

    @cached_property
    def _strangers(self) -> Strangers:
        return Strangers(self.context, self._public_key)

    @cached_property
    def _public_key(self) -> PublicKey:
        return read_public_key(self._side / PUBLIC_KEY)

    @cached_property
    def _secret_key(self) -> PrivateKey:
        """Read the secret key: the only place where that is done."""
        path = self._secret_key_file()
        with os_errors("read", path):
            content = path.read_bytes()
        if is_sealed(content):
            content = opened(content, self._asked_passphrase(path))
        with openfhe_errors(lambda reason: KeyFolderError(f"{path} cannot be read: {reason}")):
            return openfhe.DeserializePrivateKeyString(content, BINARY)

    def _asked_passphrase(self, path: Path) -> bytes:
        if self._passphrase is None:
            raise KeyFolderError(f"{path} is under a passphrase, and none was given")
        return self._passphrase(path) if callable(self._passphrase) else encoded(self._passphrase)

    def _secret_key_file(self) -> Path:
        """Return its path.  Errors: KeyFolderError unless it is its owner's alone."""
        path = self._side / SECRET_KEY
        with os_errors("read", path):
            if path.stat().st_mode & 0o077:
                hint = hiding_hint(path, "copy the key folder to where its files can be 0600, and name that")
                raise KeyFolderError(f"{path} can be read by others", hint)
        return path
