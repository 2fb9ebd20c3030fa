#!/usr/bin/env python
"""How close an encrypted evaluation is, layer by layer: a table, a plot (PNG) and a report (HTML, self-contained).

    scripts/precision.py SET PICTURE [--keys DIR] [--engine native|openfhe] [--weights FILE] [--output DIR]

The picture is encrypted, evaluated by a server process that leaves a checkpoint after every convolution, refresh and
ReLU, and the checkpoints are decrypted and compared with the plain model.  Minutes; keys are made if they are missing,
for the engine named, and those that are there name theirs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from lowmem_resnet20.client import Client, generate_keys
from lowmem_resnet20.client.precision import inspect_checkpoints
from lowmem_resnet20.files.envelope import Ciphertext
from lowmem_resnet20.model.picture import find_picture, read_picture
from lowmem_resnet20.model.plain import PlainNetwork
from lowmem_resnet20.network.engines import ENGINES
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.network.weights import default_weights_path, load_weights
from lowmem_resnet20.progress.display import make_progress
from lowmem_resnet20.server.process import run_server
from lowmem_resnet20.server.request import Evaluation, Job
from precisionreport import Inspection, print_tables, write_plot, write_report


def inspect(client: Client, picture: Path, weights_path: Path) -> Inspection:
    """Have a picture evaluated by a server process, and measure every checkpoint."""
    architecture = client.set.architecture
    pixels = read_picture(picture, width=architecture.width, colours=architecture.input_channels)
    with tempfile.TemporaryDirectory() as temporary:
        encrypted, answer, checkpoints = (Path(temporary) / name for name in ("picture.ct", "result.ct", "checkpoints"))
        job = Job(encrypted, answer, checkpoints)
        client.encrypt(pixels)[0].save(job.ciphertext)
        with make_progress(1, sys.stderr) as progress:
            request = Evaluation(client.set.number, client.folder, (job,), weights_path)
            run = run_server(request, progress, sys.stderr)
        [result] = client.decrypt(Ciphertext.load(job.output))
        layers = inspect_checkpoints(client, checkpoints, pixels, result.picture)
    plain = PlainNetwork(client.weights).logits(pixels)
    return Inspection(client.set, picture, pixels, plain, np.array(result.logits), client.weights.classes, layers, run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=int)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--keys", type=Path, default=Path("keys"))
    parser.add_argument("--engine", choices=ENGINES, default="", help="whose keys are made")
    parser.add_argument("--weights", type=Path, default=default_weights_path())
    parser.add_argument("--output", type=Path, default=Path("precision"), help="folder of the plot and the report")
    args = parser.parse_args()
    folder = args.keys / f"exp{args.set}"
    architecture = load_weights(args.weights).architecture
    if not folder.exists():
        with make_progress(0, sys.stderr) as progress:
            generate_keys(parameter_set(args.set, args.engine, architecture), folder, progress=progress)
    with Client(folder, args.weights, set_=args.set) as client:
        inspection = inspect(client, find_picture(args.picture), args.weights)
    console = Console(width=130, record=True, markup=False)
    print_tables(console, inspection)
    console.print(f"worst difference of a logit {inspection.worst_logit:.3f}, class {inspection.label}")
    args.output.mkdir(parents=True, exist_ok=True)
    stem = args.output / f"set{args.set}-{inspection.set.engine}-{args.picture.stem}"
    plot, report = Path(f"{stem}.png"), Path(f"{stem}.html")
    write_plot(inspection, plot)
    write_report(console, inspection, plot, report)
    print(f"written: {plot}, {report}")


if __name__ == "__main__":
    main()
