"""docs/perturbations.md says what the settings say, and its examples are valid."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import tomlkit
from pydantic import TypeAdapter

from ssns.perturb import AnyPerturbation, Engine
from ssns.training import ConsistencyObjective, PretrainingSettings

FOLDER = Path(__file__).parents[2] / "docs"
PAGE = (FOLDER / "perturbations.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))
FAMILIES = get_args(get_args(AnyPerturbation)[0])


def test_every_family_has_a_section_and_no_other():
    assert set(SECTIONS) == {family().type for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_section_lists_every_setting_and_shows_a_picture(family):
    defaults = family().model_dump(mode="json", exclude={"type", "probability"})
    wanted = [
        f"| `{name}` | `{tomlkit.item(default).as_string()}` | {family.model_fields[name].description} |"
        for name, default in defaults.items()
    ]
    section = SECTIONS[family().type]
    assert re.findall(r"^\| `.*", section, re.MULTILINE) == wanted
    picture = f"pictures/perturbations/{family().type}.png"
    assert f"]({picture})" in section
    assert (FOLDER / picture).is_file()


def test_the_examples_are_engines():
    examples = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    tables = [tomllib.loads(example) for example in examples]
    augmentation, strong = map(
        TypeAdapter(Engine).validate_python, (tables[0]["augmentation"], tables[1]["objective"]["strong"])
    )
    assert augmentation.type == "sequence"
    assert strong == ConsistencyObjective().strong == PretrainingSettings().task.perturbations
