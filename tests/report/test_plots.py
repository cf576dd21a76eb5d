import numpy as np
import pytest
from PIL import Image

from ssns.errors import UserError
from ssns.report import curves

STEPS = np.arange(1, 301)


def test_a_panel_for_all_losses_and_one_for_each_score(tmp_path):
    loss = (STEPS, 1 / STEPS)
    widths = []
    for number, scores in enumerate([{}, {"VOI sum": ([100, 200], [3.0, 2.0])}]):
        path = tmp_path / f"{number}.png"
        curves(path, {"labelled": loss, "consistency": loss}, scores, best_step=200)
        widths.append(np.asarray(Image.open(path)).shape[1])
    assert widths == [450, 900]


def test_the_best_step_is_marked(tmp_path):
    pictures = []
    for number, best_step in enumerate([None, 1, 300]):
        path = tmp_path / f"{number}.png"
        curves(path, {"loss": (STEPS, STEPS)}, {}, best_step=best_step)
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 3


def test_short_and_broken_curves_are_drawn(tmp_path):
    curves(tmp_path / "a.png", {"loss": ([1], [0.5])}, {"ARAND": ([1, 2], [float("nan"), 0.2]), "VOI": ([], [])})
    assert np.asarray(Image.open(tmp_path / "a.png")).shape[1] == 900  # an empty curve has no panel


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(UserError, match="train for at least one step"):
        curves(tmp_path / "a.png", {"loss": ([], [])}, {})
