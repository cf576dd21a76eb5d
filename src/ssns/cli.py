"""The list of verbs. Settings of an experiment follow any verb as ``--a.b.c VALUE``."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

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

ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="The experiment file (TOML).")]
Verify = Annotated[bool, typer.Option("--verify", help="Compare the data of inputs, not only their size and time.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Checkpoint to predict with, in place of the best one of this experiment.")
]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    global _debug  # noqa: PLW0603  one process, one command line
    _debug = debug


_debug = False


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
        str | None, typer.Option(help="Labelled sections as 0:5 or 3,40,77, where not all of the labels count.")
    ] = None,
    background: Annotated[str, typer.Option(help="Id that is membrane or outside, or none.")] = "0",
    ignored: Annotated[str, typer.Option(help="Id of voxels whose label is unknown, or none.")] = "none",
    rgb_ids: Annotated[bool, typer.Option("--rgb-ids", help="Labels are RGB-coded ids, as VAST exports them.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Look at a volume and its labels, and write a commented experiment that runs as it is."""
    from ssns.commands.init import Inputs, init_experiment

    inputs = Inputs(raw, labels, voxel_size_nm, labels_start, sections, background, ignored, rgb_ids)
    init_experiment(inputs, output, overwrite=force)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def train(context: typer.Context, experiment: ExperimentFile, verify: Verify = False) -> None:
    """Train on the labelled sections; goes on where an interrupted training stopped."""
    from ssns.commands.train import train_experiment

    train_experiment(_load(experiment, context), verify=verify)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def predict(
    context: typer.Context, experiment: ExperimentFile, checkpoint: Checkpoint = None, verify: Verify = False
) -> None:
    """Predict the affinities of the validation, test and target regions."""
    from ssns.commands.predict import predict_experiment

    predict_experiment(_load(experiment, context), checkpoint=checkpoint, verify=verify)


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def segment(context: typer.Context, experiment: ExperimentFile) -> None:
    """Turn affinities into segments, with the threshold that is best on the validation regions."""
    from ssns.commands.segment import segment_experiment

    segment_experiment(_load(experiment, context))


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def evaluate(context: typer.Context, experiment: ExperimentFile) -> None:
    """Score segmentations against labels; write scores, pictures and a report."""
    from ssns.commands.evaluate import evaluate_experiment

    evaluate_experiment(_load(experiment, context))


@app.command(context_settings=SETTINGS, epilog=EPILOG)
def run(
    context: typer.Context, experiment: ExperimentFile, checkpoint: Checkpoint = None, verify: Verify = False
) -> None:
    """Train, predict, segment and evaluate, skipping what is done and still valid."""
    from ssns.commands.run import run_experiment

    run_experiment(_load(experiment, context), checkpoint=checkpoint, verify=verify)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write volume, experiment and results.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the synthetic volume and of training.")] = 0,
) -> None:
    """Go the whole way on synthetic EM, beside a baseline that does not learn."""
    from ssns.commands.demo import run_demo

    run_demo(folder, seed=seed)


@app.command()
def settings(
    section: Annotated[str, typer.Argument(help="Only what begins with this, e.g. training.optimizer.")] = "",
) -> None:
    """List every setting of an experiment, its default and what it means."""
    from ssns.commands.settings import print_settings

    print_settings(section)


def _load(path: Path, context: typer.Context) -> Any:
    from ssns.experiment import load_experiment

    return load_experiment(path, parse_changes(context.args))


def parse_changes(arguments: list[str]) -> dict[str, Any]:
    """Settings given as ``--a.b.c VALUE`` or ``--a.b.c=VALUE``; values are TOML, bare words are text."""
    changes: dict[str, Any] = {}
    waiting = list(arguments)
    while waiting:
        name = waiting.pop(0)
        if not name.startswith("--"):
            raise typer.BadParameter(f"wanted a setting as --a.b.c VALUE, got {name!r}")
        name, equals, value = name[2:].partition("=")
        if not equals:
            if not waiting:
                raise typer.BadParameter(f"--{name} needs a value")
            value = waiting.pop(0)
        changes[name] = _toml_value(value)
    return changes


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def main() -> None:
    """Run the command line: exit code 0 done, 1 error, 2 usage, 3 finished with blocks missing."""
    from ssns.errors import UserError

    try:
        app()
    except UserError as error:
        if _debug:
            raise
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
