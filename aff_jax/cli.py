"""The command line: `aff-jax models | convert | compare | summary`."""

import argparse
import ast
import fnmatch
import importlib.util
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import aff_jax
from aff_jax.convert import parity, parity_report
from aff_jax.convert.files import (
    read_metadata,
    read_weights,
    unwrap_state_dict,
    write_safetensors,
    write_torch,
)
from aff_jax.convert.mapping import UNREAD
from aff_jax.convert.rules import MXNET, PYTORCH
from aff_jax.convert.structure import Layer, Structure
from aff_jax.hosts.registry import REFERENCES
from aff_jax.serialization import is_saved
from aff_jax.tables import unknown_name

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 is success, 1 a comparison that parts, 2 an error."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
    except Exception as error:  # 1 is for networks that part, so nothing may leave with it
        traceback.print_exc()
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
    return 2


def models(arguments: argparse.Namespace) -> int:
    """Names, trainable parameters and floating-point operations of the hosts."""
    size = arguments.input_size
    names = fnmatch.filter(aff_jax.list_models(), arguments.filter)
    if not names:
        raise ValueError(unknown_name("model", arguments.filter, aff_jax.list_models()))
    print(f"{'model':<24}{'parameters':>14}{f'GFLOPs at {size}x{size}':>22}")
    for name in names:
        model = _create(arguments, name)
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        # A multiply and an add are two operations.
        cost = jax.jit(model.apply).lower(variables, images).cost_analysis() or {}
        print(f"{name:<24}{count:>14,}{cost.get('flops', float('nan')) / 1e9:>22.3g}", flush=True)
    return 0


def convert(arguments: argparse.Namespace) -> int:
    """A checkpoint of PyTorch or MXNet to ours, or ours to PyTorch's."""
    source, target = Path(arguments.source), Path(arguments.target)
    _check_target(target)
    if target.exists() and not arguments.force:
        raise FileExistsError(f"{target} exists; give --force to overwrite it.")
    if source.suffix == ".safetensors" and is_saved(read_metadata(source)):
        return _convert_ours(source, target, arguments)
    if target.suffix != ".safetensors":
        raise ValueError(
            f"{target}: expected .safetensors, which is what aff_jax.load reads. To write for "
            f"PyTorch, give a file of aff_jax.save as the source."
        )
    if arguments.model is None:
        raise ValueError(f"expected --model: {source} does not say which network it is.")
    arrays = read_weights(source)
    from_mxnet = source.suffix == ".params"
    if arguments.reference is None:
        arguments.reference = "mxnet" if from_mxnet else "pytorch"
    if arguments.num_classes is None:
        arguments.num_classes = _classes_in(arrays, _create(arguments), from_mxnet)
    model = _create(arguments)
    read = aff_jax.convert.from_mxnet if from_mxnet else aff_jax.convert.from_torch
    variables = read(arrays, model)
    aff_jax.save(target, variables, model, overwrite=arguments.force)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"{source} -> {target}: {arguments.model}, {count:,} parameters")
    print(f"reference {arguments.reference}, {_fusion_of(model)}")
    unread = variables.get(UNREAD, {})
    if unread:
        print(f"kept, though the network never reads it ({len(unread)} arrays):")
        print("\n".join(f"  {name}" for name in unread))
    return 0


def _convert_ours(source: Path, target: Path, arguments: argparse.Namespace) -> int:
    if arguments.model is not None:
        raise ValueError(f"{source} says itself which network it is: leave --model out.")
    model, variables = aff_jax.load(source)
    arrays = aff_jax.convert.to_torch(variables, model)
    if target.suffix in (".pth", ".pt"):
        write_torch(target, arrays, overwrite=arguments.force)
    elif target.suffix == ".safetensors":
        write_safetensors(target, arrays, overwrite=arguments.force)
    else:
        raise ValueError(f"{target}: expected .pth, .pt or .safetensors to write for PyTorch.")
    print(f"{source} -> {target}: {len(arrays)} arrays for PyTorch")
    theirs = REFERENCES["pytorch"].get(getattr(model, "fusion", ""), {})
    ours = getattr(model, "fusion_fields", {})
    differing = {name: value for name, value in theirs.items() if ours.get(name) != value}
    if differing:
        print(
            f"note: this network has {_fusion_of(model)}; open-aff's PyTorch code computes with "
            f"{differing} and will give other numbers from the same weights."
        )
    return 0


def _fusion_of(model: nn.Module) -> str:
    """Its fusion and the fields of it that are not the paper's."""
    fields = dict(getattr(model, "fusion_fields", {}))
    return f"fusion {getattr(model, 'fusion', None)}" + (f" with {fields}" if fields else "")


def _check_target(target: Path) -> None:
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: there is no directory {target.parent}.")


def compare(arguments: argparse.Namespace) -> int:
    """A PyTorch network and ours, activation by activation."""
    for file in (arguments.json, arguments.html):
        if file:
            _check_target(Path(file))
    arguments.reference = arguments.reference or "pytorch"
    torch_module = _make_torch_module(arguments.torch, arguments.checkpoint)
    if arguments.num_classes is None:
        state = unwrap_state_dict(torch_module.state_dict(), arguments.torch)
        arguments.num_classes = _classes_in(state, _create(arguments), from_mxnet=False)
    size = arguments.input_size
    rng = np.random.RandomState(arguments.seed)
    images = rng.standard_normal((arguments.batch, size, size, 3)).astype(np.float32)
    outcome = parity.compare(
        torch_module,
        _create(arguments),
        None,
        images,
        float64=arguments.float64,
        tolerance=arguments.tolerance,
    )
    print(parity_report.to_text(outcome))
    title = f"{arguments.torch} and {arguments.model}"
    if arguments.json:
        Path(arguments.json).write_text(parity_report.to_json(outcome))
    if arguments.html:
        Path(arguments.html).write_text(parity_report.to_html(outcome, title))
    return 0 if outcome.equal else 1


def summary(arguments: argparse.Namespace) -> int:
    """Every layer of a host with its parameters and output, by linen's tabulate."""
    size = arguments.input_size
    images = jnp.zeros((1, size, size, 3))
    # Linen would fold the table into 80 columns and colour it, also where it goes to a file.
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    console = {"force_terminal": terminal, "width": width}
    model = _create(arguments)
    key = jax.random.key(0)
    print(model.tabulate(key, images, depth=arguments.depth, console_kwargs=console))
    return 0


def _create(arguments: argparse.Namespace, name: str | None = None) -> nn.Module:
    fields = dict(_field(text) for text in arguments.field)
    return aff_jax.create_model(
        name or arguments.model,
        fusion=arguments.fusion,
        reference=arguments.reference or "paper",
        num_classes=arguments.num_classes or 1000,
        **fields,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if equals:
            return name, value
        raise ValueError(f"expected --field NAME=VALUE, got {text!r}.") from None


def _classes_in(arrays: dict[str, Any], model: nn.Module, from_mxnet: bool) -> int:
    """How many classes a checkpoint's head has; 1000 where it has none by that name."""
    framework = MXNET if from_mxnet else PYTORCH
    alone = Structure({(): Layer(model, 2)}, {})  # the head's name needs no more
    head = f"{framework.name_of(('head',), alone)}.weight"
    return int(arrays[head].shape[0]) if head in arrays else 1000


def _make_torch_module(text: str, checkpoint: str | None) -> Any:
    """What the callable makes, with the weights of the checkpoint."""
    import torch

    make = _load_callable(text)
    try:
        module = make()
    except Exception as error:  # it is the user's code
        raise ValueError(f"{text} raised {type(error).__name__}: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"{text}: expected a torch.nn.Module, got a {type(module).__name__}.")
    if checkpoint:
        arrays = read_weights(checkpoint)
        narrow = {k: v.astype(np.float32) if v.dtype.kind == "V" else v for k, v in arrays.items()}
        try:
            module.load_state_dict({k: torch.from_numpy(v) for k, v in narrow.items()})
        except RuntimeError as error:
            raise ValueError(f"{checkpoint} does not fit {text}: {error}") from error
    return module


def _load_callable(text: str) -> Any:
    """The callable of "file.py:name"."""
    file, _, name = text.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file) if file else None
    if spec is None or spec.loader is None or not Path(file).exists():
        raise ValueError(
            f"expected FILE.py:CALLABLE, a file and a function or class in it that makes the "
            f"PyTorch module, got {text!r}."
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # it is the user's code
        raise ValueError(f"{file} raised {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"{file} has no {name!r}.")
    return getattr(module, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aff-jax", description=__doc__)
    parser.add_argument("--version", action="version", version=aff_jax.__version__)
    commands = parser.add_subparsers(title="commands", required=True)

    network = argparse.ArgumentParser(add_help=False)
    network.add_argument("--fusion", default="aff", help="a name of aff_jax.list_fusions()")
    network.add_argument(
        "--reference", help="paper, pytorch or mxnet; default: that of the weights, else paper"
    )
    network.add_argument(
        "--num-classes", type=_positive, help="default: as in the checkpoint, or 1000"
    )
    network.add_argument(
        "--field", action="append", default=[], metavar="NAME=VALUE", help="another of the host"
    )

    command = commands.add_parser("models", parents=[network], help=models.__doc__)
    command.add_argument("--filter", default="*", help="a pattern such as 'cifar_*'")
    command.add_argument("--input-size", type=_positive, default=224, help="height and width")
    command.set_defaults(run=models)

    command = commands.add_parser("convert", parents=[network], help=convert.__doc__)
    command.add_argument("source", help=".pth, .pt, .safetensors, .params; or a file of ours")
    command.add_argument("target", help=".safetensors; from a file of ours also .pth, .pt")
    command.add_argument("--model", help="a name of aff_jax.list_models()")
    command.add_argument("--force", action="store_true", help="overwrite the target")
    command.set_defaults(run=convert)

    command = commands.add_parser("compare", parents=[network], help=compare.__doc__)
    command.add_argument("torch", metavar="FILE.py:CALLABLE", help="makes the PyTorch module")
    command.add_argument("--model", required=True, help="a name of aff_jax.list_models()")
    command.add_argument("--checkpoint", help="state dict for the PyTorch module")
    command.add_argument("--input-size", type=_positive, default=64, help="height and width")
    command.add_argument("--batch", type=_positive, default=2, help="number of random images")
    command.add_argument("--seed", type=int, default=0, help="of the random images")
    command.add_argument("--float64", action="store_true", help="both in double precision")
    command.add_argument("--tolerance", type=float, help="relative to each layer's largest value")
    command.add_argument("--json", metavar="FILE", help="write the rows there")
    command.add_argument("--html", metavar="FILE", help="write a page with a plot there")
    command.set_defaults(run=compare)

    command = commands.add_parser("summary", parents=[network], help=summary.__doc__)
    command.add_argument("model", help="a name of aff_jax.list_models()")
    command.add_argument("--input-size", type=_positive, default=224, help="height and width")
    command.add_argument("--depth", type=int, help="how deep to look into submodules")
    command.set_defaults(run=summary)
    return parser
