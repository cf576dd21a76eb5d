import copy
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ssns.affinities import NEAREST
from ssns.errors import UserError
from ssns.experiment import Experiment, Region, check_roles, load_experiment, region_boxes
from ssns.losses import Malis
from ssns.networks import ResidualUNetSettings
from ssns.segmentation import (
    DEFAULT_METHOD,
    PRESETS,
    Agglomeration,
    Cleaning,
    DistanceTransformWatershed,
    KernighanLin,
    LsdWatershed,
    Multicut,
    with_value,
)
from ssns.space import Box

BOUNDS = Box.of_shape((10, 64, 64))


def load(folder, text="", **changes):
    """An experiment of one volume with ``text`` added; changes have __ for a dot."""
    path = folder / "experiment.toml"
    path.write_text(f'{text}\n[volumes.a]\nraw = "raw.tif"\n' if "[volumes" not in text else text)
    return load_experiment(path, {name.replace("__", "."): value for name, value in changes.items()})


def refusal(folder, text="", **changes):
    """The lines of the error, without the first."""
    with pytest.raises(UserError) as error:
        load(folder, text, **changes)
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def consistency(depth):
    """Settings of a training that sees unlabelled patches of so many sections."""
    return {"objective": {"type": "consistency"}, "training": {"patch": (depth, 8, 8)}}


def pretraining(depth):
    return {"pretraining": {"training": {"patch": (depth, 8, 8)}}}


class TestReading:
    def test_paths_are_relative_to_the_file(self, tmp_path):
        experiment = load(tmp_path, '[volumes.a]\nraw = "x/../raw.tif"\nlabels = "/abs/ids.h5:main"\n')
        assert experiment.volumes["a"].raw == str(tmp_path / "raw.tif")
        assert experiment.volumes["a"].labels == "/abs/ids.h5:main"
        assert experiment.runs == str(tmp_path / "runs")

    def test_names_of_the_environment_are_replaced(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WHERE", str(tmp_path / "there"))
        assert load(tmp_path, volumes__a__raw="$WHERE/r.tif").volumes["a"].raw == str(tmp_path / "there" / "r.tif")

    def test_a_name_that_is_not_set_is_an_error(self, tmp_path, monkeypatch):
        monkeypatch.delenv("NOWHERE", raising=False)
        with pytest.raises(UserError, match="the environment variable NOWHERE is not set"):
            load(tmp_path, volumes__a__raw="$NOWHERE/r.tif")

    @pytest.mark.parametrize("changes", [{}, {"volumes__a__raw": "mine.tif", "transfer__checkpoint": "none"}])
    def test_a_name_is_needed_only_where_no_file_on_top_says_otherwise(self, tmp_path, monkeypatch, changes):
        monkeypatch.delenv("NOWHERE", raising=False)
        (tmp_path / "base.toml").write_text(
            'runs = "$NOWHERE"\nvolumes.a = { raw = "$NOWHERE/r.tif", labels = "l.tif" }\n'
            'transfer.checkpoint = "$NOWHERE/best.pt"\n'
        )
        (tmp_path / "inner").mkdir()
        text = 'base = "../base.toml"\n[volumes.a]\n' + (
            "" if changes else 'raw = "mine.tif"\n[transfer]\ncheckpoint = "b.pt"'
        )
        experiment = load(tmp_path / "inner", text, **changes)
        assert experiment.volumes["a"].raw == str(tmp_path / "inner" / "mine.tif")
        assert experiment.volumes["a"].labels == str(tmp_path / "l.tif")
        assert experiment.transfer.checkpoint == (None if changes else str(tmp_path / "inner" / "b.pt"))
        with pytest.raises(UserError, match="the environment variable NOWHERE is not set"):
            load(tmp_path / "inner", 'base = "../base.toml"\n[volumes.a]')

    @pytest.mark.parametrize(
        ("text", "changes", "left"),
        [
            ("", {}, "abc"),
            ('[volumes]\nb = "none"', {}, "ac"),
            ("[volumes]", {"volumes__c": "none"}, "ab"),
            ('[volumes]\nb = "none"\nd = { raw = "d.tif" }', {"volumes__d": "none", "volumes__a": "none"}, "c"),
            ('base = "middle.toml"\n[volumes]\nc = "none"', {}, "a"),
            ('base = "middle.toml"\n[volumes]\nb = { raw = "b.tif" }', {}, "abc"),
        ],
    )
    def test_a_volume_of_a_base_can_be_left_out(self, tmp_path, monkeypatch, text, changes, left):
        monkeypatch.delenv("NOWHERE", raising=False)
        middle = "" if "b" in left else "$NOWHERE/"  # what is left out needs no folder
        (tmp_path / "base.toml").write_text(
            f'[volumes]\na = {{ raw = "a.tif" }}\nb = {{ raw = "{middle}b.tif" }}\nc = {{ raw = "c.tif" }}\n'
        )
        (tmp_path / "middle.toml").write_text('base = "base.toml"\n[volumes]\nb = "none"\n')
        text = text if "base" in text else f'base = "base.toml"\n{text or "[volumes]"}'
        assert "".join(sorted(load(tmp_path, text, **changes).volumes)) == left

    def test_a_volume_that_is_not_there_cannot_be_left_out(self, tmp_path):
        (tmp_path / "base.toml").write_text('volumes.a = { raw = "a.tif" }\n')
        text = 'base = "base.toml"\n[volumes]\nb = "none"\nc = { raw = "c.tif" }'
        with pytest.raises(UserError, match=r"volumes\.b: there is no such volume to leave out; known here: a, c"):
            load(tmp_path, text)

    def test_changes_are_left_as_they_are(self, tmp_path):
        changes = {"volumes.b": {"raw": "r.tif"}, "training.optimizer": {"lr": 0.5}}
        given_again = copy.deepcopy(changes)
        load(tmp_path)
        load_experiment(tmp_path / "experiment.toml", changes)
        assert changes == given_again

    def test_changes_go_before_the_file(self, tmp_path):
        experiment = load(tmp_path, "seed = 1", seed=2, training__steps=3)
        assert (experiment.seed, experiment.training.steps) == (2, 3)

    def test_a_component_without_type_is_the_default_but_for_what_is_said(self, tmp_path):
        experiment = load(tmp_path, "[segmentation.method]\nthreshold = 0.3\n[training.optimizer]\nlr = 0.5")
        assert experiment.segmentation.method == with_value(DEFAULT_METHOD, 0.3)
        assert (experiment.training.optimizer.type, experiment.training.optimizer.lr) == ("adamw", 0.5)

    def test_and_so_are_the_components_within_it(self, tmp_path):
        changes = {"segmentation__method__fragments__alpha": 0.5, "segmentation__method__cleaning__minimum_size": 9}
        method = load(tmp_path, **changes).segmentation.method
        assert method == DEFAULT_METHOD.model_copy(
            update={
                "fragments": DistanceTransformWatershed(alpha=0.5),
                "cleaning": Cleaning(islands=True, minimum_size=9),
            }
        )

    def test_a_component_with_a_type_has_the_defaults_of_that(self, tmp_path):
        method = load(tmp_path, segmentation__method={"type": "agglomeration", "threshold": 0.3}).segmentation.method
        assert method == Agglomeration(threshold=0.3)
        changes = {"segmentation__method__type": "multicut", "segmentation__method__solver__iterations": 3}
        assert load(tmp_path, **changes).segmentation.method == Multicut(solver=KernighanLin(iterations=3))
        method = load(tmp_path, segmentation__method__fragments__type="lsd_watershed").segmentation.method
        assert method == DEFAULT_METHOD.model_copy(update={"fragments": LsdWatershed()})

    @pytest.mark.parametrize("name", PRESETS)
    def test_a_method_has_a_name_on_which_settings_are_changed(self, tmp_path, name):
        offsets = [*NEAREST, (0, 0, -9)]
        text = f'[segmentation]\nmethod = "{name}"\ncandidates = ["{name}"]'
        method = PRESETS[name]
        assert load(tmp_path, text, offsets=offsets).segmentation.method == method
        assert load(tmp_path, text, offsets=offsets).segmentation.candidates == (method,)
        assert load(tmp_path, segmentation__method=name, offsets=offsets).segmentation.method == method
        changed = load(tmp_path, text, offsets=offsets, segmentation__method__cleaning__holes=True).segmentation.method
        assert changed == method.model_copy(update={"cleaning": method.cleaning.model_copy(update={"holes": True})})

    def test_a_name_that_no_method_has_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="got 'watrez' \\(did you mean waterz"):
            load(tmp_path, segmentation__method="watrez")

    def test_none_is_a_word(self, tmp_path):
        assert load(tmp_path, '[volumes.a]\nraw = "r"\nbackground = "none"').volumes["a"].background is None

    def test_a_background_that_no_id_can_be_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r'background: wanted an id of at least 0, got -1: .*"none"'):
            load(tmp_path, '[volumes.a]\nraw = "r"\nbackground = -1')

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"name = ", "is not TOML"),
            (b"\xff\xfe", "is no text: name a TOML"),
            (None, "no file at"),
        ],
    )
    def test_what_is_no_file_of_toml_is_refused(self, tmp_path, content, message):
        path = tmp_path / "experiment.toml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            load_experiment(path)

    def test_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            load_experiment(tmp_path)

    def test_a_value_has_no_settings(self, tmp_path):
        with pytest.raises(UserError, match=r"--seed\.x: seed is a value"):
            load(tmp_path, "seed = 1", seed__x=2)


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"training__stepz": 3}, "training.stepz: there is no such setting; did you mean steps?"),
            ({"trainig__steps": 3}, "trainig: there is no such setting; did you mean training?"),
            ({"training__optimizer__lrr": 3}, "training.optimizer.lrr: there is no such setting; did you mean lr?"),
            ({"volumes__a__labeled": "0:5"}, "volumes.a.labeled: there is no such setting; did you mean labelled?"),
            (
                {"volumes__raw": {"raw": "r", "labeled": "0:5"}},  # a volume with the name of a setting
                "volumes.raw.labeled: there is no such setting; did you mean labelled?",
            ),
            (
                {"volumes__a__test": [{"z": [0, 5], "u": 1}]},
                "volumes.a.test.0.u: there is no such setting; known here: sections, x, y, z",
            ),
            ({"loss__type": "dise"}, "loss.type: there is no 'dise'; did you mean 'dice'?"),
            (
                {"segmentation__method": {"type": "multicut", "affinity": {"type": "learned"}}},
                "segmentation.method: affinity: wanted weights, which ssns.segmentation.learn_affinity gives, got none",
            ),
            (
                {"segmentation__method__fragments": {"type": "magic"}},
                "segmentation.method.fragments.type: there is no 'magic'; known here: distance_transform_watershed,"
                " lsd_watershed, mutex_watershed, seeded_watershed",
            ),
            (
                {"augmentation__steps": [{"probability": 0.5}]},
                "augmentation.steps.0.type: there is no 'none'; did you mean 'noise'?",
            ),
            (
                {"objective": {"type": "consistency", "teacher": {"type": "weight_sharing", "decay": 0.9}}},
                "objective.teacher.decay: weight_sharing has no such setting, mean_teacher has: leave it out, or"
                " replace all of objective.teacher: --objective.teacher '{ type = \"weight_sharing\" }'",
            ),
            (
                {"objective": {"type": "consistency", "teacher": "cross"}},
                "objective.teacher: wanted a table, as { type = \"cross\" }, got 'cross'",
            ),
            (
                {"objective": {"type": "consistency", "ramp": True}},
                'objective.ramp: wanted a table, as { type = "…" }, got True; known here: ',
            ),
            (
                {"objective": {"type": "consistency", "cut_mix": True}},
                "objective.cut_mix: wanted a table of plane, depth, size, got True",
            ),
            ({"training__steps": 0}, "training.steps: Input should be greater than 0 (got 0)"),
            ({"name": "../x"}, "name: String should match pattern '^\\w[\\w.-]*$' (got '../x')"),
            ({"volumes__a__test": "5-10"}, 'volumes.a.test.0: wanted sections as "5:10" (5 to 9), or a table as'),
            ({"volumes__a__test": "5:5"}, "volumes.a.test.0: z: wanted [first, one past the last]"),
            ({"volumes__a__test": {"z": [0, 1], "sections": [0]}}, "volumes.a.test.0: z and sections say the same"),
            ({"volumes__a__raw": 3}, "volumes.a.raw: Input should be a valid string (got 3)"),
            (
                {"segmentation__thresholds": [0.5, 1.5]},
                "segmentation.thresholds: wanted a threshold for agglomeration, got 1.5: Input should be less than",
            ),
            (
                {"segmentation__method__type": "multicut", "segmentation__thresholds": [1.0]},
                "segmentation.thresholds: wanted a beta for multicut, got 1.0: Input should be less than 1",
            ),
            (
                {"segmentation__sweep": True, "segmentation__thresholds": [0.5, 1.0]},
                "segmentation.thresholds: wanted a beta for multicut, got 1.0: Input should be less than 1",
            ),
            (
                {"segmentation__thresholds": [0.5, 0.3, 0.5]},
                "segmentation.thresholds: wanted each once, got 0.5 again: leave it out",
            ),
            (
                {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, -1, 0]]},
                "offsets: wanted each once, got (0, -1, 0) again: leave it out",
            ),
            (
                {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 0]]},
                "offsets: wanted displacements, got (0, 0, 0), from a voxel to itself: leave it out",
            ),
            (
                {"segmentation__method__type": "multicut", "segmentation__method__lifted__type": "long_range"},
                "segmentation: offsets: lifted edges of long range wanted some beyond the nearest neighbours, got",
            ),
            (
                {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -3]]},
                "offsets: wanted the nearest neighbours along z, y and x, got ((-1, 0, 0), (0, -1, 0), (0, 0, -3))"
                " without (0, 0, -1)",
            ),
        ],
    )
    def test_say_where_what_and_the_nearest(self, tmp_path, changes, told):
        (line,) = refusal(tmp_path, **changes)
        assert line.startswith(told)

    def test_are_all_listed(self, tmp_path):
        assert len(refusal(tmp_path, "sead = 1\noffsets = [[0, 0, 0]]\n[training]\nstepz = 2\nbatch = 0")) == 4

    def test_of_a_method_are_told_and_not_those_that_follow(self, tmp_path):
        (line,) = refusal(tmp_path, segmentation__method={"threshold": 2}, segmentation__thresholds=[3.0])
        assert line.startswith("segmentation.method.threshold: ")

    def test_nearest_neighbours_in_either_direction_are_enough(self, tmp_path):
        offsets = ((1, 0, 0), (0, -1, 0), (0, 0, 1), (0, 0, -9))
        assert load(tmp_path, offsets=[list(offset) for offset in offsets]).offsets == offsets

    def test_a_missing_raw(self, tmp_path):
        assert refusal(tmp_path, '[volumes.a]\nlabels = "l"') == ["volumes.a.raw: is missing"]

    def test_names_of_volumes_are_parts_of_settings_and_folders(self, tmp_path):
        assert "String should match pattern" in refusal(tmp_path, '[volumes."a.b/c"]\nraw = "r"')[0]


class TestRegions:
    @given(st.sets(st.integers(0, 30), min_size=1))
    def test_boxes_of_sections_are_those_sections_once(self, sections):
        boxes = Region(sections=tuple(sections)).boxes(Box.of_shape((31, 2, 2)))
        assert [z for box in boxes for z in range(box.start[0], box.stop[0])] == sorted(sections)
        assert all(a.stop[0] < b.start[0] for a, b in pairwise(boxes))  # neighbours are one box

    def test_what_is_not_said_is_all(self):
        assert Region().boxes(BOUNDS) == (BOUNDS,)
        assert Region(x=(3, 5)).boxes(BOUNDS) == (Box((0, 0, 3), (10, 64, 5)),)

    def test_text_is_sections(self):
        assert Region.model_validate("5:8") == Region(z=(5, 8))

    def test_outside_of_the_volume_is_refused(self):
        with pytest.raises(
            UserError, match=r"volumes\.a\.test: z 5\.\.11, .* reaches outside raw, which has z 0\.\.10"
        ):
            region_boxes((Region(z=(5, 11)),), BOUNDS, "volumes.a.test")


class TestRoles:
    def check(self, settings=None, **volumes):
        experiment = Experiment.model_validate({"volumes": volumes, **(settings or {})})
        files = {name: volume["raw"] for name, volume in volumes.items()}
        return check_roles(experiment, dict.fromkeys(volumes, BOUNDS), files)

    @pytest.mark.parametrize(
        ("first", "second"), [("labelled", "test"), ("labelled", "validation"), ("validation", "test")]
    )
    def test_what_must_not_overlap_is_refused(self, first, second):
        with pytest.raises(
            UserError, match=rf"volumes\.a\.{second} overlaps volumes\.a\.{first} at z 4\.\.5, y 0\.\.64"
        ):
            self.check(a={"raw": "r", first: "0:5", second: "4:6"})

    def test_across_volumes_of_one_file_too(self):
        with pytest.raises(UserError, match=r"volumes\.b\.test overlaps volumes\.a\.labelled"):
            self.check(a={"raw": "r", "labelled": "0:5"}, b={"raw": "r", "test": "4:6"})
        assert self.check(a={"raw": "r", "labelled": "0:5"}, b={"raw": "other", "test": "4:6"}) == []

    def test_unlabelled_test_images_are_warned_of(self):
        (warning,) = self.check(a={"raw": "r", "unlabelled": "0:5", "test": "4:6"})
        assert "transductive" in warning

    @pytest.mark.parametrize(
        ("settings", "seen"),
        [
            ({}, {}),
            (consistency(2), {}),
            (consistency(4), {4: 7}),
            ({"objective": {"type": "pseudo_labels"}, "training": {"patch": [4, 8, 8]}}, {4: 7}),
            (pretraining(6), {6: 9}),
            (consistency(4) | pretraining(4), {4: 7}),
            (consistency(3) | pretraining(4), {3: 6, 4: 7}),
        ],
    )
    @pytest.mark.parametrize("names", ["ab", "ba"])
    def test_test_images_seen_by_patches_of_thin_regions_are_warned_of(self, settings, seen, names):
        learned, scored = names
        regions = {learned: {"unlabelled": "3:5"}, scored: {"test": "5:10"}}
        assert self.check(settings, **{name: {"raw": "r", **regions[name]} for name in "ab"}) == [
            f"volumes.{learned}.unlabelled: patches of ({depth}, 8, 8) see raw beyond it, at z 5..{end}, y 0..64,"
            f" x 0..64, which is volumes.{scored}.test: the scores will be transductive"
            for depth, end in seen.items()
        ]
        assert self.check(settings, **{name: {"raw": name, **regions[name]} for name in "ab"}) == []

    def test_and_those_that_a_network_sees_around_what_it_predicts(self):
        mala = {"network": {"type": "mala", "depth": 1}, "objective": {"type": "consistency"}}
        (warning,) = self.check(
            mala | {"training": {"patch": [13, 22, 22]}}, a={"raw": "r", "unlabelled": "0:3", "test": "5:10"}
        )
        assert "unlabelled: patches of (13, 22, 22) see raw beyond it, at z 5..9, y 0..64" in warning

    def test_patches_of_labelled_regions_may_see_beyond_them(self):
        thin = {"labelled": "2:3", "unlabelled": {"z": [0, 5], "y": [0, 32]}, "test": "5:10"}
        assert self.check(consistency(5), a={"raw": "r", **thin}) == []

    def test_what_may_overlap(self):
        quarter = {"y": [0, 32], "x": [0, 32]}
        rest = {"y": [32, 64]}
        roles = {"labelled": rest, "validation": quarter, "unlabelled": "0:10", "target": "0:10"}
        assert self.check(a={"raw": "r", **roles}) == []


def test_malis_has_no_auxiliary_channels():
    table = {"volumes": {"a": {"raw": "r"}}, "loss": {"type": "malis"}, "auxiliary_offsets": [[0, 0, -9]]}
    with pytest.raises(ValidationError, match=r"loss: malis wanted offsets = .* got .*\[0, 0, -9\]"):
        Experiment.model_validate(table)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([[0, 0, -9], [0, 0, -9]], "wanted each once, got"),
        ([[0, 0, -1]], "wanted each once, got"),
        ([[0, 0, 0]], "wanted displacements, got"),
    ],
)
def test_auxiliary_offsets_are_other_displacements(offsets, message):
    with pytest.raises(ValidationError, match=f"auxiliary_offsets: {message}"):
        Experiment.model_validate({"volumes": {"a": {"raw": "r"}}, "auxiliary_offsets": offsets})


@pytest.mark.parametrize("offsets", [(*NEAREST, (0, 0, -4)), NEAREST[::-1]])
def test_malis_wants_the_edges_of_neighbours(offsets):
    volumes = {"volumes": {"a": {"raw": "r"}}, "loss": {"type": "malis"}}
    assert Experiment.model_validate(volumes).loss == Malis()
    with pytest.raises(ValidationError, match=r"loss: malis wanted offsets = \[\[-1, 0, 0\], .* got"):
        Experiment.model_validate(volumes | {"offsets": offsets})


def test_an_experiment_survives_json():
    experiment = Experiment.model_validate({"volumes": {"a": {"raw": "r"}}})
    assert experiment.network == ResidualUNetSettings()
    assert experiment == Experiment.model_validate_json(experiment.model_dump_json())


def test_one_file_in_two_spellings_is_one_volume(tmp_path):
    import h5py
    import numpy as np

    from ssns.commands.inputs import open_sources

    for name in ("raw.h5", "labels.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["main"] = np.ones((20, 16, 16), np.uint8)
    (tmp_path / "link.h5").symlink_to(tmp_path / "raw.h5")
    for spelling in ("raw.h5:main", "link.h5", "link.h5:main"):
        (tmp_path / "e.toml").write_text(
            'volumes.a = { raw = "raw.h5", labels = "labels.h5", labelled = "0:10" }\n'
            f'volumes.b = {{ raw = "{spelling}", labels = "labels.h5", test = "5:20" }}\n'
        )
        with pytest.raises(UserError, match=r"volumes\.b\.test overlaps volumes\.a\.labelled at z 5\.\.10"):
            open_sources(load_experiment(tmp_path / "e.toml"))
