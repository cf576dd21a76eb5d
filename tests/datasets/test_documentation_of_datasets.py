"""docs/datasets.md names what the code knows."""

import re
from pathlib import Path

from ssns.datasets import DATASETS

TEXT = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")


def test_every_data_set_has_a_row_and_a_licence():
    rows = [line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `")]
    named = re.findall(r"`([\w-]+)`", " ".join(rows))
    assert sorted(named) == sorted([*DATASETS, *DATASETS])


def test_its_sections_and_places_are_those_of_the_code():
    for output in DATASETS["cremi"].outputs:
        if output.defects:
            sample = output.name.split("_")[0].removeprefix("cremi")
            assert f"of {sample} {', '.join(map(str, output.defects))}" in TEXT
    for dataset in DATASETS.values():
        doi = re.search(r"doi (\S+)", dataset.citation)
        assert doi is None or f"https://doi.org/{doi[1]}" in TEXT
