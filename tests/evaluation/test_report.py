import base64
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from ebm_lab.evaluation.measurement import Measurement
from ebm_lab.evaluation.report import format_number, write_report

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))


class Page(HTMLParser):
    """The tags, the attributes and the text of a page, and whether its tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.rows, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def report(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(PNG + name.encode())
    path = write_report(
        tmp_path,
        "run <b>1</b> & $title",
        "objective: <dsm>\nurl: https://example.org",
        [
            Measurement("nll", 2.3123, 0.013, "nats", "error <i>bar</i> & 'exact'"),
            Measurement("kl", 0.25),
        ],
        [Measurement("nll", 5.21, 0.04), Measurement("other", 1.0)],
        {'samples "beside" data': tmp_path / "a.png", "curves": str(tmp_path / "b.png")},
        ["score matching cannot see the weights of <separated> modes"],
    )
    assert path == tmp_path / "report.html"
    return path.read_text(encoding="utf-8")


def test_table_has_the_untrained_value_beside_the_value(report):
    header, nll, kl = Page(report).rows
    assert header == ["Quantity", "Value", "Untrained", "Unit", "Note"]
    assert nll == ["nll", "2.312 ± 0.013", "5.210 ± 0.040", "nats", "error <i>bar</i> & 'exact'"]
    assert kl == ["kl", "0.25", "–", "", ""]


def test_text_is_escaped_and_arrives_as_it_was_written(report):
    for raw in ("<b>1", "<dsm>", "<i>", "<separated>"):
        assert raw not in report
    page = Page(report)
    assert "run <b>1</b> & $title" in page.text
    assert "objective: <dsm>\nurl: https://example.org" in page.text
    assert "score matching cannot see the weights of <separated> modes" in page.text
    assert ("img", "alt", 'samples "beside" data') in page.attributes


def test_all_figures_are_embedded(report):
    sources = [value for _, name, value in Page(report).attributes if name == "src"]
    pictures = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    assert pictures == [PNG + b"a", PNG + b"b"]


def test_nothing_is_loaded_from_elsewhere(report):
    attributes = Page(report).attributes
    assert all(value.startswith("data:image/png") for _, name, value in attributes if name == "src")
    assert not [a for a in attributes if a[1] in ("href", "srcset", "action", "data")]
    assert not re.search(r"url\(|@import|<script|<link|<iframe", report)


def test_a_report_without_numbers_pictures_and_notes_keeps_its_config(tmp_path):
    page = Page(write_report(tmp_path, "bare", "a: 1", [], [], {}, []).read_text(encoding="utf-8"))
    assert page.rows == [] and "a: 1" in page.text
    assert "Numbers" not in page.text and "Pictures" not in page.text and "Notes" not in page.text


def test_a_missing_picture_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path, "t", "", [], [], {"gone": tmp_path / "gone.png"}, [])


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (1.590531, 0.0012, "1.5905 ± 0.0012"),
        (-2.5, 0.1, "-2.50 ± 0.10"),
        (1234.5, 345.0, "1234 ± 345"),
        (3.76e-8, None, "3.76e-08"),
        (0.510826, 1e-12, "0.510826 ± 1e-12"),
        (0.5, 0.0, "0.5 ± 0"),
        (2.0, None, "2"),
    ],
)
def test_numbers_show_two_digits_of_their_error(value, error, expected):
    assert format_number(value, error) == expected


def test_importing_evaluation_does_not_import_matplotlib():
    code = "import sys, ebm_lab.evaluation; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
