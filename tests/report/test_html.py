import base64
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from ssns.errors import UserError
from ssns.report import Table, write_picture, write_report
from ssns.report.html import COLUMNS

NS = {"h": "http://www.w3.org/1999/xhtml"}
ROWS = {
    "test, threshold from validation": {"voi_split": 0.5, "voi_merge": 0.25, "voi_sum": 0.75, "arand": 0.125},
    "baseline <watershed & raw>": {"voi_split": float("nan"), "arand_recall": 1, "threshold": 0.3},
}


@pytest.fixture
def picture(tmp_path):
    write_picture(tmp_path / "a.png", np.zeros((2, 3, 3), dtype=np.uint8))
    return tmp_path / "a.png"


def page(folder, **changes):
    """The report as a tree, which only well-formed markup has."""
    content = {"title": "AC4", "scores": ROWS, "settings_toml": "seed = 0\n", "versions": {"ssns": "0.1.0"}} | changes
    write_report(folder / "report.html", **content)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>\n")
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


def test_the_table_has_the_rows(tmp_path):
    table = page(tmp_path).find(".//h:table", NS)
    heading = [cell.text for cell in table.findall("h:thead/h:tr/h:th", NS)]
    assert heading == ["scored", *(column.title for column in COLUMNS)]
    rows = [[cell.text for cell in row] for row in table.findall("h:tbody/h:tr", NS)]
    assert rows == [
        ["test, threshold from validation", "0.5000", "0.2500", "0.7500", "0.1250", *"–––––"],
        ["baseline <watershed & raw>", *"–––––", "1.0000", *"–––"],
    ]


def test_further_tables_follow(tmp_path):
    table = Table("The worst", ("neuron", "why"), [("3", "cut & merged"), ("5", "–")], "Of all.")
    tree = page(tmp_path, tables=[table])
    assert [heading.text for heading in tree.findall(".//h:h2", NS)][1] == "The worst"
    found = tree.findall(".//h:table", NS)[1]
    assert [[cell.text for cell in row] for row in found.iter(f"{{{NS['h']}}}tr")] == [
        ["neuron", "why"],
        ["3", "cut & merged"],
        ["5", "–"],
    ]
    assert "Of all." in [each.text for each in tree.findall(".//h:p", NS)]


def test_every_column_is_explained(tmp_path):
    explained = page(tmp_path).findall(".//h:dl", NS)[0]
    assert [term.text for term in explained.findall("h:dt", NS)] == [column.title for column in COLUMNS]
    assert [text.text.split()[-3:] for text in explained.findall("h:dd", NS)] == [
        [column.better.capitalize(), "is", "better."] for column in COLUMNS
    ]


def test_pictures_are_embedded(tmp_path, picture):
    figure = page(tmp_path, pictures=[("raw > truth", picture)]).find(".//h:figure", NS)
    image = figure.find("h:img", NS)
    assert figure.find("h:figcaption", NS).text == image.get("alt") == "raw > truth"
    kind, data = image.get("src").split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == picture.read_bytes()


def test_no_other_file_and_no_network_is_needed(tmp_path, picture):
    class Links(HTMLParser):
        found: list[str] = []

        def handle_starttag(self, tag, attributes):
            self.found += [value for name, value in attributes if name in ("src", "href")]

    links = Links()
    page(tmp_path, pictures=[("a", picture)])
    links.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(links.found) == 1
    assert links.found[0].startswith("data:")


def test_settings_notes_and_versions_are_shown_as_they_are(tmp_path):
    settings = '[volume]\npath = "a<b>.tif"  # 5 & 6\n'
    tree = page(tmp_path, settings_toml=settings, notes=["5 < 6"], versions={"torch": "2.13.0+cpu"})
    assert tree.find(".//h:pre", NS).text == settings
    assert [note.text for note in tree.findall(".//h:p", NS)] == ["5 < 6"]
    made = tree.findall(".//h:dl", NS)[1]
    assert [made.find("h:dt", NS).text, made.find("h:dd", NS).text] == ["torch", "2.13.0+cpu"]


def test_an_unusable_picture_is_refused_and_the_old_page_survives(tmp_path):
    page(tmp_path)
    old = (tmp_path / "report.html").read_bytes()
    with pytest.raises(UserError, match=r"picture 'errors' cannot be read from .*gone\.png \(No such file"):
        page(tmp_path, title="new", pictures=[("errors", tmp_path / "gone.png")])
    with pytest.raises(UserError, match=r"picture 'table' is scores\.json, of type application/json"):
        page(tmp_path, title="new", pictures=[("table", "scores.json")])
    assert (tmp_path / "report.html").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
