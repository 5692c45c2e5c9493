"""Commands of `aff-jax`, called in this process, and the installed program."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import aff_jax
from aff_jax.cli import main as cli
from tests.aff_jax.convert.golden import DATA, weight
from tests.aff_jax.random_variables import random_variables
from tests.reference import torch_aff

MAKER = """
from tests.reference import torch_aff

def make():
    return torch_aff.ResNet(
        torch_aff.basic_block, (1,), "iAFF", num_classes=7, small_input=True, features=8
    )
"""

FAILURES = """
def fail():
    raise RuntimeError("no such luck")

def number():
    return 3
"""

RESNET = (
    "--model=resnet18",
    "--fusion=iaff",
    "--reference=pytorch",
    "--field=small_input=True",
    "--field=blocks_per_stage=(1,)",
    "--field=base_channels=8",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    network = torch_aff.ResNet(
        torch_aff.basic_block, (1,), "iAFF", num_classes=7, small_input=True, features=8
    )
    state = {
        name: torch.from_numpy(weight(name, tuple(value.shape)))
        for name, value in network.state_dict().items()
    }
    path = tmp_path_factory.mktemp("torch") / "iaff.pth"
    torch.save({"state_dict": state}, path)
    return path


def test_convert_from_pytorch_and_back(checkpoint, tmp_path, capsys):
    saved, back = tmp_path / "saved.safetensors", tmp_path / "back.pth"
    assert cli.main(["convert", str(checkpoint), str(saved), *RESNET]) == 0
    printed = capsys.readouterr().out
    assert "resnet18" in printed
    # global_att2 has 2 convolutions with 2 arrays each and 2 batch norms with 4 arrays each.
    assert "also saved 12 arrays that the network never reads" in printed
    assert "  layer1.0.fuse_mode.global_att2.1.weight" in printed
    assert "reference pytorch, fusion iaff with" in printed
    model, _ = aff_jax.load(saved)
    assert (model.num_classes, model.small_input) == (7, True)

    assert cli.main(["convert", str(saved), str(back)]) == 0
    before = torch.load(checkpoint, weights_only=True)["state_dict"]
    after = torch.load(back, weights_only=True)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)

    assert cli.main(["convert", str(saved), str(tmp_path / "back.safetensors")]) == 0
    assert load_file(tmp_path / "back.safetensors").keys() == before.keys()


def test_convert_from_mxnet(tmp_path):
    saved = tmp_path / "saved.safetensors"
    source = DATA / "cifar_resnet8_aff.params"
    command = ["convert", str(source), str(saved), "--model=cifar_resnet8", "--reference=mxnet"]
    assert cli.main(command) == 0
    model, variables = aff_jax.load(saved)
    assert model.num_classes == 10
    assert dict(model.fusion_fields) == {"gain": 2.0}
    images = np.ones((1, 8, 8, 3), np.float32)
    assert np.isfinite(jax.jit(model.apply)(variables, images)).all()


def test_the_default_reference_is_the_framework_of_the_weights(tmp_path, capsys):
    source = str(DATA / "cifar_resnet8_aff.params")
    for flags, gain in (([], 2.0), (["--reference=paper"], None)):
        saved = tmp_path / f"{gain}.safetensors"
        assert cli.main(["convert", source, str(saved), "--model=cifar_resnet8", *flags]) == 0
        assert dict(aff_jax.load(saved)[0].fusion_fields).get("gain") == gain
    capsys.readouterr()
    # A network that differs from open-aff's PyTorch code is converted with a note.
    assert cli.main(["convert", str(saved), str(tmp_path / "out.pth")]) == 0
    assert "note: this network has fusion aff; open-aff's PyTorch code" in capsys.readouterr().out
    assert cli.main(["convert", str(saved), str(tmp_path / "b.pth"), "--model=resnet50"]) == 2
    assert "remove --model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["compare", "MAKER:make", "--model=resnet18", "--checkpoint=CHECKPOINT"], "not match"),
        (["compare", "MAKER:fail", "--model=resnet18"], "raised RuntimeError: no such luck"),
        (["compare", "MAKER:number", "--model=resnet18"], "expected a torch.nn.Module, got a int"),
        (["compare", "MAKER:make", "--model=resnet18", "--html=no/where"], "no directory no"),
        (["compare", "MAKER:make", "--ours=MAKER:make"], "expected --inputs FILE.npz"),
        (["compare", "MAKER:make", "--ours=MAKER:make", "--field=width=2"], "remove it"),
        (["models", "--filter=zzz"], "unknown model 'zzz'"),
        (["summary", "resnet18", "--field=blocks_per_stage=5"], "TypeError"),
    ],
)
def test_only_different_networks_exit_with_1(tmp_path, capsys, command, message):
    maker, checkpoint = tmp_path / "maker.py", tmp_path / "w.safetensors"
    maker.write_text(MAKER + FAILURES)
    save_file({"foo": np.zeros(2, np.float32)}, checkpoint)
    places = {"MAKER": str(maker), "CHECKPOINT": str(checkpoint)}
    for name, path in places.items():
        command = [part.replace(name, path) for part in command]
    assert cli.main(command) == 2
    assert message in capsys.readouterr().err


def test_convert_selects_renames_and_adapts(tmp_path, capsys):
    source, saved = tmp_path / "x.CKPT", tmp_path / "saved.SAFETENSORS"
    model = aff_jax.create_model("cifar_resnet8", "add", num_classes=3, blocks_per_stage=(0, 0, 0))
    variables = random_variables(model, np.zeros((1, 8, 8, 1), np.float32), dtype=np.float32)
    state = aff_jax.convert.to_torch(variables, model)
    renamed = {f"net.{n.replace('head.', 'fc.')}": torch.from_numpy(a) for n, a in state.items()}
    torch.save({**renamed, "other.weight": torch.ones(2)}, source)
    command = ["convert", str(source), str(saved), "--model=cifar_resnet8", "--fusion=add"]
    command += ["--field=blocks_per_stage=(0,0,0)", "--prefix=net", "--rename=fc=head"]
    assert cli.main(command) == 0
    again, loaded = aff_jax.load(saved)
    assert again.num_classes == 3
    # Images with one channel, as in the checkpoint.
    np.testing.assert_array_equal(
        loaded["params"]["stem"]["kernel"], variables["params"]["stem"]["kernel"]
    )
    assert cli.main([*command, "--channels=4", "--force"]) == 0
    assert aff_jax.load(saved)[1]["params"]["stem"]["kernel"].shape == (3, 3, 4, 16)

    back = tmp_path / "back.pth"
    assert cli.main(["convert", str(saved), str(back), "--rename=fc=head"]) == 0
    assert "fc.weight" in torch.load(back, weights_only=True)
    capsys.readouterr()
    assert cli.main([*command[:-1], "--rename=fc", "--force"]) == 2
    assert "expected --rename OLD=NEW, got 'fc'" in capsys.readouterr().err
    assert cli.main(["convert", str(saved), str(back), "--channels=1", "--force"]) == 2
    assert "remove --channels" in capsys.readouterr().err


def test_the_content_of_a_file_decides_its_framework(tmp_path):
    source, saved = tmp_path / "A.PARAMS", tmp_path / "saved.safetensors"
    shutil.copy(DATA / "cifar_resnet8_aff.params", source)
    assert cli.main(["convert", str(source), str(saved), "--model=cifar_resnet8"]) == 0
    assert dict(aff_jax.load(saved)[0].fusion_fields) == {"gain": 2.0}


def test_keeps_an_existing_target_without_force(tmp_path, capsys):
    target = tmp_path / "saved.safetensors"
    target.write_bytes(b"precious")
    command = ["convert", str(DATA / "cifar_resnet8_aff.params"), str(target)]
    command += ["--model=cifar_resnet8", "--reference=mxnet"]
    assert cli.main(command) == 2
    assert "pass --force" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert cli.main([*command, "--force"]) == 0
    aff_jax.load(target)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=cifar_resnet9"], "unknown model 'cifar_resnet9'. Did you mean"),
        (["--model=cifar_resnet14"], "does not match this module"),
        (["--model=cifar_resnet8", "--fusion=iaff"], "looks like a network with fusion='aff'"),
        (["--model=cifar_resnet8", "--field=widht=2"], "Did you mean 'width'"),
        (["--model=cifar_resnet8", "--field=width"], "expected --field NAME=VALUE"),
        ([], "expected --model"),
    ],
)
def test_a_failed_conversion_explains_and_writes_nothing(tmp_path, capsys, flags, message):
    target = tmp_path / "saved.safetensors"
    assert cli.main(["convert", str(DATA / "cifar_resnet8_aff.params"), str(target), *flags]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_rejects_missing_files_and_wrong_extensions(tmp_path, capsys):
    assert cli.main(["convert", "nothing.pth", str(tmp_path / "a.pth"), "--model=resnet18"]) == 2
    assert "expected a .safetensors file, which aff_jax.load reads" in capsys.readouterr().err
    target = str(tmp_path / "a.safetensors")
    assert cli.main(["convert", "nothing.pth", target, "--model=resnet18"]) == 2
    assert "nothing.pth: no such file" in capsys.readouterr().err


def test_compare_finds_equal_and_different_networks(checkpoint, tmp_path, capsys):
    maker = tmp_path / "maker.py"
    maker.write_text(MAKER)
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    command = ["compare", f"{maker}:make", f"--checkpoint={checkpoint}", "--input-size=24"]
    files = [f"--json={report}", f"--html={page}"]
    assert cli.main([*command, *RESNET, *files]) == 0
    assert "Equal: " in capsys.readouterr().out
    assert json.loads(report.read_text())["equal"] is True
    assert "<svg" in page.read_text()

    wrong = [flag.replace("pytorch", "paper") for flag in RESNET]
    assert cli.main([*command, *wrong, "--float64", *files]) == 1
    assert "This is pass 2 of the fusion stage1_block0/fuse" in capsys.readouterr().out
    assert json.loads(report.read_text())["first_mismatch"]["path"].startswith(
        "stage1_block0/fuse/global2"
    )


def test_compare_rejects_missing_files(capsys):
    assert cli.main(["compare", "nothing.py:make", "--model=resnet18"]) == 2
    assert "expected FILE.py:CALLABLE" in capsys.readouterr().err


def test_models_lists_names_and_families_without_tracing_networks(monkeypatch, capsys):
    monkeypatch.setattr(jax, "eval_shape", None)
    assert cli.main(["models"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "family"]
    assert sorted(row.split()[0] for row in rows) == aff_jax.list_models()
    assert "resnet50_v1d            ResNetV1d" in rows
    # Networks of a family follow each other.
    families = [family for family, _ in itertools.groupby(rows, lambda row: row.split()[1])]
    assert len(set(families)) == len(families)


def test_models_counts_parameters_and_operations_if_asked_for(capsys):
    command = ["models", "--filter=cifar_resnet8", "--input-size=32"]
    assert cli.main([*command, "--cost"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert "GFLOPs at 32x32" in header
    name, family, parameters, operations = row.split()
    # open-aff has 89,916 with 100 classes; 900 more classes have 65 parameters each.
    assert (name, family) == ("cifar_resnet8", "CIFARResNet")
    assert parameters == f"{89_916 + 900 * 65:,}"
    # The 3x3 convolutions have 12.4 million multiply-adds.
    assert 2 * 0.0124 <= float(operations) < 0.04
    assert cli.main([*command, "--parameters"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [name, family, parameters]


@pytest.mark.parametrize("flags", [["models"], ["compare", "--help"]])
def test_a_closed_output_is_no_error(flags):
    """As with `aff-jax models | head`, whose reader may end first."""
    code = "import sys; from aff_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code, *flags]
    process = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, "")


def test_summary_prints_every_layer(capsys):
    assert cli.main(["summary", "cifar_resnet8", "--num-classes=10", "--input-size=8"]) == 0
    printed = capsys.readouterr().out
    assert "stage3_block0/fuse" in printed
    assert "Total Parameters" in printed


def test_the_program_is_installed():
    program = Path(sys.executable).parent / "aff-jax"
    assert shutil.which(program)
    process = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == aff_jax.__version__


def test_paths_begin_in_the_home_directory(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(checkpoint, tmp_path / "iaff.pth")
    assert cli.main(["convert", "~/iaff.pth", "~/iaff.safetensors", *RESNET]) == 0
    assert (tmp_path / "iaff.safetensors").exists()
