"""The settings of CI, hooks and documentation agree with the Makefile and the tests."""

import ast
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.documents import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
YAML = sorted(
    path.relative_to(ROOT)
    for pattern in (".github/**/*.yml", ".*.yaml", "CITATION.cff")
    for path in ROOT.glob(pattern)
)


def read(path):
    return yaml.safe_load((ROOT / path).read_text())


def make(*arguments):
    """Return the commands that `make` would run."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "ARGS")}
    command = ["make", "--dry-run", *arguments]
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return ran.stdout.replace("\\\n", " ")


@pytest.mark.parametrize("path", YAML, ids=str)
def test_yaml_parses(path):
    assert isinstance(read(path), dict)


@pytest.mark.parametrize(
    ("workflow", "commands"),
    [
        ("ci", ["bash .ci/run"]),
        ("weekly", ["make test-newest", "make test-weekly", "make test-plan"]),
    ],
)
def test_workflow_runs_its_commands(workflow, commands):
    content = read(f".github/workflows/{workflow}.yml")
    last_steps = [job["steps"][-1] for job in content["jobs"].values()]
    assert last_steps == [{"run": command} for command in commands]
    # YAML 1.1 reads the key `on` as true.
    triggers = {"ci": {"push", "pull_request"}, "weekly": {"schedule", "workflow_dispatch"}}
    assert set(content[True]) == triggers[workflow]


def test_hooks_are_the_commands_of_make_lint():
    hooks = [
        hook
        for repository in read(".pre-commit-config.yaml")["repos"]
        for hook in repository["hooks"]
    ]
    linted = [line for line in make("lint").splitlines() if line.startswith(".venv/bin/")]
    assert [hook["entry"] for hook in hooks] == [x for x in linted if " -m pip " not in x]
    assert all(hook["language"] == "system" for hook in hooks)
    assert not any(hook["pass_filenames"] for hook in hooks)


def test_read_the_docs_builds_as_make_docs():
    content = read(".readthedocs.yaml")
    assert (ROOT / content["sphinx"]["configuration"]).exists()
    assert content["sphinx"]["fail_on_warning"]
    (install,) = content["python"]["install"]
    assert set(install["extra_requirements"]) <= PROJECT["optional-dependencies"].keys()
    assert (ROOT / install["path"]).is_dir()


def imported(path):
    """Yield the modules that a file imports, and those that files of the tests import for it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            yield module
            file = ROOT / f"{module.replace('.', '/')}.py"
            if module.startswith("tests.") and file.exists():
                yield from imported(file)


def test_minimum_needs_neither_torch_nor_the_training_application():
    words = make("test-minimum").split()
    paths = [ROOT / word for word in words if word.startswith("tests/aff_jax/")]
    assert len(paths) > 5
    extras = PROJECT["optional-dependencies"]
    missing = {"torch", "train", "benchmarks"}
    missing |= {line.split(">=")[0].partition("[")[0].lower() for line in extras["train"]}
    missing |= {"PIL", "sklearn", "tensorflow_datasets", "absl", "orbax"}
    for path in paths:
        assert path.exists(), path
        for file in [path] if path.is_file() else path.rglob("*.py"):
            roots = {module.split(".")[0] for module in imported(file)}
            assert not roots & missing, f"{Path(file).relative_to(ROOT)} imports {roots & missing}"
