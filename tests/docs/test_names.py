"""Links between files, and names of ours that tables of the documents give, are there."""

import dataclasses
import re

import pytest

from aff_jax.hosts.registry import host_classes
from configs import base
from tests.docs.documents import DOCUMENTS, ROOT

FIELDS = {
    *base.get_config().keys(),
    *(f"model_fields.{f.name}" for host in host_classes() for f in dataclasses.fields(host)),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_files_lead_to_files(name):
    for link in re.findall(r"\]\(([^)#\s]+)", DOCUMENTS[name]):
        if "://" not in link:
            assert (ROOT / name).parent.joinpath(link).exists(), link


def test_the_flags_of_open_aff_have_become_fields_that_are_there():
    table = DOCUMENTS["docs/open_aff.md"].partition("## Training flags")[2]
    rows = re.findall(r"^\| (`-.*?) \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) > 20
    for flags, fields in rows:
        for field in re.findall(r"`([a-z_.]+)", fields):
            assert field in FIELDS, flags


def test_the_readme_has_at_most_150_lines():
    assert len(DOCUMENTS["README.md"].splitlines()) <= 150
