"""`ssns export`: a trained network in the format of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ssns.commands.terminal import say, warn
from ssns.errors import UserError
from ssns.export import Description, export_bioimageio, export_onnx, write_reference
from ssns.files import replacing
from ssns.zoo import weights_path

Format = Literal["onnx", "bioimageio", "reference"]

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "bioimageio": ".zip", "reference": ".ckpt"}


def export_checkpoint(
    checkpoint: Path, output: Path, to: Format, description: Description, *, force: bool = False
) -> None:
    """Write a checkpoint in another format; what is there stays whole until the new file is.

    Args:
        checkpoint: A file, or ``zoo:NAME``.
        output: The file to write.
        to: The format.
        description: What a package of bioimage.io says.
        force: Whether to replace a file that is there.

    Raises:
        UserError: The name of the output does not fit, it is there, or cannot be written, or the format cannot hold
            this network.
    """
    from ssns.checkpoint import RESTORED, load_checkpoint

    if output.suffix != SUFFIXES[to]:
        raise UserError(f"output: wanted a name that ends with {SUFFIXES[to]} for {to}, got {output}: add it")
    if output.exists() and not force:
        raise UserError(f"output: {output} is there already: take another name, or --force")
    trained = load_checkpoint(weights_path(checkpoint))
    if trained.offsets == RESTORED and to != "reference":
        raise UserError(
            f"checkpoint: wanted one that predicts affinities, got {checkpoint}, which restores raw, as"
            " pre-training does: export what `ssns train` makes of it"
        )
    settings: dict[str, str] = {}
    try:
        with replacing(output) as partial:
            if to == "onnx":
                export_onnx(trained, partial)
            elif to == "bioimageio":
                export_bioimageio(trained, partial, description)
            else:
                exported = write_reference(partial, trained)
                settings |= exported.settings
                for note in exported.notes:
                    warn(note)
    except OSError as error:
        raise UserError(f"output: {output} cannot be written ({error}): free some space, or write elsewhere") from error
    say(f"export: {output}, {output.stat().st_size / 1e6:.1f} MB")
    if settings:
        say("MODEL in the YAML file there:")
    for key, value in settings.items():
        say(f"  {key}: {value}")
