"""The list of verbs. Settings of an experiment follow any verb as ``--a.b.c VALUE``."""

from __future__ import annotations

import sys
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from ssns.experiment import Experiment

app = typer.Typer(
    name="ssns",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Segment every neuron in an electron-microscopy volume from a handful of labelled sections.",
)

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
EPILOG = "Any setting may follow as `--a.b.c VALUE` (see `ssns settings`), e.g. `--training.steps 500`."

EXTRAS = {"train": {"torch", "lightning_fabric", "tensorboard"}, "export": {"onnx", "bioimageio"}}
"""Modules that the plain package comes without, by the extra that brings them."""

IMPORT_EPILOG = (
    "What weights do not tell is as in the paper, and may follow as a setting: `--network.activation relu`,"
    " `--network.padding replicate`, `--network.upsampling nearest` (or bilinear), `--network.merge add` (or none),"
    " `--offsets '[[-1, 0, 0], [0, -1, 0], [0, 0, -1]]'`."
)


ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="The experiment file (TOML).")]
Verify = Annotated[bool, typer.Option("--verify", help="Compare the data of inputs always, not only of copies.")]
Sweep = Annotated[
    bool,
    typer.Option(
        "--sweep",
        help="Choose on the validation regions among several methods (`segmentation.candidates`), not only among"
        " thresholds of one; the same as `--segmentation.sweep true`.",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|zoo:NAME", help="Checkpoint to predict with, in place of the best one of this experiment."
    ),
]
Start = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE|zoo:NAME",
        help="Trained weights to go on from: all of them, with their network and normalisation in place of those of"
        " the experiment. (Other ways to take weights over: `--transfer.checkpoint`, `--transfer.parts`.)",
    ),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ssns {version('ssns')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and end.")
    ] = False,
) -> None:
    del debug  # `main` has looked for it, behind the verb too


@app.command()
def init(
    raw: Annotated[str, typer.Argument(help="The image: TIFF, folder of pages, file.h5:dataset, Zarr or OME-Zarr.")],
    labels: Annotated[str | None, typer.Option(help="The neuron ids of some of its sections.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("experiment.toml"),
    voxel_size_nm: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Voxel size z y x in nm, where the file has none.")
    ] = None,
    labels_start: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Voxel z y x of raw at which the labels begin.")
    ] = None,
    sections: Annotated[
        str | None,
        typer.Option(
            help="Sections as 0:5 or 3,40,77: those of the labels that count, or those of raw that they are of."
        ),
    ] = None,
    background: Annotated[str, typer.Option(help="Id that is membrane or outside, or none.")] = "0",
    ignored: Annotated[str, typer.Option(help="Id of voxels whose label is unknown, or none.")] = "none",
    rgb_ids: Annotated[bool, typer.Option("--rgb-ids", help="Labels are RGB-coded ids, as VAST exports them.")] = False,
    supervised: Annotated[
        bool, typer.Option("--supervised", help="Learn from labels alone, which is faster; not from the rest of raw.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Look at a volume and its labels, and write a commented experiment that runs as it is."""
    from ssns.commands.init import Inputs, init_experiment

    inputs = Inputs(raw, labels, voxel_size_nm, labels_start, sections, background, ignored, rgb_ids, supervised)
    init_experiment(inputs, output, overwrite=force)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def pretrain(context: typer.Context, experiment: ExperimentFile, verify: Verify = False) -> None:
    """Learn from raw alone, by restoring it; `train` then starts from there."""
    from ssns.commands.pretrain import pretrain_experiment

    with _opened(experiment, context) as opened:
        pretrain_experiment(opened, verify=verify)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def teach(context: typer.Context, experiment: ExperimentFile, start: Start = None, verify: Verify = False) -> None:
    """Train a first network on the labelled sections, and segment unlabelled ones with it for `train` to learn from."""
    from ssns.commands.teach import teach_experiment

    with _opened(experiment, context, start=start) as opened:
        teach_experiment(opened, verify=verify)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def train(context: typer.Context, experiment: ExperimentFile, start: Start = None, verify: Verify = False) -> None:
    """Train on the labelled sections, and on unlabelled ones too; goes on where an interrupted training stopped."""
    from ssns.commands.train import train_experiment

    with _opened(experiment, context, start=start) as opened:
        train_experiment(opened, verify=verify)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def predict(
    context: typer.Context, experiment: ExperimentFile, checkpoint: Checkpoint = None, verify: Verify = False
) -> None:
    """Predict the affinities of the validation, test and target regions."""
    from ssns.commands.predict import predict_experiment

    with _opened(experiment, context) as opened:
        predict_experiment(opened, checkpoint=checkpoint, verify=verify)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def segment(context: typer.Context, experiment: ExperimentFile, sweep: Sweep = False, verify: Verify = False) -> None:
    """Turn affinities into segments, with the threshold, or method, that is best on the validation regions."""
    from ssns.commands.segment import segment_experiment

    with _opened(experiment, context, sweep=sweep) as opened:
        segment_experiment(opened, verify=verify)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def evaluate(context: typer.Context, experiment: ExperimentFile, verify: Verify = False) -> None:
    """Score segmentations against labels; write scores, pictures and a report."""
    from ssns.commands.evaluate import evaluate_experiment

    with _opened(experiment, context) as opened:
        evaluate_experiment(opened, verify=verify)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def run(
    context: typer.Context,
    experiment: ExperimentFile,
    checkpoint: Checkpoint = None,
    start: Start = None,
    sweep: Sweep = False,
    verify: Verify = False,
) -> None:
    """Pre-train, teach, train, predict, segment and evaluate, skipping what is done and still valid.

    It pre-trains where the experiment has [pretraining], and teaches where its objective is pseudo-labels.
    """
    from ssns.commands.run import run_experiment

    if checkpoint is not None and start is not None:
        raise typer.BadParameter(
            "--from says what to train from, --checkpoint what to predict with, without training: give one"
        )
    with _opened(experiment, context, sweep=sweep, start=start) as opened:
        run_experiment(opened, checkpoint=checkpoint, verify=verify)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write volume, experiment and results.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the synthetic volume and of training.")] = 0,
) -> None:
    """Go the whole way on synthetic EM, beside supervised training and a baseline that does not learn."""
    from ssns.commands.demo import run_demo

    run_demo(folder, seed=seed)


@app.command(epilog="Data sets: snemi3d, cremi, cremi-padded, kasthuri15, ac4-around, fib-25.")
def prepare(
    dataset: Annotated[str | None, typer.Argument(help="Which one; without it, they are listed.")] = None,
    folder: Annotated[Path, typer.Argument(help="Where the files go; what SSNS_DATA is to be.")] = Path("data"),
    downloads: Annotated[
        Path | None, typer.Option(help="Where what you fetched is, in place of `downloads` in the folder.")
    ] = None,
    crop: Annotated[
        list[str] | None, typer.Option(help="What to cut out of its source, NAME=z:z,y:y,x:x; may be repeated.")
    ] = None,
    defects: Annotated[
        list[str] | None,
        typer.Option(help="Sections to interpolate in place of those known and blank, NAME=14,74 or none."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make finished files again.")] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Take files of another checksum or number of ids.")
    ] = False,
) -> None:
    """Make the files of a published data set as the shipped experiments read them; says what to fetch."""
    from ssns.commands.prepare import Wishes, list_datasets, parse_crops, parse_defects, prepare_dataset

    if dataset is None:
        list_datasets()
        return
    wishes = Wishes(parse_crops(crop or []), parse_defects(defects or []), force, unverified)
    prepare_dataset(dataset, folder, downloads, wishes)


@app.command("import", context_settings=SETTINGS, epilog=IMPORT_EPILOG)
def import_(
    context: typer.Context,
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="A .ckpt file: residual U-Net, with or without skips, or MALA."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; by default beside it, ending in .pt.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Make a checkpoint of SSNS-Net, the paper's code, one of ours, for `predict` and `train`."""
    from ssns.commands.importing import import_checkpoint

    path, changes = split_arguments([str(checkpoint), *context.args])
    import_checkpoint(Path(path), output, changes, force=force)


@app.command()
def zoo(
    name: Annotated[str | None, typer.Argument(help="Whose card to show; without it, all are listed.")] = None,
) -> None:
    """Trained weights: `zoo:NAME` stands for one of them wherever a checkpoint is asked for.

    They come with the package, and from the folders that the environment variable SSNS_ZOO names.
    """
    from ssns.commands.zoo import list_weights, show_weights

    if name is None:
        list_weights()
    else:
        show_weights(name.removeprefix("zoo:"))


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(help="A run folder after `ssns evaluate`, as runs/experiment.")],
    folder: Annotated[Path, typer.Argument(help="Where weights and card go; to be named by SSNS_ZOO.")],
    name: Annotated[str, typer.Option(help="Of the weights.")],
    summary: Annotated[str, typer.Option(help="What they are for, in a line.")],
    data: Annotated[str, typer.Option(help="What was learned from, in words.")],
    citation: Annotated[str, typer.Option(help="What to cite for the data.")],
    licence: Annotated[str, typer.Option(help="Of the weights.")] = "MIT",
    note: Annotated[list[str] | None, typer.Option(help="A further line of the card; may be repeated.")] = None,
) -> None:
    """Make weights of the zoo from a finished run: its best checkpoint, and a card of where it comes from."""
    from ssns.commands.zoo import Words, publish_run

    publish_run(run, folder, name, Words(summary, data, licence, citation, tuple(note or ())))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE|zoo:NAME", help="The trained network.")],
    output: Annotated[Path, typer.Argument(help="The file to write: .onnx, .zip for bioimageio, .ckpt for reference.")],
    to: Annotated[Literal["onnx", "bioimageio", "reference"], typer.Option(help="The format.")] = "onnx",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    voxel_size_nm: Annotated[
        tuple[float, float, float], typer.Option(help="bioimageio: voxel size z y x of what it was trained on.")
    ] = (30, 6, 6),
    name: Annotated[str | None, typer.Option(help="bioimageio: of the model; by default that of the file.")] = None,
    text: Annotated[str, typer.Option(help="bioimageio: what it is for.")] = "Affinities of neurons in EM volumes",
    author: Annotated[list[str] | None, typer.Option(help="bioimageio: may be repeated.")] = None,
    licence: Annotated[str, typer.Option(help="bioimageio: SPDX identifier.")] = "MIT",
    doi: Annotated[list[str] | None, typer.Option(help="bioimageio: of what to cite; may be repeated.")] = None,
) -> None:
    """Write a trained network for other tools: ONNX, a package of bioimage.io, or a checkpoint of the paper's code.

    The first two need `pip install 'ssns[export]'`.
    """
    from ssns.commands.export import export_checkpoint
    from ssns.export import Description

    name = name or f"Neuron affinities ({output.stem})"
    description = Description(name, text, voxel_size_nm, tuple(author or ()), licence, tuple(doi or ()))
    export_checkpoint(checkpoint, output, to, description, force=force)


@app.command()
def settings(
    section: Annotated[str, typer.Argument(help="Only what begins with this, e.g. training.optimizer.")] = "",
) -> None:
    """List every setting of an experiment, its default and what it means."""
    from ssns.commands.settings import print_settings

    print_settings(section)


@contextmanager
def _opened(
    first: Path, context: typer.Context, *, sweep: bool = False, start: Path | None = None
) -> Iterator[Experiment]:
    """The experiment of a command line, its run folder locked."""
    from ssns.commands.run_folder import RunFolder
    from ssns.errors import Stopped
    from ssns.experiment import load_experiment

    path, changes = split_arguments([str(first), *context.args])
    if sweep:
        changes["segmentation.sweep"] = True
    if start is not None:
        from ssns.commands.train import settings_of_start

        changes = settings_of_start(start) | changes
    experiment = load_experiment(path, changes)
    try:
        with RunFolder.of(experiment).locked():
            yield experiment
    except KeyboardInterrupt as stop:
        raise Stopped("interrupted: the same command goes on from what is done") from stop


def split_arguments(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The experiment file, and settings given as ``--a.b.c VALUE`` or ``--a.b.c=VALUE`` before or after it.

    Values are TOML, bare words are text.
    """
    files: list[str] = []
    changes: dict[str, Any] = {}
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("--"):
            files.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        if not equals:
            if not waiting:
                raise typer.BadParameter(f"--{name} needs a value")
            value = waiting.pop(0)
        changes[name] = _toml_value(value)
    if len(files) != 1:
        raise typer.BadParameter(f"wanted one experiment file and settings as --a.b.c VALUE, got {files or 'no file'}")
    return files[0], changes


def _toml_value(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if isinstance(value, date | time) else value  # no setting is a date, but a name may look like one


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: exit code 0 done, 1 error, 2 usage, 3 finished with blocks missing, 130 stopped.

    Args:
        arguments: Without the name of the program; by default those of this process.
    """
    from ssns.errors import Stopped, UserError

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app([argument for argument in given if argument != "--debug"])
    except (UserError, OSError, ModuleNotFoundError) as error:
        message = str(error)
        if isinstance(error, ModuleNotFoundError):
            extra = next((extra for extra, names in EXTRAS.items() if (error.name or "").split(".")[0] in names), None)
            if extra is None:
                raise
            message = f"{error.name} is not installed: pip install 'ssns[{extra}]' brings what is missing"
        if isinstance(error, PermissionError):
            message = f"{error.filename}: permission denied: name a place of yours (--runs FOLDER for run folders)"
        if "--debug" in given:
            raise
        typer.secho(message if isinstance(error, Stopped) else f"error: {message}", fg="red", err=True)
        sys.exit(getattr(error, "exit_code", 1))


def _show_warning(message: Warning | str, *_where: Any, **_line: Any) -> None:
    typer.secho(f"warning: {message}", fg="yellow", err=True)


if __name__ == "__main__":
    main()
