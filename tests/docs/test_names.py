"""Links lead to files, and the config fields in tables of the guides exist."""

import dataclasses
import re

import pytest

from aff_jax.hosts.registry import model_classes
from configs import base
from tests.docs.documents import DOCUMENTS, ROOT, blocks

FIELDS = {
    *base.get_config().keys(),
    *(f"model_fields.{f.name}" for host in model_classes() for f in dataclasses.fields(host)),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name):
    for link in re.findall(r"\]\(([^)#\s]+)", DOCUMENTS[name]):
        if "://" not in link:
            assert (ROOT / name).parent.joinpath(link).exists(), link


def test_config_fields_for_flags_of_open_aff_exist():
    table = DOCUMENTS["docs/open_aff.md"].partition("## Training flags")[2]
    rows = re.findall(r"^\| (`-.*?) \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) > 20
    for flags, fields in rows:
        for field in re.findall(r"`([a-z_.]+)", fields):
            assert field in FIELDS, flags


def test_readme_is_short_and_has_small_figures():
    readme = DOCUMENTS["README.md"]
    assert len(readme.splitlines()) <= 120
    figures = re.findall(r"!\[.*\]\((.*)\)", readme)
    assert len(figures) == 3
    for figure in figures:
        assert (ROOT / figure).stat().st_size < 100_000


def test_citation_is_that_of_the_file():
    citation = (ROOT / "CITATION.cff").read_text()
    (code,) = (code for language, code in blocks(DOCUMENTS["README.md"]) if language == "bibtex")
    names = zip(
        re.findall(r"family-names: (.*)", citation),
        re.findall(r"given-names: (.*)", citation),
        strict=True,
    )
    assert " and ".join(f"{family}, {given}" for family, given in names) in code
    for value in re.findall(r"^  (?:title|collection-title|year): (.*)$", citation, re.MULTILINE):
        assert value.strip('"') in code
