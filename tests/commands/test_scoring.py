import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from toy_experiment import LABELS, make_toy, toy

from ssns.commands.scoring import swept_scores
from ssns.metrics import WORST, NothingSegmentedError, ScoringSettings, score
from ssns.segmentation import segment, value_of

VALUES = [0.2, 0.4, 0.5, 0.6, 0.8]


def noise(shape: tuple[int, ...]) -> np.ndarray:
    blurred = gaussian_filter(np.random.default_rng(0).normal(size=(3, *shape)), (0, 0, 2, 2))
    return (1 / (1 + np.exp(-8 * blurred / blurred.std()))).astype(np.float32)


@pytest.mark.parametrize("convention", ["skimage", "singletons", "excluded", "reference"])
@pytest.mark.parametrize(
    "method",
    [
        {
            "type": "agglomeration",
            "fragments": {"type": "seeded_watershed", "mask_fragments": 0.4},
            "cleaning": {"minimum_size": 9},
        },
        {"type": "multicut"},
    ],
    ids=lambda method: method["type"],
)
def test_scores_are_those_of_the_voxels(tmp_path, method, convention):
    experiment = toy(
        make_toy(tmp_path), scoring=convention, segmentation__method=method, segmentation__thresholds=VALUES
    )
    affinities, truth = noise((6, 48, 48)), LABELS[:6]
    known = np.random.default_rng(1).random(truth.shape) < 0.9
    settings = ScoringSettings(convention=convention)
    methods = experiment.segmentation.swept(experiment.segmentation.method)
    wanted = {each: score(segment(affinities, each), truth, settings=settings, mask=known) for each in methods}
    assert [value_of(each) for each in methods] == VALUES
    assert swept_scores(affinities, methods, experiment, truth, known) == wanted
    assert len({scores.voi_sum for scores in wanted.values()}) > 2


def test_where_nothing_is_segmented_the_scores_are_those_asked_for(tmp_path):
    fragments = {"type": "seeded_watershed", "mask_fragments": 1.0}
    method = {"type": "agglomeration", "fragments": fragments}
    experiment = toy(make_toy(tmp_path), scoring="excluded", segmentation__method=method)
    methods, known = [experiment.segmentation.method], np.ones((4, 48, 48), bool)
    arguments = np.full((3, 4, 48, 48), 0.5, np.float32), methods, experiment, LABELS[:4], known
    assert set(swept_scores(*arguments, nothing=WORST).values()) == {WORST}
    with pytest.raises(NothingSegmentedError):
        swept_scores(*arguments)
