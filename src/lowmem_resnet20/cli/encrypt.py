"""The word ``encrypt``: pictures into files of ciphertexts, whose names say nothing of the pictures."""

from __future__ import annotations

from typing import Any

from .named import check_request_outputs, into_folder, numbered, output_files
from .output import Printer, print_written
from .pictures import several_inputs
from .steps import Steps
from .words import Request


def encrypt(request: Request, printer: Printer) -> None:
    """Encrypt the pictures, each group into its file."""
    steps = Steps(request, printer, several_inputs(request) or into_folder(request))
    each, groups = steps.each, steps.groups()
    if not groups:
        each.end()
    outputs = output_files(request.output, numbered(len(groups)), each.several)
    check_request_outputs(request, outputs, [item.path for group in groups for item in group.items])
    for group, output in zip(groups, outputs, strict=True):
        for item in group.items:
            with each.trying(item.path):
                steps.look(item)
        if not group.readable:
            continue
        with each.trying(*group.paths):
            steps.encrypt(group, output)
            for item in group.readable:
                facts: dict[str, Any] = {"input": str(item.path)} if each.several else {}
                facts |= {"place": group.items.index(item) + 1} if steps.set.pictures > 1 else {}
                facts |= item.checked() if request.json else {}
                print_written(request, printer, "ciphertext", output, item.seconds["encrypt"], facts)
    each.end()
