"""The check over a built site sees files that are missing and requests to other hosts."""

from pathlib import Path

import pytest

from tools.site import complaints

WHOLE = """<html><head><link rel="stylesheet" href="assets/main.css"></head>
<body><a href="docs/more.html#part">more</a> <a href="#here">here</a>
<a href="https://example.org/">elsewhere</a></body>"""


def build(site: Path, page: str) -> list[str]:
    (site / "docs").mkdir()
    (site / "assets").mkdir()
    (site / "assets/main.css").write_text("body {}")
    (site / "docs/more.html").write_text("<a href='../index.html'>back</a>")
    (site / "index.html").write_text(page)
    return list(complaints(site))


def test_links_to_files_of_the_site_and_to_other_sites_are_no_complaint(tmp_path: Path) -> None:
    assert build(tmp_path, WHOLE) == []


def test_link_without_a_file_is_a_complaint(tmp_path: Path) -> None:
    found = build(tmp_path, WHOLE.replace("more.html", "gone.html"))
    assert found == ["index.html refers to docs/gone.html#part, which is no file of the site"]


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/css">',
        '<link rel="preconnect" href="https://fonts.example.org">',
        '<img src="https://badge.example.org/b.svg">',
    ],
)
def test_anything_loaded_from_another_host_is_a_complaint(tmp_path: Path, tag: str) -> None:
    (found,) = build(tmp_path, WHOLE + tag)
    assert found.startswith("index.html loads ")
    assert "example.org" in found
