"""`aff-jax convert`: files of PyTorch and MXNet, and back to PyTorch."""

import shutil

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import aff_jax
from aff_jax.cli import main as cli
from tests.aff_jax.cli.pytorch_network import RESNET
from tests.aff_jax.convert.golden import DATA
from tests.aff_jax.random_variables import random_variables


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
    assert cli.main([*command, "--channels=4", "--overwrite"]) == 0
    assert aff_jax.load(saved)[1]["params"]["stem"]["kernel"].shape == (3, 3, 4, 16)

    back = tmp_path / "back.pth"
    assert cli.main(["convert", str(saved), str(back), "--rename=fc=head"]) == 0
    assert "fc.weight" in torch.load(back, weights_only=True)
    capsys.readouterr()
    assert cli.main([*command[:-1], "--rename=fc", "--overwrite"]) == 2
    assert "expected --rename OLD=NEW, got 'fc'" in capsys.readouterr().err
    assert cli.main(["convert", str(saved), str(back), "--channels=1", "--overwrite"]) == 2
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
    assert "overwrite it: with --overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert cli.main([*command, "--overwrite"]) == 0
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
