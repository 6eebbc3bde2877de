"""What GitHub reads of the repository: a form that is not as it should be is left out there in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
NEEDED = {"markdown": {"value"}, "input": {"label"}, "textarea": {"label"}, "dropdown": {"label", "options"}}


def read(path: Path) -> dict[str, Any]:
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(plain, dict)
    return plain


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one(path: Path) -> None:
    form = read(path)
    assert form.keys() <= {"name", "description", "labels", "body"} and form["name"] and form["description"]
    for field in form["body"]:
        assert field["attributes"].keys() >= NEEDED[field["type"]], field
        assert all(isinstance(option, str) for option in field["attributes"].get("options", [])), field
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert ids and len(set(ids)) == len(ids)


def test_there_is_a_form_for_each_kind_of_issue() -> None:
    assert [path.stem for path in FORMS] == ["architecture", "bug", "data_source"]


def test_the_citation_has_what_the_format_requires() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"] and citation["title"] and citation["authors"]
