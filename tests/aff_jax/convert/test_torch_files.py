"""PyTorch files: reading what `torch.save` writes, rejecting code and damage."""

import os
import pickle
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from aff_jax.convert.weight_files import read_weights, unwrap_state_dict, write_torch
from tests.aff_jax.files.mutations import mutations

torch = pytest.importorskip("torch")

OLD = {"_use_new_zipfile_serialization": False}
FORMATS = pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "old"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.pth"


def small_network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


@FORMATS
@pytest.mark.parametrize("ending", [".pth", ".pt"])
def test_reads_state_dicts(tmp_path, ending, options):
    state = small_network().state_dict()
    torch.save(state, tmp_path / f"x{ending}", **options)
    weights = read_weights(tmp_path / f"x{ending}")
    assert list(weights) == list(state)
    for name, tensor in state.items():
        assert weights[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(weights[name], tensor.numpy(), strict=True)
    assert weights["1.num_batches_tracked"].shape == ()


@FORMATS
def test_reads_checkpoints_of_training_scripts(path, options):
    network = torch.nn.DataParallel(small_network())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    network(torch.ones(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "seed": 2**63,
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
    }
    torch.save(checkpoint, path, **options)
    assert list(read_weights(path)) == list(small_network().state_dict())


@FORMATS
def test_reads_tensors_of_every_kind(path, options):
    shared = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "bfloat16": torch.tensor([1.5, -2, float("nan")], dtype=torch.bfloat16),
        "float16": torch.ones(2, dtype=torch.float16),
        "trained": torch.nn.Parameter(torch.ones(2)),
        "transposed": shared.T,
        "part": shared[1:, ::2],
        "tied": shared,
        "bool": torch.tensor([True, False]),
        "empty": torch.ones(0, 3),
        "scalar": torch.tensor(3),
        "conjugate": torch.tensor([1 + 2j]).conj(),
    }
    torch.save(tensors, path, **options)
    for weights in (read_weights(path), unwrap_state_dict(tensors)):
        assert list(weights) == list(tensors)
        for name, tensor in tensors.items():
            tensor = tensor.detach().resolve_conj()
            if name == "bfloat16":
                assert weights[name].dtype == ml_dtypes.bfloat16
                tensor, weights[name] = tensor.float(), weights[name].astype(np.float32)
            np.testing.assert_array_equal(weights[name], tensor.numpy(), strict=True)


def test_pytorch_loads_written_files(path):
    expected = small_network()
    write_torch(path, unwrap_state_dict(expected.state_dict()))
    network = small_network()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    network.load_state_dict(torch.load(path, weights_only=True))
    x = torch.ones(2, 3, 5, 5)
    assert torch.equal(network.eval()(x), expected.eval()(x))
    with pytest.raises(ValueError, match="'a' cannot be converted to a tensor"):
        write_torch(path, {"a": np.ones(2, np.longdouble)}, overwrite=True)


def test_rejects_tensors_without_values_by_name():
    for tensor in (torch.ones(2, device="meta"), torch.ones(2).to_sparse()):
        with pytest.raises(ValueError, match="the state dict: 'a' cannot be converted to an arr"):
            unwrap_state_dict({"a": tensor})


class Payload:
    """Object that creates a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch '{self.target}'",)


def pickled(payload, file):
    pickle.dump(payload, file)


def pickled_as_text(payload, file):
    pickle.dump({"state_dict": payload}, file, protocol=0)


def saved(payload, file):
    torch.save({"a": torch.ones(2), "state_dict": payload}, file)


def saved_in_old_format(payload, file):
    torch.save(payload, file, **OLD)


@pytest.mark.parametrize("dump", [pickled, pickled_as_text, saved, saved_in_old_format])
def test_code_is_rejected_and_does_not_run(tmp_path, path, dump):
    target = tmp_path / "created"
    with open(path, "wb") as file:
        dump(Payload(target), file)
    with pytest.raises(
        ValueError, match=r"x\.pth: refused, because it contains code: .* posix.system"
    ):
        read_weights(path)
    assert not target.exists()
    # Check that the payload works.
    if dump in (pickled, pickled_as_text):
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert target.exists()


@FORMATS
def test_rejects_whole_models(path, options):
    torch.save(small_network(), path, **options)
    advice = r"torch\.nn\.modules\..* Probably a whole model .* save `model\.state_dict\(\)`"
    with pytest.raises(ValueError, match=advice):
        read_weights(path)


def test_errors_name_the_extra_that_installs_pytorch(path, monkeypatch):
    write_torch(path, {"a": np.ones(2)})
    monkeypatch.setitem(sys.modules, "torch", None)
    for use in (read_weights, lambda path: write_torch(path.with_name("y.pth"), {})):
        with pytest.raises(ImportError, match="Install the extra 'torch'"):
            use(path)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cu121", "2.9.0a0+git"])
def test_rejects_unsafe_versions_of_pytorch(path, monkeypatch, version):
    write_torch(path, {"a": np.ones(2)})
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(ImportError, match="expected PyTorch 2.10 or later, got " + version[:5]):
        read_weights(path)


def rezip(path, change=lambda record: record, compression=zipfile.ZIP_STORED):
    """Rewrite the archive with changed or compressed records."""
    with zipfile.ZipFile(path) as old:
        records = {name: change(old.read(name)) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, record in records.items():
            new.writestr(name, record)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "of 0 bytes: it is empty"),
        (b"PK\x03\x04", "not a zip file"),
        (b"text " * 99, "opcode b'e' unknown|not a readable"),
        (b"\x80\x02}.", "PyTorch cannot read it"),
        (pickle.dumps(3, protocol=2), "PyTorch cannot read it"),
    ],
)
def test_rejects_other_files(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pth: .*(" + message + ")"):
        read_weights(path)


@FORMATS
def test_rejects_every_truncation(path, options):
    torch.save({"a": torch.arange(9.0), "b": torch.ones(2)}, path, **options)
    content = path.read_bytes()
    for length in [*range(0, len(content), 17), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"x\.pth: "):
            read_weights(path)


@pytest.mark.parametrize("bit", range(32))
def test_rejects_a_weight_with_a_flipped_bit(path, bit):
    write_torch(path, {"a": np.float32([3.25, 7.5])})
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<f", 7.5))
    content[at + bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checksum of record 'archive/data/0' is wrong"):
        read_weights(path)


@pytest.mark.parametrize(
    ("offset", "value"), [(20, b"\1"), (38, b"\x10")], ids=["two sizes", "directory"]
)
def test_rejects_entries_for_which_pytorch_returns_uninitialized_memory(path, offset, value):
    write_torch(path, {"a": np.ones(300, np.float32)})
    content = bytearray(path.read_bytes())
    entry = content.index(b"archive/data/0", content.index(b"PK\1\2")) - 46
    content[entry + offset : entry + offset + 1] = value
    path.write_bytes(content)
    with pytest.raises(ValueError, match="record 'archive/data/0' is not stored as torch"):
        read_weights(path)


def test_rejects_compressed_records(path):
    write_torch(path, {"a": np.zeros(10_000)})
    rezip(path, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"is not stored as torch\.save stores it"):
        read_weights(path)


@FORMATS
@pytest.mark.parametrize("elements", [2**31 - 1, -1])
def test_rejects_storages_larger_than_the_file(path, options, elements):
    torch.save({"a": torch.ones(70_000)}, path, **options)
    as_int = b"J" + struct.pack("<i", 70_000)
    content = path.read_bytes()
    forged = b"J" + struct.pack("<i", elements)
    if options:
        path.write_bytes(content.replace(as_int, forged))
    else:
        rezip(path, lambda record: record.replace(as_int, forged))
    with pytest.raises(ValueError, match=f"a storage of {elements} elements is larger"):
        read_weights(path)


@FORMATS
def test_rejects_expanded_tensors(path, options):
    torch.save({"a": torch.ones(1).expand(1000, 1000)}, path, **options)
    with pytest.raises(ValueError, match=r"'a' of shape \(1000, 1000\) needs 4000000 bytes"):
        read_weights(path)


def test_rejects_torchscript_by_name(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/constants.pkl", b"")
    with pytest.raises(ValueError, match=r"TorchScript program; save its state_dict\(\)"):
        read_weights(path)


def test_rejects_a_dict_that_contains_itself(path):
    cycle = {}
    cycle["model"] = cycle["net"] = cycle
    torch.save(cycle, path)
    with pytest.raises(ValueError, match="got a dict with the keys 'model', 'net'"):
        read_weights(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch warns about damaged files
@FORMATS
def test_damaged_files_give_the_same_weights_or_a_value_error(path, options):
    """The old format has no checksums: there the weights may differ, but not be larger."""
    weights = {f"layer{n}": np.full((n, 9), n, np.float32) for n in range(1, 9)}
    torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, path, **options)
    messages = []
    for damaged in mutations(path.read_bytes(), 1_000):
        path.write_bytes(damaged)
        try:
            read = read_weights(path)
        except ValueError as error:
            messages.append(str(error))
            continue
        for name, array in read.items():
            assert array.nbytes <= len(damaged)
            if not options:
                np.testing.assert_array_equal(array, weights[name], strict=True)
    assert all(message.startswith(f"{path}: ") for message in messages)
    assert len(messages) > 500
