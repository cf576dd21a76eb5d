import re

import pytest
from pydantic import BaseModel

from ssns.commands.settings import print_settings, setting_rows
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.settings import component_types

ROWS = list(setting_rows(Experiment))


def every_model(model):
    """A settings model and all that its fields may hold."""
    yield model
    for field in model.model_fields.values():
        for inner in component_types(field.annotation):
            yield from every_model(inner)


def test_every_field_of_every_component_is_listed_and_described():
    listed = {key.rpartition(".")[-1] for key, _, _ in ROWS}
    fields = {name for model in every_model(Experiment) for name in model.model_fields}
    assert listed == fields
    assert all(description for _, _, description in ROWS)


def test_rows_are_as_one_writes_them():
    rows = {key: (default, description) for key, default, description in ROWS}
    assert rows["training.steps"][0] == str(Experiment.model_fields["training"].default.steps)
    assert rows["training.clip"][0] == "none"
    assert rows["volumes.NAME.raw"][0] == "(needed)"
    assert rows["volumes.NAME.test[].z"][0] == "none"
    assert ("training.schedule.type", '"cosine"') in [(key, default) for key, default, _ in ROWS]


def test_exactly_one_member_of_a_choice_is_the_default():
    for key in {key for key, _, _ in ROWS if key.endswith(".type") and "[]" not in key}:
        members = [row for row in ROWS if row[0] == key]
        starts = sum("(default)" in description for _, _, description in members)
        assert starts >= 1, key
        assert starts == 1 or key.startswith("segmentation.method."), key


@pytest.mark.parametrize("section", ["training", "training.optimizer", "volumes", "seed"])
def test_a_section_alone(section, capsys):
    print_settings(section)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(re.match(rf"{re.escape(section)}(\.| |$)", line) for line in lines)


def test_a_long_list_of_choices_is_printed_once(capsys):
    print_settings("objective")
    lines = capsys.readouterr().out.splitlines()
    assert sum('.type = "noise" ' in line for line in lines) == 1
    (strong,) = (line for line in lines if line.startswith("objective.strong.steps "))
    assert strong.endswith("(choices: as objective.clean.steps[])")
    assert {line.split(" ")[0].rpartition(".")[-1] for line in lines} == {
        key.rpartition(".")[-1] for key, _, _ in ROWS if key.startswith("objective")
    }
    print_settings("objective.strong.steps")
    assert '.type = "noise" ' in capsys.readouterr().out


def test_an_unknown_section_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"there is no 'training.optimiser'; near it: training\.optimizer"):
        print_settings("training.optimiser")


def test_a_value_is_told_from_a_section():
    with pytest.raises(UserError, match=r"'consistency' is a value of objective.type: ssns settings objective$"):
        print_settings("consistency")


def test_what_a_default_is_made_of_and_that_something_is_off_is_told():
    rows = {key: (default, text) for key, default, text in ROWS}
    assert rows["objective.cut_mix"][0] == rows["pretraining"][0] == "none"
    assert rows["objective.strong"][1].endswith("(default: intensity, noise, blur, cut_out, misalign)")
    assert rows["loss"] == ("", "The loss of labelled patches.")


def test_components_are_frozen_models():
    assert all(issubclass(model, BaseModel) and model.model_config["frozen"] for model in every_model(Experiment))
