import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from toy_experiment import LABELS, make_toy, toy

from ssns.commands.scoring import ranked, swept_scores, swept_scores_of_pieces
from ssns.metrics import WORST, NothingSegmentedError, ScoringSettings, score
from ssns.segmentation import Agglomeration, Multicut, segment, value_of, with_value
from ssns.space import Box

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


def test_pieces_of_what_is_segmented_may_be_scored(tmp_path):
    experiment = toy(make_toy(tmp_path), segmentation__thresholds=VALUES)
    affinities, boxes = noise((6, 48, 48)), [Box((1, 10, 0), (4, 48, 30)), Box((5, 0, 0), (6, 48, 48))]
    pieces = [(box, LABELS[box.slices], np.random.default_rng(1).random(box.shape) < 0.9) for box in boxes]
    methods = experiment.segmentation.swept(experiment.segmentation.method)
    segmented = {each: segment(affinities, each) for each in methods}
    wanted = [
        {each: score(segmented[each][box.slices], truth, mask=known) for each in methods}
        for box, truth, known in pieces
    ]
    told = []
    tell = lambda done, total: told.append((done, total))  # noqa: E731
    assert swept_scores_of_pieces(affinities, methods, experiment, pieces, tell=tell) == wanted
    assert told == [(done, len(VALUES)) for done in range(len(VALUES) + 1)]


def test_where_nothing_is_segmented_the_scores_are_those_asked_for(tmp_path):
    fragments = {"type": "seeded_watershed", "mask_fragments": 1.0}
    method = {"type": "agglomeration", "fragments": fragments}
    experiment = toy(make_toy(tmp_path), scoring="excluded", segmentation__method=method)
    methods, known = [experiment.segmentation.method], np.ones((4, 48, 48), bool)
    arguments = np.full((3, 4, 48, 48), 0.5, np.float32), methods, experiment, LABELS[:4], known
    assert set(swept_scores(*arguments, nothing=WORST).values()) == {WORST}
    with pytest.raises(NothingSegmentedError):
        swept_scores(*arguments)


class TestRanked:
    def table(self, method, sums):
        return {with_value(method, value): {"voi_sum": found} for value, found in sums.items()}

    def test_the_last_value_before_all_merges_is_not_taken(self):
        sums = {0.5: 0.30, 0.6: 0.10, 0.7: 0.09, 0.8: 3.0}
        assert ranked(self.table(Agglomeration(), sums)) == [Agglomeration(threshold=0.6)]

    def test_nor_are_those_shortly_before_it_of_finer_steps(self):
        sums = {0.40: 0.5, 0.45: 0.5, 0.50: 0.5, 0.55: 0.49, 0.60: 0.48, 0.65: 2.0, 0.70: 3.0}
        assert ranked(self.table(Agglomeration(), sums)) == [Agglomeration(threshold=0.5)]

    def test_values_too_far_apart_to_tell_of_each_other_are_compared_by_their_own(self):
        assert ranked(self.table(Multicut(), {0.2: 0.4, 0.5: 0.3, 0.8: 0.9})) == [Multicut(beta=0.5)]

    def test_of_equals_the_lowest_is_taken(self):
        assert ranked(self.table(Agglomeration(), {0.5: 0.4, 0.6: 0.3})) == [Agglomeration(threshold=0.6)]
        infinite = {0.3: 0.9, 0.4: 0.7, 0.5: np.inf}
        assert ranked(self.table(Agglomeration(), infinite)) == [Agglomeration(threshold=0.3)]
        assert ranked(self.table(Agglomeration(), {0.4: np.inf, 0.5: 0.7})) == [Agglomeration(threshold=0.5)]

    def test_each_method_once_the_best_first(self):
        table = self.table(Multicut(), {0.4: 0.5, 0.6: 0.4}) | self.table(Agglomeration(), {0.5: 0.3, 0.9: 2.0})
        assert ranked(table) == [Agglomeration(threshold=0.5), Multicut(beta=0.6)]
