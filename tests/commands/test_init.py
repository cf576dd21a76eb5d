import math
import re
import tomllib
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import tifffile
from toy_experiment import LABELS, RAW, make_toy

from ssns.affinities import NEAREST
from ssns.cli import main
from ssns.commands.init import CPU_RECIPE, NORMALIZATION, Inputs, _beside, init_experiment
from ssns.commands.inputs import Part, open_sources, parts
from ssns.commands.memory import BYTES_PER_VOXEL, check_memory
from ssns.commands.taught import taught_parts, teachers_experiment
from ssns.commands.truth import known_truth
from ssns.errors import UserError
from ssns.experiment import load_experiment
from ssns.presets import merged
from ssns.sampling import LabelledPatches
from ssns.space import Box
from ssns.training.objectives import PseudoLabelObjective, SupervisedObjective
from ssns.volume.normalization import IntensityRange, PercentileNormalization


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a raw of 40 sections and labels of its first five."""
    make_toy(tmp_path, labels=LABELS[:5])
    (tmp_path / "experiment.toml").unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ssns.commands.init._has_gpu", lambda: False)
    return tmp_path


def init(folder, output="experiment.toml", **given):
    """The experiment written, as read back, and its table."""
    init_experiment(Inputs("raw.tif", **({"labels": "labels.tif"} | given)), folder / output)
    return load_experiment(folder / output), tomllib.loads((folder / output).read_text())


def test_an_xy_quarter_in_all_depth_is_held_out_and_nothing_is_lost(folder, capsys):
    experiment, _ = init(folder)
    source = open_sources(experiment)["raw"]
    used = np.zeros(source.raw.shape, int)
    for role in ("labelled", "validation"):
        for box in source.boxes(role):
            used[box.slices] += 1
    assert (used[:5] == 1).all()
    assert not used[5:].any()
    assert [str(box) for box in source.boxes("validation")] == ["z 0..5, y 24..48, x 24..48"]
    told = capsys.readouterr().out
    assert (
        "held out for validation: the quarter y 24..48, x 24..48 of the labelled sections, in all their depth" in told
    )


@pytest.mark.parametrize("most", ["memory", "time"])
def test_of_much_that_is_labelled_so_much_is_held_out_that_run_can_use_it(folder, most, capsys, monkeypatch):
    tifffile.imwrite("labels.tif", LABELS)
    if most == "memory":
        memory = psutil.virtual_memory()._replace(available=2 * BYTES_PER_VOXEL * 10 * 24 * 24)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    else:
        monkeypatch.setattr("ssns.commands.init.MOST_VOXELS", 10 * 24 * 24)
    experiment, _ = init(folder)
    sources = open_sources(experiment)
    used = np.zeros(RAW.shape, int)
    for role in ("labelled", "validation"):
        for box in sources["raw"].boxes(role):
            used[box.slices] += 1
    assert (used == 1).all()
    assert [str(box) for box in sources["raw"].boxes("validation")] == ["z 30..40, y 24..48, x 24..48"]
    assert "y 24..48, x 24..48 of the last 10 labelled sections, as much as" in capsys.readouterr().out
    check_memory(experiment, parts(experiment, sources))


def test_all_of_raw_is_learned_from(folder):
    experiment, table = init(folder)
    assert table["volumes"]["raw"]["unlabelled"] == "0:40"
    assert isinstance(experiment.objective, PseudoLabelObjective)
    assert experiment.objective.teacher_steps > experiment.training.steps
    assert experiment.normalization == PercentileNormalization(sections="levelled")


def test_the_recipe_of_a_cpu_is_what_the_benchmark_has_measured(monkeypatch):
    monkeypatch.setenv("SSNS_DEVELOPMENT_DATA", "data")
    path = Path(__file__).parents[2] / "experiments" / "ac4" / "semi-ours.toml"
    measured = load_experiment(path).model_dump(mode="json")
    recipe = CPU_RECIPE.tables((8, 96, 96), supervised=False) | {"normalization": NORMALIZATION}
    assert merged(measured, recipe) == measured


@pytest.mark.parametrize(
    ("sections", "voxel_size_nm", "wanted"),
    [
        (5, (30, 6, 6), [[-2, 0, 0], [-3, 0, 0], [0, -9, 0], [0, 0, -9]]),  # 27 voxels are too far for the patch
        (2, (30, 6, 6), [[0, -9, 0], [0, 0, -9]]),
        (5, (8, 8, 8), [[0, -7, 0], [0, 0, -7], [0, -20, 0], [0, 0, -20]]),
        (8, (8, 8, 8), [[-7, 0, 0], [0, -7, 0], [0, 0, -7], [0, -20, 0], [0, 0, -20]]),
        (40, (8, 8, 8), [[-7, 0, 0], [0, -7, 0], [0, 0, -7], [0, -20, 0], [0, 0, -20]]),  # patches have 18 sections
    ],
)
def test_affinities_as_far_as_labels_reach_are_learned_beside_on_a_gpu(
    folder, monkeypatch, sections, voxel_size_nm, wanted
):
    tifffile.imwrite("labels.tif", LABELS[:sections])
    assert not init(folder, "small.toml", voxel_size_nm=voxel_size_nm)[0].auxiliary_offsets
    monkeypatch.setattr("ssns.commands.init._has_gpu", lambda: True)
    experiment, _ = init(folder, voxel_size_nm=voxel_size_nm)
    assert [list(offset) for offset in experiment.auxiliary_offsets] == wanted
    assert experiment.offsets == NEAREST


def test_of_a_raw_too_large_what_fits_into_memory_around_the_labels_is_learned_from(folder, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=8 * 40 * 20 * 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    _, table = init(folder)
    assert table["volumes"]["raw"]["unlabelled"] == {"z": [0, 40], "y": [14, 34], "x": [14, 34]}


def test_what_is_learned_from_without_labels_reaches_beyond_them(folder, monkeypatch):
    tifffile.imwrite("labels.tif", LABELS[:30])
    monkeypatch.setattr("ssns.commands.init.MOST_DEPTH", 8)
    memory = psutil.virtual_memory()._replace(available=8 * 8 * 20 * 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    _, table = init(folder)
    assert table["volumes"]["raw"]["unlabelled"] == {"z": [30, 38], "y": [14, 34], "x": [14, 34]}
    monkeypatch.setattr("ssns.commands.init.MOST_DEPTH", 30)
    assert init(folder, "deep.toml")[1]["volumes"]["raw"]["unlabelled"]["z"] == [10, 40]
    _, table = init(folder, "listed.toml", sections="20:30")
    assert table["volumes"]["raw"]["unlabelled"]["z"] == [10, 40]


def test_beside_labels_it_lies_where_there_is_room():
    raw, labels = Box.of_shape((110, 800, 800)), Box((0, 200, 200), (105, 600, 700))
    box = _beside(labels, raw, Box((0, 300, 300), (100, 400, 400)))
    assert str(box) == "z 0..100, y 600..700, x 300..400"


def test_as_much_is_segmented_for_pseudo_labels_as_memory_allows(folder, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=8 * RAW.size)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    experiment, _ = init(folder)
    assert experiment.objective.voxels == 8 * RAW.size // 2 // BYTES_PER_VOXEL
    monkeypatch.setattr("ssns.commands.taught.BOX", (8, 16, 16))
    sources = open_sources(experiment)
    teacher = teachers_experiment(experiment, sources)
    check_memory(teacher, taught_parts(teacher, sources))


@pytest.mark.parametrize("why", ["asked", "all is labelled"])
def test_labels_alone_are_learned_from_where(folder, why):
    if why == "all is labelled":
        tifffile.imwrite("labels.tif", LABELS)
    experiment, table = init(folder, supervised=why == "asked")
    assert "unlabelled" not in table["volumes"]["raw"]
    assert (experiment.objective, experiment.pretraining) == (SupervisedObjective(), None)


def test_the_rest_of_labels_that_cover_all_of_raw_is_unlabelled(folder):
    tifffile.imwrite("labels.tif", LABELS)
    experiment, table = init(folder, sections="0:5")
    assert table["volumes"]["raw"]["unlabelled"] == "0:40"
    assert isinstance(experiment.objective, PseudoLabelObjective)


def test_what_was_found_is_told(folder, capsys):
    labels = LABELS[:5].copy()
    labels[:, :12] = 99
    tifffile.imwrite("labels.tif", labels)
    init(folder, ignored="99", voxel_size_nm=(30, 6, 6))
    told = capsys.readouterr().out
    background, ignored = (labels == 0).mean(), (labels == 99).mean()
    assert "raw: 40 x 48 x 48 uint8, voxel size 30 x 6 x 6 nm" in told
    assert "labels: z 0..5, y 0..48, x 0..48, 9 neurons" in told
    assert f"background = 0: {background:.1%} of the labelled voxels" in told
    assert f"ignored = 99: {ignored:.1%} of the labelled voxels" in told
    assert "only 4 neurons are in the part held out" in told


def test_every_line_says_what_it_is(folder):
    init(folder)
    lines = (folder / "experiment.toml").read_text().splitlines()
    for key in ("name", "raw", "labels", "background", "ignored", "patch", "steps", "filters", "lr"):
        line = next(line for line in lines if line.startswith(f"{key} = "))
        assert "# " in line
    assert any(line.startswith("# test: ") for line in lines)


def test_the_file_may_lie_elsewhere(folder):
    experiment, table = init(folder, "sub/mine.toml")
    assert table["volumes"]["raw"]["raw"] == "../raw.tif"
    assert (experiment.name, experiment.runs) == ("mine", str(folder / "sub" / "runs"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my raw (1).ome.tif", "my-raw-1"), ("Ünder_score.tif", "Ünder_score"), ("--.tif", "volume")],
)
def test_any_name_of_a_file_gives_names_that_are_allowed(folder, name, expected):
    (folder / "raw.tif").rename(folder / name)
    init_experiment(Inputs(name, "labels.tif"), folder / "experiment.toml")
    experiment = load_experiment(folder / "experiment.toml")
    assert (experiment.name, list(experiment.volumes)) == (expected, [expected])


class TestPagesOfScatteredSections:
    SECTIONS = (3, 17, 18, 31)

    @pytest.fixture
    def pages(self, folder):
        (folder / "pages").mkdir()
        for z in self.SECTIONS:
            tifffile.imwrite(folder / "pages" / f"s{z:03}.tif", (LABELS[z] + 20 * (LABELS[z] > 0) * (z > 3)))
        return (
            LABELS[list(self.SECTIONS)]
            + 20 * (LABELS[list(self.SECTIONS)] > 0) * (np.array(self.SECTIONS) > 3)[:, None, None]
        )

    def test_lie_where_they_are_of(self, folder, pages, capsys):
        experiment, table = init(folder, labels="pages", sections="3,17,18,31")
        assert table["volumes"]["raw"]["labels_sections"] == list(self.SECTIONS)
        told = capsys.readouterr().out
        assert "labels: the 4 pages are of the sections 3, 17, 18, 31 of raw, as --sections lists\n" in told
        assert "labels: 4 sections of z 3..32, y 0..48, x 0..48, 24 neurons\n" in told
        assert "scattered sections" in told
        source = open_sources(experiment)["raw"]
        assert [(box.start[0], box.stop[0]) for box in source.labels_boxes] == [(3, 4), (17, 19), (31, 32)]
        used = np.zeros(source.raw.shape, int)
        for role in ("labelled", "validation"):
            for box in source.boxes(role):
                used[box.slices] += 1
        assert np.array_equal(used.any(axis=(1, 2)).nonzero()[0], self.SECTIONS)
        assert (used[list(self.SECTIONS)] == 1).all()

    def test_are_learned_from_there_and_nowhere_else(self, folder, pages):
        experiment, _ = init(folder, labels="pages", sections="3,17,18,31")
        source = open_sources(experiment)["raw"]
        patches = LabelledPatches([source.labelled("labelled", IntensityRange(0, 255))], (6, 16, 16), 1, seed=0)
        learned = np.zeros(source.raw.shape, bool)
        for box in source.boxes("labelled"):
            learned[box.slices] = True
        truth = np.zeros(source.raw.shape, int)
        truth[list(self.SECTIONS)] = pages
        seen = set()
        for step in range(60):
            batch = patches(step)
            numbers = list(map(int, re.findall(r"(\d+)\.\.", batch.places[0])))
            here = Box.of_shape((6, 16, 16), tuple(numbers)).slices
            assert np.array_equal(batch.valid[0], learned[here])
            assert np.array_equal(batch.labels[0], np.where(learned[here], truth[here], 0))
            seen |= {numbers[0] + z for z in batch.valid[0].any(axis=(1, 2)).nonzero()[0]}
        assert seen == set(self.SECTIONS)

    def test_are_scored_there_and_nowhere_else(self, folder, pages):
        experiment, _ = init(folder, labels="pages", sections="3,17,18,31")
        source = open_sources(experiment)["raw"]
        truth, known = known_truth(Part("whole", "target", source, source.raw.box))
        assert np.array_equal(known.all(axis=(1, 2)).nonzero()[0], self.SECTIONS)
        assert np.array_equal(known.any(axis=(1, 2)), known.all(axis=(1, 2)))
        assert np.array_equal(truth[list(self.SECTIONS)] > 0, pages > 0)
        assert not truth[~known].any()

    def test_isolated_ones_are_told_not_to_teach_z(self, folder, pages, capsys):
        pytest.importorskip("torch")
        from ssns.commands.train import train_experiment

        (folder / "pages" / "s018.tif").unlink()
        init(folder, labels="pages", sections="3,17,31", supervised=True)
        small = {
            "training.steps": 1,
            "training.patch": [4, 16, 16],
            "network.filters": [4, 8],
            "training.device": "cpu",
        }
        train_experiment(load_experiment(folder / "experiment.toml", small))
        assert "offset [-1, 0, 0]: no labels hold both ends" in capsys.readouterr().out

    def test_a_region_between_them_is_not_labelled(self, folder, pages):
        init(folder, labels="pages", sections="3,17,18,31")
        changed = load_experiment(
            folder / "experiment.toml", {"volumes.raw.labelled": "17:20", "volumes.raw.validation": []}
        )
        with pytest.raises(UserError, match=r"z 17\.\.20, .* not labelled throughout: labels cover z 3\.\.4, .*; z 17"):
            open_sources(changed)

    def test_other_sections_are_other_labels_and_only_pages_are_compared(self, folder, pages):
        init(folder, labels="pages", sections="3,17,18,31")
        prints = {
            sections: open_sources(load_experiment(folder / "experiment.toml", {
                "volumes.raw.labels_sections": list(sections), "volumes.raw.labelled": [], "volumes.raw.validation": [],
            }))["raw"].labels_fingerprint(math.inf)
            for sections in ((3, 17, 18, 31), (3, 17, 18, 32))
        }  # fmt: skip
        first, second = prints.values()
        assert first["blake2b"] == second["blake2b"]
        assert first["labels_sections"] == [3, 17, 18, 31]
        assert first != second

    def test_may_choose_among_themselves_as_before(self, folder, pages):
        with pytest.warns(UserWarning, match="put blank pages in, or say which sections they are"):
            _, table = init(folder, labels="pages", sections="0,2")
        assert "labels_sections" not in table["volumes"]["raw"]
        assert table["volumes"]["raw"]["validation"]["sections"] == [0, 2]

    def test_beside_a_start_in_the_plane(self, folder, pages):
        for file in (folder / "pages").iterdir():
            tifffile.imwrite(file, tifffile.imread(file)[10:40, 20:48])
        experiment, _ = init(folder, labels="pages", sections="3,17,18,31", labels_start=(0, 10, 20))
        source = open_sources(experiment)["raw"]
        assert source.labels_start == (3, 10, 20)
        assert source.labels_boxes[0] == Box((3, 10, 20), (4, 40, 48))

    @pytest.mark.parametrize("depth", [40, 30])
    def test_with_gaps_in_their_numbers_are_advised_of_where_raw_has_such_sections(self, folder, pages, depth, capsys):
        tifffile.imwrite(folder / "raw.tif", RAW[:depth])
        with pytest.warns(UserWarning, match="sections 4 to 16, 19 to 30 are missing"):
            init(folder, labels="pages")
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.endswith("give --sections 3,17,18,31") == (depth == 40)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"labels_sections": [3, 17, 18]}, r"labels_sections: wanted 4, one for each section of .*pages, got 3:"),
            ({"labels_sections": [3, 17, 18, 40]}, r"labels_sections: wanted sections of raw, .* z 0\.\.40, got 40:"),
            (
                {"labels_sections": [3, 18, 17, 31]},
                r"labels_sections: wanted sections of raw, ascending, each once, got",
            ),
            (
                {"labels_sections": [3, 17, 17, 31]},
                r"labels_sections: wanted sections of raw, ascending, each once, got",
            ),
            ({"labels_sections": [-1, 17, 18, 31]}, r"labels_sections: wanted sections of raw, ascending"),
            ({"labels_sections": []}, r"labels_sections: Tuple should have at least 1 item"),
            (
                {"labels_start": [3, 0, 0]},
                r"labels_sections: wanted labels_start = \[0, 0, 0\] beside it, .* got \[3, ",
            ),
        ],
    )
    def test_that_do_not_fit_are_told(self, folder, pages, changes, message):
        init(folder, labels="pages", sections="3,17,18,31")
        changes = {f"volumes.raw.{name}": value for name, value in changes.items()}
        with pytest.raises(UserError, match=message):
            open_sources(load_experiment(folder / "experiment.toml", changes))


class TestLabelsAsLabsHaveThem:
    def test_beginning_within_raw(self, folder):
        experiment, table = init(folder, labels_start=(20, 0, 0))
        assert table["volumes"]["raw"]["labels_start"] == [20, 0, 0]
        assert {box.start[0] for box in open_sources(experiment)["raw"].boxes("labelled")} == {20}

    def test_of_a_part_of_the_plane(self, folder):
        tifffile.imwrite("labels.tif", LABELS[:5, :32, :16])
        experiment, _ = init(folder, labels_start=(3, 10, 20))
        boxes = open_sources(experiment)["raw"].boxes("validation")
        assert [str(box) for box in boxes] == ["z 3..8, y 26..42, x 28..36"]

    @pytest.mark.parametrize(("text", "key", "value"), [("1:4", "z", [1, 4]), ("3, 0,1", "sections", [0, 1, 3])])
    def test_of_some_sections(self, folder, text, key, value, capsys):
        _, table = init(folder, sections=text)
        assert table["volumes"]["raw"]["validation"][key] == value
        told = capsys.readouterr().out
        assert ("scattered sections" in told) == (key == "sections")
        assert f"neurons in sections {'1:4' if key == 'z' else '0,1,3'}, which count\n" in told

    def test_only_the_sections_that_count_are_counted(self, folder, capsys):
        labels = LABELS[:5].copy()
        labels[3:] = 0
        tifffile.imwrite("labels.tif", labels)
        init(folder, sections="0:3")
        assert f"background = 0: {(LABELS[0] == 0).mean():.1%}" in capsys.readouterr().out

    @pytest.mark.parametrize(("filled", "advice"), [([1, 2], "1:3"), ([0, 3], "0,3")])
    def test_of_some_sections_unsaid(self, folder, filled, advice, capsys):
        labels = np.zeros_like(LABELS[:5])
        labels[filled] = LABELS[filled]
        tifffile.imwrite("labels.tif", labels)
        init(folder)
        told = capsys.readouterr().out
        assert "3 of 5 sections hold no neuron" in told
        assert f"leave them out with --sections {advice}\n" in told
        init(folder, "again.toml", sections=advice)
        assert "hold no neuron" not in capsys.readouterr().out

    def test_as_colours(self, folder):
        colours = np.zeros((5, 48, 48, 3), np.uint8)
        colours[..., 2] = LABELS[:5]
        tifffile.imwrite("labels.tif", colours, photometric="rgb")
        experiment, _ = init(folder, rgb_ids=True)
        assert np.array_equal(open_sources(experiment)["raw"].labels.read(), LABELS[:5])

    def test_without_background(self, folder, capsys):
        experiment, _ = init(folder, background="none", ignored="0")
        assert (experiment.volumes["raw"].background, experiment.volumes["raw"].ignored) == (None, 0)
        assert "background = none" in capsys.readouterr().out

    def test_with_another_background_than_said(self, folder, capsys):
        init(folder, background="77")
        assert "no voxel has the background id 77" in capsys.readouterr().out

    def test_in_a_dataset(self, folder):
        with h5py.File(folder / "both.h5", "w") as file:
            file["raw"], file["ids"] = RAW, LABELS
        init_experiment(Inputs("both.h5:raw", "both.h5:ids"), folder / "experiment.toml")
        experiment = load_experiment(folder / "experiment.toml")
        assert experiment.volumes["both"].labels == f"{folder / 'both.h5'}:ids"
        open_sources(experiment)

    def test_not_at_all(self, folder, capsys):
        experiment, _ = init(folder, labels=None)
        assert not experiment.volumes["raw"].labelled
        told = capsys.readouterr().out
        assert "no labels: there is nothing to train on" in told
        assert "--checkpoint" in told


def test_of_a_volume_too_large_a_part_around_the_labels_is_the_target(folder, capsys, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=2 * BYTES_PER_VOXEL * 40 * 32 * 32)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    experiment, _ = init(folder)
    target = next(part for part in parts(experiment, open_sources(experiment)) if part.role == "target")
    assert str(target.box) == "z 0..40, y 8..40, x 8..40"
    assert "too large for this memory" in capsys.readouterr().out


class TestErrors:
    def test_an_old_file_is_not_overwritten_unasked(self, folder):
        (folder / "experiment.toml").write_text("mine")
        with pytest.raises(UserError, match=r"exists: name another file with --output, or overwrite it with --force"):
            init(folder)
        assert (folder / "experiment.toml").read_text() == "mine"
        init_experiment(Inputs("raw.tif"), folder / "experiment.toml", overwrite=True)
        load_experiment(folder / "experiment.toml")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"sections": "1-3"}, "--sections: wanted a range as 0:5, or a list as 3,40,77, got '1-3'"),
            ({"sections": "3:1"}, "--sections: wanted a range as 0:5, .* got '3:1'"),
            (
                {"sections": "0:6"},
                r"--sections: 0:6 names 6 sections, of which labels, which lie at z 0\.\.5 of raw, do not hold all:"
                r" name some of these; or, if the 5 pages of labels are of scattered sections, as many of z 0\.\.40",
            ),
            ({"sections": "0,5"}, "--sections: 0,5 names 2 sections, of which labels"),
            ({"sections": "3,9,20,30,40"}, "--sections: 3,9,20,30,40 names 5 sections, of which labels"),
            ({"sections": "3,9,20,30,-1"}, "--sections: 3,9,20,30,-1 names 5 sections, of which labels"),
            ({"sections": "3,9,20,30,31", "labels_start": (2, 0, 0)}, "--sections: .* without a z of --labels-start"),
            ({"background": "black"}, "--background: wanted an id of at least 0, or none, got 'black'"),
            ({"ignored": "-1"}, "--ignored: wanted an id of at least 0, or none, got '-1'"),
            ({"labels_start": (36, 0, 0)}, r"labels reach z 40\.\.41 but raw ends at z 40"),
            ({"voxel_size_nm": (30, 0, 6)}, "voxel_size_nm is .*: wanted three nanometres above 0"),
            ({"labels": "raw.tif"}, "--labels: wanted ids of neurons, got raw.tif, which is raw: name the labels"),
            ({"labels": "lables.tif"}, r"lables.tif does not exist \(did you mean labels.tif"),
        ],
    )
    def test_is_told_and_nothing_is_written(self, folder, given, message):
        with pytest.raises(UserError, match=message):
            init(folder, **given)
        assert not (folder / "experiment.toml").exists()

    def test_labels_of_another_voxel_size(self, folder):
        for name, array, size in (("raw", RAW, (30, 6, 6)), ("ids", LABELS, (30, 12, 12))):
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file["main"] = array
                file["main"].attrs["resolution"] = size
        with pytest.raises(UserError, match=r"labels have voxels of .*12.* nm, but raw has .*resample the labels"):
            init_experiment(Inputs("raw.h5", "ids.h5"), folder / "experiment.toml")


def test_the_command_line_passes_everything_on(folder, capsys):
    place = ["--voxel-size-nm", "30", "6", "6", "--labels-start", "2", "0", "0", "--sections", "2,4"]
    ids = ["--background", "none", "--ignored", "0", "--supervised"]
    with pytest.raises(SystemExit, match="0"):
        main(["init", "raw.tif", "--labels", "labels.tif", *place, *ids, "-o", "out.toml"])
    volume = load_experiment(folder / "out.toml").volumes["raw"]
    assert volume.voxel_size_nm == (30, 6, 6)
    assert volume.labels_start == (2, 0, 0)
    assert (volume.background, volume.ignored) == (None, 0)
    assert (volume.validation[0].sections, volume.unlabelled) == ((2, 4), ())
    assert "next: ssns run out.toml" in capsys.readouterr().out
