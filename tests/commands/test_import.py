"""`ssns import`, and the verbs that go on from what it writes."""

import re

import numpy as np
import pytest
import torch
from published import mala_shapes, random_state, residual_output, residual_shapes, write
from toy_experiment import RAW, make_toy

from ssns.affinities import NEAREST
from ssns.checkpoint import load_checkpoint
from ssns.cli import main
from ssns.commands.importing import import_checkpoint
from ssns.errors import UserError
from ssns.networks import MalaUNetSettings, ResidualUNetSettings
from ssns.volume import open_volume

FILTERS = (3, 4, 5, 6, 7)
NETWORK = ["--network.filters", str(list(FILTERS))]


def call(*arguments):
    """The exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def published(folder, **options):
    """A file of the paper's code, its entries too."""
    state = random_state(residual_shapes(FILTERS, **options))
    return write(folder / "model-300000.ckpt", state, module=True), state


def test_every_key_is_told_and_what_comes_next(tmp_path, capsys):
    path, state = published(tmp_path)
    assert call("import", path) == 0
    told = capsys.readouterr().out
    for name, tensor in state.items():
        assert f"model_weights.module.{name} {tuple(tensor.shape)} -> {name}\n" in told
    assert "current_iter -> step\nvalid_result ignored: " in told
    assert "network.filters = [3, 4, 5, 6, 7]\n" in told
    assert 'network.activation = "elu"  # the paper\'s; weights do not tell\n' in told
    assert "offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]  # the paper's; weights do not tell\n" in told
    target = tmp_path / "model-300000.pt"
    assert told.endswith(f"written: {target}\nnext: ssns predict EXPERIMENT --checkpoint {target}\n")
    assert load_checkpoint(target).step == 300_000


def test_settings_that_weights_do_not_tell(tmp_path):
    path, _ = published(tmp_path, upsampling="nearest")
    output = tmp_path / "new" / "mine.pt"
    changes = [
        "--network.upsampling=nearest",
        "--network.padding",
        "replicate",
        "--offsets",
        "[[-1,0,0],[0,-2,0],[0,0,-2]]",
    ]
    assert call("import", path, "-o", output, *changes) == 0
    checkpoint = load_checkpoint(output)
    assert checkpoint.network == ResidualUNetSettings(
        filters=FILTERS, upsampling="nearest", padding="replicate", batch_momentum=0.001
    )
    assert checkpoint.offsets == ((-1, 0, 0), (0, -2, 0), (0, 0, -2))


def test_mala(tmp_path, capsys):
    path = write(tmp_path / "mala.ckpt", random_state(mala_shapes(2, 2, 1)), module=True)
    assert call("import", path) == 0
    assert "model_weights.module.layer8.weight (4, 1, 1, 3, 3) -> enlarge0.0.weight\n" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "mala.pt").network == MalaUNetSettings(features=2, growth=2, depth=1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"network.pading": "zeros"}, "network.pading: there is no such setting; did you mean padding?"),
        ({"network.padding": "zero"}, "network.padding: Input should be 'zeros' or 'replicate' (got 'zero')"),
        ({"network.activation": "gelu"}, "activation: wanted elu, relu, or leaky with its slope"),
        ({"offsets": 3}, "offsets: Input should be a valid tuple (got 3)"),
        ({"padding": "zeros"}, "--padding: wanted --network.KEY or --offsets"),
    ],
)
def test_wrong_settings(tmp_path, changes, told):
    path, _ = published(tmp_path)
    with pytest.raises(UserError, match=re.escape(told)):
        import_checkpoint(path, changes=changes)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_older_file_is_kept(tmp_path):
    path, _ = published(tmp_path)
    target = import_checkpoint(path)
    target.write_text("mine")
    with pytest.raises(UserError, match="is there already: name another with -o, or overwrite it with --force"):
        import_checkpoint(path)
    assert target.read_text() == "mine"
    import_checkpoint(path, force=True)
    assert load_checkpoint(target).offsets == NEAREST


def test_the_source_is_never_overwritten(tmp_path):
    path, _ = published(tmp_path)
    moved = path.rename(tmp_path / "a.pt")
    before = moved.read_bytes()
    with pytest.raises(UserError, match=r"output: wanted another file than .*a\.pt: name one with -o"):
        import_checkpoint(moved, force=True)
    assert moved.read_bytes() == before


def test_no_file(tmp_path, capsys):
    assert call("import", tmp_path / "none.ckpt") == 1
    assert "no file at" in capsys.readouterr().err


def test_it_predicts(tmp_path, capsys):
    """A part as large as raw, in one tile: what the paper's layers make of raw / 255."""
    experiment = make_toy(tmp_path)
    path, state = published(tmp_path)
    target = import_checkpoint(path)
    whole = ["--volumes.a.validation", "[]", "--volumes.a.test", "0:40", "--volumes.a.labelled", "[]"]
    settings = ["--prediction.block", "[40, 48, 48]", "--prediction.dtype", "float32"]
    assert call("predict", experiment, "--checkpoint", target, *whole, *settings) == 0
    assert "intensities 0..255 become 0..1" in capsys.readouterr().out
    (found,) = tmp_path.glob("runs/toy/**/affinities.zarr")
    affinities = np.asarray(open_volume(found).read())
    expected = residual_output(state, torch.from_numpy(RAW[None, None].astype(np.float32) / 255))[0].numpy()
    assert expected.std() > 0.02
    np.testing.assert_allclose(affinities, expected, rtol=0, atol=1e-5)


def test_pre_training_is_gone_on_from(tmp_path, capsys):
    experiment = make_toy(tmp_path)
    path, state = published(tmp_path, outputs=1, merge="none")
    assert call("import", path) == 0
    target = tmp_path / "model-300000.pt"
    assert f"next: ssns train EXPERIMENT --transfer.checkpoint {target};" in capsys.readouterr().out
    assert call("predict", experiment, "--checkpoint", target) == 1
    assert "restores raw, as pre-training does, and predicts no affinities: train from it" in capsys.readouterr().err
    frozen = ["--transfer.checkpoint", target, "--transfer.learning_rate", "0"]
    assert call("train", experiment, *frozen, *NETWORK, "--training.steps", "1", "--volumes.a.validation", "[]") == 0
    assert "92 tensors taken over" in capsys.readouterr().out
    weights = load_checkpoint(tmp_path / "runs" / "toy" / "train" / "last.pt").weights
    encoder = [
        name for name in state if name.split(".")[0] in ("embed_in", "conv0", "conv1", "conv2", "conv3", "center")
    ]
    assert len(encoder) == 92
    assert all(torch.equal(weights[name], state[name]) for name in encoder)
    assert not torch.equal(weights["conv7.block2.0.weight"], state["conv7.block2.0.weight"])
