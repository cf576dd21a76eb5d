import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import typer
from typer.main import get_command

import ssns
import ssns.commands.run
import ssns.commands.segment
from ssns.blockwise import MissingBlocksError, blocks
from ssns.cli import app, main, split_arguments
from ssns.errors import UserError
from ssns.space import Box

VERBS = (
    "init",
    "pretrain",
    "teach",
    "train",
    "predict",
    "segment",
    "evaluate",
    "run",
    "demo",
    "prepare",
    "zoo",
    "publish",
    "export",
    "import",
    "settings",
)


def call(*arguments):
    """The exit code."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text('name = "toy"\n[volumes.a]\nraw = "raw.tif"\n')
    return path


@pytest.fixture
def ran(monkeypatch):
    """What `ssns run` was called with, in place of running."""
    seen = SimpleNamespace(error=None)

    def run(experiment, **options):
        seen.experiment, seen.options = experiment, options
        if seen.error is not None:
            raise seen.error

    monkeypatch.setattr(ssns.commands.run, "run_experiment", run)
    return seen


class TestSettingsOnTheCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "changes"),
        [
            (["e.toml"], {}),
            (["e.toml", "--a.b", "3"], {"a.b": 3}),
            (["--a.b", "3", "e.toml"], {"a.b": 3}),
            (["e.toml", "--a.b=3"], {"a.b": 3}),
            (["e.toml", "--a", "1e-3", "--b", "-1", "--c", "true"], {"a": 1e-3, "b": -1, "c": True}),
            (["e.toml", "--a", "[8, 64, 64]"], {"a": [8, 64, 64]}),
            (["e.toml", "--a", "{ z = [0, 5] }"], {"a": {"z": [0, 5]}}),
            (["e.toml", "--a", "0:5"], {"a": "0:5"}),
            (["e.toml", "--a", "none"], {"a": "none"}),
            (["e.toml", "--a", "x=y"], {"a": "x=y"}),
            (["e.toml", "--a", "2024-05-01"], {"a": "2024-05-01"}),
            (["e.toml", "--a", "2024-05-01T07:32:00"], {"a": "2024-05-01T07:32:00"}),
            (["e.toml", "--a", '"5"'], {"a": "5"}),
        ],
    )
    def test_values_are_toml_and_bare_words_text(self, arguments, changes):
        assert split_arguments(arguments) == ("e.toml", changes)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["e.toml", "--a"], "--a needs a value"),
            (["e.toml", "f.toml"], r"got \['e.toml', 'f.toml'\]"),
            (["--a", "3"], "got no file"),
        ],
    )
    def test_what_is_no_setting_is_refused(self, arguments, message):
        with pytest.raises(typer.BadParameter, match=message):
            split_arguments(arguments)

    @pytest.mark.parametrize("first", [True, False])
    def test_they_reach_the_verb_beside_its_options(self, path, ran, first):
        changes = ["--training.steps", "7", "--verify", "--training.optimizer.lr=0.5"]
        assert call("run", *([str(path), *changes] if first else [*changes, str(path)])) == 0
        assert ran.experiment.training.steps == 7
        assert ran.experiment.training.optimizer.lr == 0.5
        assert ran.options == {"checkpoint": None, "verify": True}


@pytest.mark.parametrize("verb", ["segment", "run"])
def test_a_sweep_of_methods_is_a_setting_of_its_own(path, monkeypatch, verb):
    seen = []
    monkeypatch.setattr(getattr(ssns.commands, verb), f"{verb}_experiment", lambda given, **_: seen.append(given))
    for arguments in ([], ["--sweep"], ["--segmentation.sweep", "true"]):
        assert call(verb, str(path), *arguments) == 0
    assert [experiment.segmentation.sweep for experiment in seen] == [False, True, True]


class TestExitCodes:
    def test_usage(self, path):
        assert call("run") == 2
        assert call("fly") == 2
        assert call("run", str(path), "--training.steps") == 2
        assert call("run", str(path), "--from", "zoo:ac4-supervised-full", "--checkpoint", "best.pt") == 2

    def test_a_mistake_of_the_user_is_told_without_a_traceback(self, path, capsys):
        assert call("run", str(path), "--training.stepz", "3") == 1
        told = capsys.readouterr().err
        assert told.startswith("error: experiment: ")
        assert "did you mean steps?" in told
        assert "Traceback" not in told

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_debug_shows_it_wherever_it_stands(self, path, place):
        arguments = ["run", str(path), "--training.stepz", "3"]
        arguments.insert(place, "--debug")
        with pytest.raises(UserError, match="stepz"):
            main(arguments)

    def test_missing_blocks(self, path, ran, capsys):
        ran.error = MissingBlocksError(blocks(Box.of_shape((1, 1, 2)), (1, 1, 1)))
        assert call("run", str(path)) == 3
        assert "2 blocks are missing: z 0..1, y 0..1, x 0..1" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("error", "message", "code"),
        [
            (PermissionError(13, "Permission denied", "/x"), "error: /x: permission denied: name a place of yours", 1),
            (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device", 1),
            (KeyboardInterrupt(), "interrupted: the same command goes on from what is done", 130),
            (ModuleNotFoundError("no", name="torch"), "error: torch is not installed: pip install 'ssns[train]'", 1),
        ],
    )
    def test_troubles_of_the_machine(self, path, ran, capsys, error, message, code):
        ran.error = error
        assert call("run", str(path)) == code
        assert capsys.readouterr().err.startswith(message)

    @pytest.mark.parametrize("error", [ModuleNotFoundError("no", name="ssns.typo"), ZeroDivisionError("a bug")])
    def test_a_bug_is_not_hidden(self, path, ran, error):
        ran.error = error
        with pytest.raises(type(error)):
            main(["run", str(path)])


def test_one_process_at_a_time_works_in_a_run_folder(path, ran, monkeypatch, capsys):
    monkeypatch.setattr(ssns.commands.segment, "segment_experiment", lambda *args, **options: None)

    def inner(experiment, **options):
        ran.inner = call("segment", str(path))

    monkeypatch.setattr(ssns.commands.run, "run_experiment", inner)
    assert call("run", str(path)) == 0
    assert ran.inner == 1
    assert f"process {os.getpid()} works in this run folder" in capsys.readouterr().err
    assert call("segment", str(path)) == 0


def test_warnings_are_told_in_a_line(path, ran, capsys, monkeypatch):
    def warning(experiment, **options):
        warnings.warn("pages are missing", stacklevel=1)

    monkeypatch.setattr(ssns.commands.run, "run_experiment", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert call("run", str(path)) == 0
    assert capsys.readouterr().err == "warning: pages are missing\n"


def test_the_version_is_told(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"ssns {ssns.__version__}\n"


def test_every_verb_has_help(capsys):
    assert set(get_command(app).commands) == set(VERBS)
    for verb in VERBS:
        assert call(verb, "--help") == 0
        assert f" {verb} " in capsys.readouterr().out


def test_help_needs_none_of_the_heavy_libraries():
    script = (
        "import sys; from ssns.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print([name for name in ('numpy', 'pydantic', 'torch', 'tensorstore') if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "Commands" in done.stdout
    assert done.stdout.endswith("[]\n")
