import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from toy_experiment import RAW, change_checkpoint, make_toy, touch, toy

from ssns.blockwise import Markers
from ssns.checkpoint import load_checkpoint
from ssns.commands.predict import predict_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.train import train_experiment
from ssns.errors import UserError
from ssns.prediction import predict
from ssns.volume import open_volume

TERMINATED = """
import os, signal, sys
from ssns.blockwise import Markers
from ssns.commands.predict import predict_experiment
from ssns.experiment import load_experiment

marked = Markers.mark
def terminated(self, block):
    marked(self, block)
    if block.write.start[0] == 8:
        os.kill(os.getpid(), signal.SIGTERM)
Markers.mark = terminated
predict_experiment(load_experiment(sys.argv[1], {"prediction.halo": [2, 8, 8]}))
"""


def affinities(path, part="a-test"):
    return open_volume(RunFolder.of(toy(path)).affinities(part))


@pytest.fixture
def marks(monkeypatch):
    """The blocks that are predicted."""
    found = []
    marked = Markers.mark
    monkeypatch.setattr(Markers, "mark", lambda self, block: (found.append(str(block)), marked(self, block)))
    return found


def test_affinities_are_those_of_the_python_interface_and_lie_where_raw_does(finished):
    experiment = toy(finished)
    raw = open_volume(finished.with_name("raw.tif"))
    boxes = {"a-validation": slice(4, 8), "a-test": slice(8, 40)}
    whole = predict(raw, RunFolder.of(experiment).best, experiment.prediction)
    for part, sections in boxes.items():
        volume = affinities(finished, part)
        difference = np.abs(volume.read().astype(int) - whole[:, sections])
        assert difference.mean() < 0.5  # less context than the whole volume gives
        assert (volume.origin, volume.voxel_size_nm) == ((sections.start, 0, 0), (30, 6, 6))
        assert volume.attributes["offsets"] == [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]


def test_levelled_sections_are_levelled_in_training_and_prediction_alike(tmp_path):
    path = make_toy(tmp_path)
    levelled = {"normalization__sections": "levelled", "training__steps": 2}
    train_experiment(toy(path, **levelled))
    predict_experiment(toy(path, **levelled))
    plain = affinities(path).read()
    raw = open_volume(path.with_name("raw.tif"))
    best = RunFolder.of(toy(path)).best
    whole = predict(raw, best, toy(path).prediction)[:, 8:40]
    assert np.abs(plain.astype(int) - whole).mean() < 0.5
    darker = RAW * np.linspace(0.4, 1, len(RAW))[:, None, None]
    np.testing.assert_allclose(predict(darker, best)[:, 8:40].astype(int), predict(raw, best)[:, 8:40], atol=2)


def test_terminated_in_the_middle_it_goes_on_and_equals_uninterrupted(finished, marks):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    stopped = subprocess.run(
        [sys.executable, "-c", TERMINATED, finished], env=environment, capture_output=True, check=False
    )
    assert stopped.returncode == -signal.SIGTERM, stopped.stderr.decode()
    changed = toy(finished, prediction__halo=[2, 8, 8])
    predict_experiment(changed)
    assert marks == ["z 24..40, y 0..48, x 0..48"]
    resumed = affinities(finished).read()
    (RunFolder.of(changed).path / "a-test" / "affinities.stamp.json").unlink()
    predict_experiment(changed)
    assert len(marks) == 3
    assert np.array_equal(affinities(finished).read(), resumed)


class TestWhatIsLeftUnfinished:
    @pytest.fixture
    def unfinished(self, finished, monkeypatch):
        """A prediction with another halo, of which one block is done."""

        def failing(self, block):
            marked(self, block)
            if block.write.start[0] == 8:
                raise KeyboardInterrupt

        marked = Markers.mark
        with monkeypatch.context() as broken:
            broken.setattr(Markers, "mark", failing)
            with pytest.raises(KeyboardInterrupt):
                predict_experiment(toy(finished, prediction__halo=[2, 8, 8]))
        return finished

    def test_is_not_believed_by_other_settings(self, unfinished, marks):
        predict_experiment(toy(unfinished, prediction__halo=[3, 8, 8]))
        assert len(marks) == 3

    def test_is_not_believed_by_another_checkpoint(self, unfinished, marks):
        change_checkpoint(RunFolder.of(toy(unfinished)).best)
        predict_experiment(toy(unfinished, prediction__halo=[2, 8, 8]))
        assert len(marks) == 3

    def test_is_gone_on_from_where_the_checkpoint_is_a_copy(self, unfinished, marks):
        touch(RunFolder.of(toy(unfinished)).best)
        predict_experiment(toy(unfinished, prediction__halo=[2, 8, 8]))
        assert marks == ["z 24..40, y 0..48, x 0..48"]

    def test_does_not_make_the_old_affinities_look_done(self, unfinished, marks):
        predict_experiment(toy(unfinished))
        assert len(marks) == 3

    def test_heeds_smaller_blocks(self, unfinished, marks):
        predict_experiment(toy(unfinished, prediction__halo=[2, 8, 8], prediction__block=[32, 48, 48]))
        assert marks == ["z 8..40, y 0..48, x 0..48"]

    def test_may_lie_on_another_disk(self, unfinished, marks, tmp_path):
        target = RunFolder.of(toy(unfinished)).affinities("a-test")
        for place in (target, target.with_name("affinities.zarr.partial")):
            shutil.move(place, tmp_path / place.name)
        target.symlink_to(tmp_path / target.name)
        predict_experiment(toy(unfinished, prediction__halo=[2, 8, 8]))
        assert marks == ["z 24..40, y 0..48, x 0..48"]

    def test_is_begun_anew_with_another_voxel_size(self, unfinished, marks):
        predict_experiment(toy(unfinished, prediction__halo=[2, 8, 8], volumes__a__voxel_size_nm=[40, 6, 6]))
        assert len(marks) == 2
        assert affinities(unfinished).voxel_size_nm == (40, 6, 6)

    def test_may_be_damaged(self, unfinished, marks):
        partial = RunFolder.of(toy(unfinished)).affinities("a-test").with_name("affinities.zarr.partial")
        (partial / "0" / "zarr.json").unlink()
        predict_experiment(toy(unfinished, prediction__halo=[2, 8, 8]))
        assert len(marks) == 2  # of the test part; validation was done


class TestIntensities:
    def test_of_weights_from_elsewhere_are_measured_here(self, finished, tmp_path, capsys):
        """A volume of the same name in another experiment may be another volume."""
        (tmp_path / "other").mkdir()
        other = make_toy(tmp_path / "other", raw=RAW // 2)
        predict_experiment(toy(other), checkpoint=RunFolder.of(toy(finished)).best)
        low, high = np.percentile(RAW // 2, (0.1, 99.9))
        assert f"a-test: intensities {low:g}..{high:g} become 0..1" in capsys.readouterr().out
        difference = np.abs(affinities(other).read().astype(int) - affinities(finished).read())
        assert difference.mean() < 5

    def test_of_another_file_under_the_same_name_are_measured(self, finished, capsys):
        tifffile.imwrite(finished.with_name("other.tif"), RAW // 2)
        predict_experiment(toy(finished, volumes__a__raw="other.tif"))
        low, high = np.percentile(RAW // 2, (0.1, 99.9))
        assert f"a-test: intensities {low:g}..{high:g} become 0..1" in capsys.readouterr().out

    def test_of_a_further_volume_are_measured(self, finished, capsys):
        tifffile.imwrite(finished.with_name("b.tif"), RAW // 4)
        predict_experiment(toy(finished, volumes__b={"raw": "b.tif", "target": "0:4"}))
        told = capsys.readouterr().out
        assert "predict b-target: intensities" in told
        assert "a-test: skipped" in told


class TestErrors:
    def test_no_checkpoint_names_the_verb(self, tmp_path):
        with pytest.raises(UserError, match=r"no file at .*best.pt: run `ssns train` first, or name one with"):
            predict_experiment(toy(make_toy(tmp_path)))

    def test_auxiliary_channels_are_learned_and_left_out(self, tmp_path, capsys):
        path = make_toy(tmp_path)
        more = {"auxiliary_offsets": [[-2, 0, 0], [0, 0, -4]]}
        train_experiment(toy(path, **more))
        predict_experiment(toy(path, **more))
        learned = load_checkpoint(RunFolder.of(toy(path)).best)
        assert learned.auxiliary_offsets == ((-2, 0, 0), (0, 0, -4))
        nearest = affinities(path).read()
        assert nearest.shape == (3, 32, 48, 48)
        far = toy(path, offsets=[[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, -4]], name="far")
        predict_experiment(far, checkpoint=RunFolder.of(toy(path)).best)
        both = open_volume(RunFolder.of(far).affinities("a-test")).read()
        assert both.shape == (4, 32, 48, 48)
        assert np.abs(both[:3].astype(int) - nearest).max() <= 1
        predict_experiment(toy(path, name="far"), checkpoint=RunFolder.of(toy(path)).best)
        assert "predict a-test: again, because of offsets" in capsys.readouterr().out
        assert open_volume(RunFolder.of(far).affinities("a-test")).channels == 3

    def test_offsets_of_another_training(self, finished):
        with pytest.raises(
            UserError, match=r"offsets: wanted some of .*, which the checkpoint has learned, got \[\(0, 0, -9\)\]"
        ):
            predict_experiment(
                toy(finished, offsets=[[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, -9]], prediction__halo=[1, 8, 8])
            )
