"""The commands and the Python code of the README and the guides parse."""

import argparse
import itertools
import os
import re
import shlex
import subprocess
import tomllib
from importlib import import_module
from unittest import mock

import pytest

from aff_jax.cli.main import main as aff_jax_command
from tests.docs.documents import DOCUMENTS, ROOT, blocks, commands, python
from tests.docs.short_commands import ONLY_PARSED, SMALLER
from train.data.sources.tfds_prepare import preparation_command

LANGUAGES = {"sh", "python", "text", "bibtex", "{eval-rst}", "{include}", "{toctree}"}

FORMULAS = {"AFF(x, y) = gain * (x * M(x + y) + y * (1 - M(x + y)))\n"}
"""Indented blocks that are not commands."""

COMMANDS = sorted(set(itertools.chain.from_iterable(map(commands, DOCUMENTS.values()))))


@pytest.mark.parametrize("command", COMMANDS)
def test_command_parses(command):
    program, *arguments = shlex.split(command)
    if program == ".venv/bin/aff-jax":
        parse_aff_jax(arguments)
    elif program == "make":
        dry_run(arguments)
    elif program == "prepare/bin/pip":
        assert f"    pip {shlex.join(arguments)}\n" in preparation_command("cifar10", "", "")
    elif program == ".venv/bin/pip":
        check_installation(arguments)
    elif arguments[:2] == ["-m", "pytest"]:
        assert all((ROOT / path).exists() for path in arguments[2:])
    elif arguments[:2] == ["-m", "venv"]:
        assert len(arguments) == 3
    elif arguments[0] == "-m" and arguments[1] in ("train", *TRAIN_COMMANDS):
        check_flags(arguments[2:])
    else:
        pytest.fail(f"don't know how to parse {command}")


TRAIN_FILES = [*(ROOT / "train").glob("*.py"), ROOT / "train" / "plan" / "__main__.py"]
TRAIN_COMMANDS = [f"train.{path.stem}" for path in TRAIN_FILES] + ["train.plan"]
FLAGS = {
    flag
    for path in TRAIN_FILES
    for flag in re.findall(r'(?:DEFINE_|define_)\w+\(\s*"(\w+)"', path.read_text())
}
SWITCHES = {"extend", "search"}
"""Boolean flags, which have no value."""


class Parsed(Exception):
    """The arguments were accepted."""


def parse_aff_jax(arguments):
    """Parse the arguments of `aff-jax` without running the command."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *arguments):
        parse_args(parser, *arguments)
        raise Parsed

    replaced = mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop)
    with replaced, pytest.raises(Parsed):
        aff_jax_command(arguments)


def check_flags(arguments):
    """Check that the flags of a training command are defined, and that its config has the fields.

    Parsing them with absl would take a process for each command, because flags are global.
    """
    config = None
    for argument in arguments:
        flag, separator, value = argument.removeprefix("--").partition("=")
        assert argument.startswith("--"), argument
        assert separator or flag in SWITCHES, argument
        name, *fields = flag.split(".")
        assert name in FLAGS, argument
        if flag == "config":
            path, _, option = value.partition(":")
            get_config = import_module(path.removesuffix(".py").replace("/", ".")).get_config
            config = get_config(option) if option else get_config()
        elif fields:
            assert fields[0] in config, argument
            assert len(fields) == 1 or fields[0] in ("fusion_fields", "model_fields"), argument


def dry_run(arguments):
    """Return the commands of `make`, without variables of a `make` that started the tests."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "ARGS")}
    ran = subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return ran.stdout


def check_installation(arguments):
    """Check that the extras exist; nothing is downloaded."""
    assert arguments.pop(0) == "install"
    if arguments == ["jax[tpu]"]:
        return
    flag, package = arguments
    assert flag in ("-e", "--editable")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = re.fullmatch(r"\.(?:\[(.*)\])?", package)[1]
    assert not wanted or set(wanted.split(",")) <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("name", [name for name, text in DOCUMENTS.items() if python(text)])
def test_python_compiles(name):
    for code in python(DOCUMENTS[name]):
        compile(code, name, "exec")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_is_of_a_known_kind(name):
    for language, code in blocks(DOCUMENTS[name]):
        assert language in LANGUAGES or code in FORMULAS, code


@pytest.mark.parametrize("pattern", SMALLER)
def test_every_replaced_pattern_is_in_the_documents(pattern):
    text = "\n".join(code for text in DOCUMENTS.values() for code in commands(text) + python(text))
    for before in SMALLER:  # a later pattern may match the replacement of an earlier one
        if before == pattern:
            break
        text = re.sub(before, SMALLER[before], text)
    assert re.search(pattern, text)


@pytest.mark.parametrize("part", ONLY_PARSED)
def test_every_parsed_command_is_in_the_documents(part):
    assert any(part in command for command in COMMANDS)


def test_every_formula_is_in_the_documents():
    assert {code for text in DOCUMENTS.values() for _, code in blocks(text)} >= FORMULAS


def test_make_train_runs_the_command_of_the_readme():
    (train,) = (line for line in dry_run(["train"]).splitlines() if "-m train" in line)
    assert train.strip() in commands(DOCUMENTS["README.md"])
