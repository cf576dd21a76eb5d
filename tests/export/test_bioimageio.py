from dataclasses import replace

import numpy as np
import pytest
from toy_checkpoints import NETWORKS, checkpoint

from ssns.errors import UserError
from ssns.export import Description, export_bioimageio
from ssns.volume.normalization import IntensityRange, PercentileNormalization, TypeNormalization

pytestmark = pytest.mark.filterwarnings("ignore")  # of bioimageio.core and what it imports

DESCRIPTION = Description(
    "Neuron affinities (toy)", "For tests", (30, 6, 4), ("A. Author",), "MIT", ("10.1016/j.cell.2015.06.054",)
)


@pytest.mark.parametrize(
    ("network", "normalization"),
    [
        ("unshuffled", PercentileNormalization()),
        ("residual", PercentileNormalization(sections="levelled")),
        ("mala", TypeNormalization()),
    ],
)
def test_packages_pass_the_test_of_bioimageio(network, normalization, tmp_path):
    """Its own normalisation, its own call of the network, at several extents."""
    from bioimageio.core import load_model_description, test_model

    trained = checkpoint(NETWORKS[network], normalization)
    if isinstance(normalization, TypeNormalization):
        trained = replace(trained, ranges={"a": IntensityRange(0, 255)})
    export_bioimageio(trained, tmp_path / "a.zip", DESCRIPTION)
    summary = test_model(tmp_path / "a.zip")
    assert summary.status == "passed", summary.format()
    model = load_model_description(tmp_path / "a.zip", perform_io_checks=False)
    assert str(model.license) == "MIT"
    assert {str(entry.doi) for entry in model.cite} >= set(DESCRIPTION.dois)
    assert [axis.scale for axis in model.inputs[0].axes[2:]] == [30, 6, 4]
    assert model.outputs[0].axes[1].channel_names == ["z_m1_y_0_x_0", "z_0_y_m1_x_0", "z_0_y_0_x_m1"]


def test_what_bioimageio_refuses_is_told(tmp_path):
    with pytest.raises(UserError, match=r"bioimage.io does not take this description \(name: .*: mend it"):
        export_bioimageio(checkpoint(NETWORKS["residual"]), tmp_path / "a.zip", replace(DESCRIPTION, name="a?"))
    assert not (tmp_path / "a.zip").exists()


def test_levelled_sections_need_a_range(tmp_path):
    trained = checkpoint(NETWORKS["residual"], PercentileNormalization(sections="levelled"))
    with pytest.raises(UserError, match="wanted a checkpoint with the intensity ranges of its training"):
        export_bioimageio(replace(trained, ranges={}), tmp_path / "a.zip", DESCRIPTION)


def test_other_types_than_bytes_are_refused(tmp_path):
    trained = replace(checkpoint(NETWORKS["mala"], TypeNormalization()), ranges={"a": IntensityRange(0, 65535)})
    with pytest.raises(UserError, match=r"wanted a network that has learned from bytes.* got 0 to 65535"):
        export_bioimageio(trained, tmp_path / "a.zip", DESCRIPTION)


def test_the_test_output_is_no_constant(tmp_path):
    import zipfile

    export_bioimageio(checkpoint(NETWORKS["residual"]), tmp_path / "a.zip", DESCRIPTION)
    with zipfile.ZipFile(tmp_path / "a.zip") as package, package.open("affinities.npy") as file:
        affinities = np.load(file)
    assert affinities.std() > 0.01
