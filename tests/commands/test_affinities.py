"""Affinities of the user's own in place of predicted ones."""

import h5py
import numpy as np
import pytest
from toy_experiment import LABELS, RAW, TOML, make_toy, toy

from ssns.affinities import NEAREST, labels_to_affinities
from ssns.commands.evaluate import evaluate_experiment
from ssns.commands.run import run_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.segment import segment_experiment
from ssns.errors import UserError
from ssns.metrics import score
from ssns.volume import open_volume, write_volume

PERFECT = (255 * np.asarray(labels_to_affinities(LABELS, NEAREST)[0])).astype(np.uint8)


@pytest.fixture
def path(tmp_path):
    """The toy, with perfect affinities of all of raw in affinities.h5, in floats."""
    path = make_toy(tmp_path)
    with h5py.File(tmp_path / "affinities.h5", "w") as file:
        file["affs"] = PERFECT.astype(np.float32) / 255
    path.write_text(TOML.replace("raw = ", 'affinities = "affinities.h5:affs"\nraw = ', 1))
    return path


def segmented(experiment, part="a-test"):
    return open_volume(RunFolder.of(experiment).segmentation(part))


def test_a_run_needs_no_training(path, capsys):
    rows = run_experiment(toy(path))
    assert all(row["voi_sum"] < 1e-9 for row in rows.values())
    assert not RunFolder.of(toy(path)).training.exists()
    assert "the affinities of all parts are files of yours" in capsys.readouterr().out


def test_parts_are_cut_out_of_them_where_they_lie(path):
    segment_experiment(toy(path))
    segmentation = segmented(toy(path))
    assert segmentation.origin == (8, 0, 0)
    assert score(segmentation.read(), LABELS[8:40]).voi_sum < 1e-9


@pytest.mark.parametrize("how", ["said", "origin of the file"])
def test_they_may_cover_a_part_of_raw(path, how):
    if how == "said":
        with h5py.File(path.with_name("affinities.h5"), "a") as file:
            file["part"] = PERFECT[:, 4:]
        changes = {"volumes__a__affinities": "affinities.h5:part", "volumes__a__affinities_start": [4, 0, 0]}
    else:
        write_volume(path.with_name("part.zarr"), PERFECT[:, 4:], voxel_size_nm=(30, 6, 6), origin=(4, 0, 0))
        changes = {"volumes__a__affinities": "part.zarr"}
    segment_experiment(toy(path, **changes))
    assert score(segmented(toy(path, **changes)).read(), LABELS[8:40]).voi_sum < 1e-9


def test_others_make_the_segments_anew(path, capsys):
    segment_experiment(toy(path))
    segment_experiment(toy(path))
    assert capsys.readouterr().out.count("skipped") == 3  # the sweep and two parts
    with h5py.File(path.with_name("affinities.h5"), "a") as file:
        file["affs"][0, 20, 20, 20] = 0.5
    with pytest.raises(UserError, match="was made before a change of the data of affinities"):
        evaluate_experiment(toy(path))
    segment_experiment(toy(path))
    evaluate_experiment(toy(path))


def test_volumes_without_them_want_a_prediction(path):
    with path.open("a") as file:
        file.write("\n[volumes.b]\nraw = 'raw.tif'\ntarget = '0:8'\n")
    with pytest.raises(UserError, match=r"affinities: none of b-target .* or name a file of yours in volumes.b"):
        segment_experiment(toy(path))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            PERFECT[:, :30],
            r"covers z 0\.\.30, .* of raw, not z 8\.\.40, .* of a-test: make volumes.a.test smaller",
        ),
        (PERFECT[:2], "wanted a channel for each of the offsets .*, got 2 in"),
        (RAW, "wanted a channel for each of the offsets .*, got no channels in"),
    ],
)
def test_what_does_not_fit_is_told(path, dataset, message):
    with h5py.File(path.with_name("affinities.h5"), "a") as file:
        file["other"] = dataset
    with pytest.raises(UserError, match=message):
        segment_experiment(toy(path, volumes__a__affinities="affinities.h5:other"))
    assert not RunFolder.of(toy(path)).segmentation("a-validation").exists()


def test_offsets_that_a_file_tells_are_those_of_the_experiment(path):
    offsets = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    write_volume(path.with_name("a.zarr"), PERFECT, voxel_size_nm=(30, 6, 6), attributes={"offsets": offsets})
    with pytest.raises(UserError, match=r"has the offsets .*: set offsets to those of the file"):
        segment_experiment(toy(path, volumes__a__affinities="a.zarr"))
