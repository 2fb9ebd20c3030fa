"""A service in the place of a server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import raise_told
from ..files.envelope import Ciphertext
from ..files.keystore import SERVER, keys_set
from ..network.card import Card
from ..network.parameters import ParameterSet
from ..network.weights import Weights, network_given
from ..progress.display import Progress, Shown, progress_of
from ..server.request import Evaluation
from ..server.server import as_files
from .connecting import Access
from .evaluation import check_service, run_remotely


class RemoteServer:
    """Has a service evaluate, with evaluation keys that it is sent where it has none of them.

    url: its address, such as https://HOST;
    token: what it asks for, or the file of it; None: LOWMEM_RESNET20_TOKEN of the environment;
    folder: keys/expN, of which server/ alone is read, and sent;
    weights: those that it must have, or the file of them, or the card of their network; by default the program's own;
    progress: called with stage and name as each step begins, or a display;
    set_: the parameter set that the keys must be of, or its number; None for any.

    Errors: ServerError for a service that is not there, or evaluates something else; WeightsError, KeyFolderError;
    UsageError and EnvironmentFault for an address or a token that will not do.
    """

    def __init__(
        self,
        url: str,
        token: str | Path | None,
        folder: str | Path,
        weights: Weights | Card | str | Path | None = None,
        progress: Shown = None,
        set_: ParameterSet | int | None = None,
    ) -> None:
        self._folder, self._progress = Path(folder), progress_of(progress)
        network = network_given(weights)
        self.set = keys_set(self._folder / SERVER, set_, network.architecture)
        self._access = Access(url, token, _message)
        check_service(self._access, self.set, network)

    def evaluate(self, sent: Ciphertext | Iterable[Ciphertext]) -> list[Ciphertext]:
        """Return the encrypted logits of each encrypted picture, or group of pictures.

        Errors: CiphertextError, the first of any picture; ServerError, whose hint names the jobs that stay there.
        """
        with as_files(sent) as jobs:
            asked = Evaluation(self.set.number, self._folder, tuple(jobs))
            for line in run_remotely(self._access, asked, self._progress).pictures:
                raise_told(line)
            return [Ciphertext(job.output.read_bytes()) for job in jobs]


def _message(text: str, progress: Progress) -> None:
    progress.message(text)
