import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from ssns.losses import BinaryCrossEntropy
from ssns.networks import ResidualUNetSettings
from ssns.settings import Component
from ssns.training import TrainingSettings


class Toy(Component):
    limit: float | None = Field(1.0, description="May be absent.")
    count: Annotated[int, Field(gt=0)] | None = Field(2, description="May be absent, and is checked.")
    mode: Literal["none", "some"] = Field("some", description="Has a choice of this name.")
    word: str = Field("word", description="Any word.")


def test_none_by_name_is_none_where_the_field_admits_it():
    toy = Toy.model_validate({"limit": "none", "count": "none", "mode": "none", "word": "none"})
    assert (toy.limit, toy.count, toy.mode, toy.word) == (None, None, "none", "none")
    assert TrainingSettings.model_validate({"clip": "none", "threads": "none"}).clip is None
    assert BinaryCrossEntropy.model_validate({"balance": "none"}).balance == "none"


def test_none_by_name_is_refused_where_the_field_does_not():
    with pytest.raises(ValidationError, match="steps"):
        TrainingSettings.model_validate({"steps": "none"})


def test_the_table_given_is_not_changed():
    table = {"limit": "none"}
    Toy.model_validate(table)
    assert table == {"limit": "none"}


@pytest.mark.parametrize("model", [Toy, TrainingSettings, ResidualUNetSettings, BinaryCrossEntropy])
class TestEverySettingsModel:
    def test_refuses_unknown_keys(self, model):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            model.model_validate({"unknown": 1})

    def test_is_frozen(self, model):
        component = model()
        name = next(iter(model.model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(component, name, getattr(component, name))

    def test_survives_json(self, model):
        assert model.model_validate_json(model().model_dump_json()) == model()

    def test_describes_every_key(self, model):
        fields = {name: field for name, field in model.model_fields.items() if name != "type"}
        assert all(field.description for field in fields.values())


def test_settings_and_artefacts_need_no_torch():
    modules = "affinities, checkpoint, experiment, losses, networks, perturb, sampling, training, volume"
    code = f"import sys; sys.modules['torch'] = None; from ssns import {modules}"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
