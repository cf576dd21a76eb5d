"""`ssns prepare` on miniatures of what is published, and on the development volumes as SNEMI3D's files."""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import toy_datasets
from toy_datasets import CENTRE, CREMI_AT, labels_of, processed, raw_of

import ssns.datasets.converting
from ssns.cli import main
from ssns.commands.inputs import open_source
from ssns.commands.prepare import Wishes, list_datasets, parse_crops, parse_defects, prepare_dataset
from ssns.datasets import DATASETS
from ssns.errors import UserError
from ssns.experiment import load_experiment
from ssns.space import Box
from ssns.volume import open_volume

PAPER = Path(__file__).parents[2] / "experiments" / "paper"


@pytest.fixture(autouse=True)
def _miniatures(request, monkeypatch):
    if "development_data" not in request.fixturenames:
        toy_datasets.miniatures(monkeypatch)


@pytest.fixture
def downloads(tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


def found(folder, path):
    return open_volume(folder / path, dataset="main").read()


def with_layout(monkeypatch, name, path, at=0, **changes):
    """Change what is known of one form of an output."""
    dataset = DATASETS[name]
    outputs = list(dataset.outputs)
    (place,) = (n for n, output in enumerate(outputs) if output.path == path)
    layouts = list(outputs[place].layouts)
    layouts[at] = replace(layouts[at], **changes)
    outputs[place] = replace(outputs[place], layouts=tuple(layouts))
    monkeypatch.setitem(DATASETS, name, replace(dataset, outputs=tuple(outputs)))


def test_the_vast_package_pairs_pages_that_are_numbered_against_each_other(tmp_path, downloads):
    made = toy_datasets.vast(downloads)
    prepare_dataset("snemi3d", tmp_path)
    for name, (raw, ids) in made.items():
        np.testing.assert_array_equal(found(tmp_path, f"snemi3d/{name}_inputs.h5"), raw)
        np.testing.assert_array_equal(found(tmp_path, f"snemi3d/{name}_labels.h5"), ids)


def test_labels_in_the_wrong_order_are_told_of(tmp_path, downloads, capsys, monkeypatch):
    toy_datasets.vast(downloads)
    prepare_dataset("snemi3d", tmp_path / "right", downloads)
    assert "reverse order" not in capsys.readouterr().out
    for path, at in (("snemi3d/AC3_labels.h5", 0), ("snemi3d/AC4_labels.h5", 1)):
        with_layout(monkeypatch, "snemi3d", path, at, reversed=False)
    prepare_dataset("snemi3d", tmp_path / "wrong", downloads)
    warned = re.findall(r"warning: (\S+) would fit", capsys.readouterr().out)
    assert warned == ["snemi3d/AC3_labels.h5", "snemi3d/AC4_labels.h5"]


def test_snemi3d_tiffs_become_ac4_and_the_rest_is_told(tmp_path, downloads, capsys):
    raw, labels = toy_datasets.snemi(downloads)
    prepare_dataset("snemi3d", tmp_path)
    np.testing.assert_array_equal(found(tmp_path, "snemi3d/AC4_inputs.h5"), raw)
    volume = open_volume(tmp_path / "snemi3d/AC4_labels.h5")
    np.testing.assert_array_equal(volume.read(), labels)
    assert (volume.dtype, volume.voxel_size_nm, volume.origin) == (np.uint16, (30, 6, 6), (0, 0, 0))
    assert volume.attributes == {"source": "train-labels.tif", "interpolated": []}
    said = capsys.readouterr().out
    assert "snemi3d/AC3_inputs.h5: needs one of ac3_EM, AC3_inputs.h5" in said
    assert "AC3AC4Package.zip" in said
    assert f"next: ssns init {tmp_path}/snemi3d/AC4_inputs.h5 --labels {tmp_path}/snemi3d/AC4_labels.h5" in said


def test_processed_files_are_taken_as_they_are(tmp_path, downloads, capsys):
    raw = {
        name: processed(downloads / f"{name}_inputs.h5", raw_of(n, 16, 16)) for name, n in (("AC3", 256), ("AC4", 100))
    }
    labels = processed(downloads / "AC3_labels.h5", labels_of(raw["AC3"]).astype(np.int64))
    prepare_dataset("snemi3d", tmp_path)
    np.testing.assert_array_equal(found(tmp_path, "snemi3d/AC3_inputs.h5"), raw["AC3"])
    np.testing.assert_array_equal(found(tmp_path, "snemi3d/AC3_labels.h5"), labels)
    assert f"next: SSNS_DATA={tmp_path} ssns run experiments/paper/ac3-5l-200u-ema.toml" in capsys.readouterr().out


@pytest.mark.parametrize("padded", [False, True])
def test_cremi_is_cropped_to_the_centre_from_either_file(tmp_path, downloads, padded):
    name = f"sample_C{'_padded' if padded else ''}_20160501.hdf"
    raw, labels = toy_datasets.cremi(downloads / name, padded=padded)
    prepare_dataset("cremi", tmp_path)
    cropped = raw[CREMI_AT] if padded else raw
    np.testing.assert_array_equal(found(tmp_path, "cremi/cremiC_inputs_interp.h5"), cropped[CENTRE])
    written = open_volume(tmp_path / "cremi/cremiC_labels.h5")
    np.testing.assert_array_equal(written.read(), labels[CENTRE])
    assert (written.dtype, written.origin, written.voxel_size_nm) == (np.uint32, (0, 0, 0), (40, 4, 4))


def test_defective_sections_of_cremi_are_known_or_blank_or_named(tmp_path, downloads, capsys):
    file = downloads / "sample_C+_20160601.hdf"
    raw, _ = toy_datasets.cremi(file, labelled=False)
    with h5py.File(file, "a") as opened:
        opened["volumes/raw"][40] = 0
    sound = raw[CENTRE].astype(float)
    path = "cremi/cremiC+_inputs_interp.h5"
    prepare_dataset("cremi", tmp_path)
    assert "interpolated sections 14, 40, 74, 86" in capsys.readouterr().out
    repaired = found(tmp_path, path)
    for z in (14, 40, 74, 86):
        np.testing.assert_array_equal(repaired[z], np.rint((sound[z - 1] + sound[z + 1]) / 2))
    others = np.setdiff1d(np.arange(125), [14, 40, 74, 86])
    np.testing.assert_array_equal(repaired[others], sound[others])
    name = "cremiC+_inputs_interp"
    prepare_dataset("cremi", tmp_path, wishes=Wishes(defects={name: (7,)}, force=True))
    assert open_volume(tmp_path / path).attributes["interpolated"] == [7]
    prepare_dataset("cremi", tmp_path, wishes=Wishes(defects={name: ()}, force=True))
    np.testing.assert_array_equal(found(tmp_path, path)[14], sound[14])
    with pytest.raises(UserError, match=r"--defects: cremiC\+_inputs_interp has sections 0 to 124, got \(125,\)"):
        prepare_dataset("cremi", tmp_path, wishes=Wishes(defects={name: (125,)}, force=True))


def test_ids_are_not_interpolated(tmp_path, downloads):
    toy_datasets.snemi(downloads)
    with pytest.raises(UserError, match=r"--defects: wanted sections of raw, got .*labels.*, whose ids cannot be"):
        prepare_dataset("snemi3d", tmp_path, wishes=Wishes(defects={"AC4_labels": (3,)}))


def test_files_of_the_paper_are_not_repaired_twice(tmp_path, downloads):
    raw = raw_of(125, 16, 16)
    raw[3] = 0
    processed(downloads / "cremiC+_inputs_interp.h5", raw)
    prepare_dataset("cremi", tmp_path)
    np.testing.assert_array_equal(found(tmp_path, "cremi/cremiC+_inputs_interp.h5"), raw)


def test_padded_labels_keep_their_place_in_raw(tmp_path, downloads):
    raw, labels = toy_datasets.cremi(downloads / "sample_A_padded_20160501.hdf", padded=True)
    prepare_dataset("cremi-padded", tmp_path)
    np.testing.assert_array_equal(found(tmp_path, "cremi/cremiA_padded_inputs_interp.h5"), raw)
    written = open_volume(tmp_path / "cremi/cremiA_padded_labels.h5")
    np.testing.assert_array_equal(written.read(), labels)
    assert written.origin == (37, 14, 14)


def test_a_subset_of_kasthuri15_is_cut_out_where_its_name_says_as_large_as_its_labels(tmp_path, downloads, capsys):
    raw, labels = toy_datasets.kasthuri(downloads)
    prepare_dataset("kasthuri15", tmp_path)
    name = "kasthuri15/superset_z1000_y7500_x3200"
    np.testing.assert_array_equal(found(tmp_path, f"{name}_raw.hdf"), raw)
    np.testing.assert_array_equal(found(tmp_path, f"{name}_labels_reid.hdf"), labels)
    assert "superset_z500_y6500_x3200_raw.hdf: its size is that of kasthuri15/superset_z500" in capsys.readouterr().out


def test_labels_alone_wait_for_raw(tmp_path, downloads, capsys):
    processed(downloads / "superset_z500_y6500_x3200_labels_reid.hdf", labels_of(raw_of(4, 5, 6)))
    prepare_dataset("kasthuri15", tmp_path)
    assert f"next: the same command, once raw is in {downloads}" in capsys.readouterr().out


def test_a_subset_outside_the_part_at_hand_is_refused(tmp_path, downloads):
    toy_datasets.kasthuri(downloads)
    processed(downloads / "superset_z500_y6500_x3200_labels_reid.hdf", labels_of(raw_of(4, 5, 6)))
    with pytest.raises(UserError, match=r"wanted z 500\.\.504.*but it holds z 995\.\.1011"):
        prepare_dataset("kasthuri15", tmp_path)


def test_what_surrounds_ac4_is_cut_out_where_the_user_says(tmp_path, downloads, capsys):
    toy_datasets.kasthuri(downloads)
    with pytest.raises(UserError, match="nothing to make ac4-around of"):
        prepare_dataset("ac4-around", tmp_path)
    assert "AC4_5.h5: where it is has not been published: say so with --crop AC4_5=" in capsys.readouterr().out
    box = Box((996, 7495, 3195), (1006, 7511, 3211))
    prepare_dataset("ac4-around", tmp_path, wishes=Wishes(crops={"AC4_5": box}))
    part = open_volume(downloads / "kasthuri15.zarr")
    expected = part.read(box.relative_to(part.origin))
    np.testing.assert_array_equal(found(tmp_path, "snemi3d/AC4_5.h5"), expected)


def test_fib25(tmp_path, downloads):
    (downloads / "validation_sample").mkdir()
    raw = raw_of(10, 10, 10)
    with h5py.File(downloads / "validation_sample/grayscale_maps.h5", "w") as file:
        file["raw"] = raw
    with h5py.File(downloads / "validation_sample/groundtruth.h5", "w") as file:
        file["stack"] = labels_of(raw).astype(np.uint64)
    prepare_dataset("fib-25", tmp_path)
    np.testing.assert_array_equal(found(tmp_path, "fib/fib_inputs.h5"), raw)
    np.testing.assert_array_equal(found(tmp_path, "fib/fib_labels.h5"), labels_of(raw))


class TestRefusals:
    def test_nothing_there_says_what_to_fetch(self, tmp_path, capsys):
        for name, dataset in DATASETS.items():
            with pytest.raises(UserError, match=f"nothing to make {name} of is in {tmp_path}/downloads"):
                prepare_dataset(name, tmp_path)
            said = capsys.readouterr().out
            assert all(download.where in said for download in dataset.downloads)
            assert all(output.path in said for output in dataset.outputs)
            assert dataset.citation in said
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_section(self, tmp_path, downloads):
        toy_datasets.snemi(downloads, depth=99)
        with pytest.raises(UserError, match=r"train-input\.tif: wanted 100 x 16 x 16 voxels.*got 99 x 16 x 16"):
            prepare_dataset("snemi3d", tmp_path)
        assert not (tmp_path / "snemi3d").exists()

    def test_another_type(self, tmp_path, downloads):
        tifffile.imwrite(downloads / "train-input.tif", raw_of(100, 16, 16).astype(np.float32))
        with pytest.raises(UserError, match=r"wanted raw of uint8 on 3 axes, got float32"):
            prepare_dataset("snemi3d", tmp_path)

    def test_another_number_of_ids_unless_it_is_wanted(self, tmp_path, downloads, monkeypatch):
        toy_datasets.snemi(downloads)
        with_layout(monkeypatch, "snemi3d", "snemi3d/AC4_labels.h5", ids=400)
        with pytest.raises(UserError, match=r"train-labels\.tif: wanted 400 ids, got 6: .*--unverified"):
            prepare_dataset("snemi3d", tmp_path)
        assert sorted(path.name for path in (tmp_path / "snemi3d").iterdir()) == ["AC4_inputs.h5"]
        prepare_dataset("snemi3d", tmp_path, wishes=Wishes(unverified=True))
        assert (tmp_path / "snemi3d/AC4_labels.h5").exists()

    def test_another_checksum_unless_it_is_wanted(self, tmp_path, downloads, monkeypatch):
        file = downloads / "sample_A_20160501.hdf"
        toy_datasets.cremi(file)
        path = "cremi/cremiA_inputs_interp.h5"
        with_layout(monkeypatch, "cremi", path, sha256="0" * 64)
        with pytest.raises(UserError, match=f"wanted the SHA-256 0*, got {toy_datasets.sha256(file)}: fetch"):
            prepare_dataset("cremi", tmp_path)
        prepare_dataset("cremi", tmp_path, wishes=Wishes(unverified=True))
        with_layout(monkeypatch, "cremi", path, sha256=toy_datasets.sha256(file))
        prepare_dataset("cremi", tmp_path, wishes=Wishes(force=True))

    def test_two_of_one_file(self, tmp_path, downloads):
        toy_datasets.snemi(downloads)
        toy_datasets.snemi(downloads / "copy")
        with pytest.raises(UserError, match=r"train-input\.tif is in .* more than once"):
            prepare_dataset("snemi3d", tmp_path)

    def test_an_unknown_data_set_or_output(self, tmp_path):
        with pytest.raises(UserError, match=r"there is no data set snemi \(did you mean snemi3d\?\)"):
            prepare_dataset("snemi", tmp_path)
        with pytest.raises(UserError, match=r"ac4-around has no AC4_x \(did you mean AC4_"):
            prepare_dataset("ac4-around", tmp_path, wishes=Wishes(crops={"AC4_x": Box.of_shape((1, 1, 1))}))


class TestGoingOn:
    def test_a_finished_file_stays_unless_it_is_to_be_made_again(self, tmp_path, downloads, capsys):
        toy_datasets.snemi(downloads)
        prepare_dataset("snemi3d", tmp_path)
        file = tmp_path / "snemi3d/AC4_inputs.h5"
        before = file.stat().st_mtime_ns
        capsys.readouterr()
        prepare_dataset("snemi3d", tmp_path, wishes=Wishes(defects={"AC4_inputs": (3,)}))
        assert file.stat().st_mtime_ns == before
        said = capsys.readouterr().out
        assert "snemi3d/AC4_inputs.h5: is there" in said
        assert "stays as it is: --force makes it again" in said
        prepare_dataset("snemi3d", tmp_path, wishes=Wishes(force=True))
        assert file.stat().st_mtime_ns > before

    def test_a_finished_file_of_another_shape_is_refused(self, tmp_path, downloads):
        processed(tmp_path / "snemi3d/AC4_inputs.h5", raw_of(3, 16, 16))
        with pytest.raises(UserError, match=r"wanted 100 x 16 x 16.*got 3 x 16 x 16.*--force makes it again"):
            prepare_dataset("snemi3d", tmp_path)

    def test_an_interrupted_preparation_goes_on_with_the_unfinished_file(self, tmp_path, downloads, monkeypatch):
        _, labels = toy_datasets.snemi(downloads)
        write, started = ssns.datasets.converting.write_hdf5, []

        def first_of(slabs):
            yield next(slabs)
            raise KeyboardInterrupt

        def interrupted(file, plan, slabs, **options):
            started.append(file.name)
            write(file, plan, first_of(slabs) if len(started) == 2 else slabs, **options)

        monkeypatch.setattr(ssns.datasets.converting, "write_hdf5", interrupted)
        with pytest.raises(UserError, match="interrupted: the same command goes on"):
            prepare_dataset("snemi3d", tmp_path)
        assert [path.name for path in (tmp_path / "snemi3d").iterdir()] == ["AC4_inputs.h5"]
        (tmp_path / "snemi3d/AC4_labels.h5.partial").write_bytes(b"what a kill leaves")
        prepare_dataset("snemi3d", tmp_path)
        assert started == ["AC4_inputs.h5", "AC4_labels.h5", "AC4_labels.h5"]
        np.testing.assert_array_equal(found(tmp_path, "snemi3d/AC4_labels.h5"), labels)
        assert sorted(path.name for path in (tmp_path / "snemi3d").iterdir()) == ["AC4_inputs.h5", "AC4_labels.h5"]


@pytest.mark.parametrize("path", sorted(PAPER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_volume_of_a_shipped_experiment_is_an_output(path, monkeypatch):
    monkeypatch.setenv("SSNS_DATA", "DATA")
    outputs = {output.path: output for dataset in DATASETS.values() for output in dataset.outputs}
    volumes = load_experiment(path).volumes.values()
    needed = set()
    for volume in volumes:
        for role in ("raw", "labels"):
            if (file := getattr(volume, role)) is not None:
                file, dataset = file.rsplit(":", 1)
                output = outputs[file.partition("DATA/")[2]]
                assert (output.role, output.voxel_size_nm, dataset) == (role, volume.voxel_size_nm, "main")
                needed.add(output.path)
    told = {name: set(paths) for each in DATASETS.values() for name, paths in each.experiments}
    assert told.get(path.stem, needed) == needed


def test_the_volumes_of_the_paper_open_as_prepared(tmp_path, downloads, monkeypatch):
    toy_datasets.vast(downloads)
    toy_datasets.cremi(downloads / "sample_C_20160501.hdf")
    toy_datasets.cremi(downloads / "sample_C+_20160601.hdf", labelled=False)
    toy_datasets.kasthuri(downloads)
    for name in ("snemi3d", "cremi", "kasthuri15"):
        prepare_dataset(name, tmp_path)
    monkeypatch.setenv("SSNS_DATA", str(tmp_path))
    opened = set()
    for path in PAPER.glob("*.toml"):
        for name, settings in load_experiment(path).volumes.items():
            if name in ("ac3", "ac4", "c", "c_plus", "subset1"):
                source = open_source(name, settings)
                assert source.labels_start == (0, 0, 0)
                opened.add(name)
    assert opened == {"ac3", "ac4", "c", "c_plus", "subset1"}


class TestCommandLine:
    def test_help_and_the_verb_alone_list_the_data_sets(self, capsys):
        list_datasets()
        listed = capsys.readouterr().out
        assert [line.split()[0] for line in listed.splitlines()[:-1]] == list(DATASETS)
        with pytest.raises(SystemExit):
            main(["prepare", "--help"])
        (told,) = re.findall(r"Data sets: ([\w ,-]+?)\.", capsys.readouterr().out)
        assert told.split(", ") == list(DATASETS)

    def test_it_goes_the_whole_way(self, tmp_path, downloads):
        toy_datasets.cremi(downloads / "sample_C+_20160601.hdf", labelled=False)
        with pytest.raises(SystemExit) as ended:
            main(["prepare", "cremi", str(tmp_path), "--defects", "cremiC+_inputs_interp=3,4"])
        assert not ended.value.code
        assert open_volume(tmp_path / "cremi/cremiC+_inputs_interp.h5").attributes["interpolated"] == [3, 4]

    def test_boxes_and_sections_are_read(self):
        assert parse_crops(["AC4_5=0:100,5:1029,7:1031"]) == {"AC4_5": Box((0, 5, 7), (100, 1029, 1031))}
        assert parse_defects(["a=14,74", "b=none"]) == {"a": (14, 74), "b": ()}

    @pytest.mark.parametrize("text", ["AC4_5", "AC4_5=", "AC4_5=0:1,2:3", "AC4_5=0:1,2:3,5:5", "AC4_5=a:1,2:3,4:5"])
    def test_other_boxes_are_refused(self, text):
        with pytest.raises(UserError, match=r"--crop: wanted .* got "):
            parse_crops([text])

    @pytest.mark.parametrize("text", ["a", "a=x", "a=-1"])
    def test_other_sections_are_refused(self, text):
        with pytest.raises(UserError, match=r"--defects: wanted .* got "):
            parse_defects([text])


@pytest.mark.real_data
def test_the_development_volume_is_ac4_of_snemi3d(tmp_path, downloads, development_data, capsys):
    (downloads / "train-input.tif").symlink_to(development_data / "AC4_inputs.tif")
    (downloads / "train-labels.tif").symlink_to(development_data / "AC4_labels.tif")
    prepare_dataset("snemi3d", tmp_path)
    said = capsys.readouterr().out
    assert said.count("voxels are those that this project was measured on") == 2
    assert "400 ids" in said
    assert "reverse order" not in said
