"""Check the pickle of a PyTorch file without running it, and rewrite it in protocol 2.

`torch.load(weights_only=True)` reads the opcodes of protocol 2. `torch.save(pickle_protocol=4)`
writes others for the same content.
"""

import pickle
import pickletools
import re
import struct
from collections import deque
from typing import Any, NamedTuple

__all__ = ["CheckedPickle", "check_pickle", "list_code"]

_PLAIN = re.compile(
    r"collections\.(OrderedDict|Counter)|(builtins|__builtin__)\.(set|complex|bytearray)"
    r"|_codecs\.encode|torch(\.cuda|\.storage)?\.\w+Storage|torch\.(Size|device|bool|[a-z]+\d+\w*)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.Parameter"
    r"|numpy\.(dtype|ndarray)|numpy\.(core|_core)\.multiarray\.(scalar|_reconstruct)"
    r"|numpy\.(core|_core)\.numeric\._frombuffer"
    r"|argparse\.Namespace|types\.SimpleNamespace|collections\.(defaultdict|deque)"
    r"|(builtins|__builtin__)\.(list|dict|tuple|int|long|float|str|unicode|bool|bytes)"
    r"|pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path|datetime\.(date|time|datetime|timedelta|timezone)"
    r"|torch\.torch_version\.TorchVersion"
)
"""Names that the pickle of a training checkpoint may mention. PyTorch has its own list as well."""

_INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
"""Opcodes that push an integer. Pickles do not memoize integers."""

_STRINGS = re.compile(r"(SHORT_|BIN|SHORT_BIN)?(UNICODE|STRING)8?")
_BYTES = re.compile(r"(SHORT_)?BINBYTES8?|BYTEARRAY8")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_SETS = {"EMPTY_SET": pickle.EMPTY_LIST, "ADDITEMS": pickle.APPENDS, "FROZENSET": pickle.TUPLE}
"""Opcodes of sets, and the opcodes of lists and tuples that replace them."""

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")

_GROWTH = 16
"""Limit of the size of a rewritten pickle, as a multiple of the original: it repeats strings."""


class CheckedPickle(NamedTuple):
    """A pickle that was checked.

    Attributes:
        names: The names of classes and functions that it mentions, and for each the last string
            before it, which is usually the key of the entry.
        content: The same pickle in protocol 2.
        is_rewritten: Whether the original has a later protocol.
    """

    names: dict[str, str]
    content: bytes
    is_rewritten: bool


def check_pickle(stream: Any, size: int, after: list[str]) -> CheckedPickle:
    """Check a pickle.

    A reference to a storage is a tuple (..., elements) or, in old files, (..., elements, None).
    The opcodes `after` end it. The file must have at least one byte per element.

    Args:
        stream: Stream of bytes at the start of the pickle. Afterwards it is at the end.
        size: Size of the file.
        after: Names of the opcodes after the number of elements.

    Returns:
        The pickle in protocol 2, and the names that it mentions.

    Raises:
        ValueError: If a storage is larger than the file, or the pickle has no known structure.
    """
    names: dict[str, str] = {}
    wrong = ""
    protocol = 0
    recent: deque[tuple[str, Any]] = deque(maxlen=3)
    pushes: list[tuple[bytes, str | None]] = []  # the new opcodes, and the strings among them
    memo: dict[int, str | None] = {}
    written = 0
    start = stream.tell()
    opcodes: list[tuple[Any, Any, Any]] = list(pickletools.genops(stream))
    end = stream.tell()
    stream.seek(start)
    content = stream.read(end - start)
    for index, (opcode, argument, position) in enumerate(opcodes):
        stop = opcodes[index + 1][2] if index + 1 < len(opcodes) else end
        raw = content[position - start : stop - start]
        name = opcode.name
        if name == "FRAME":
            continue
        if name == "PROTO":
            protocol = max(protocol, argument)
            raw = pickle.PROTO + b"\2"
        string = None
        if name in _PUTS:  # leaves the stack as it is
            slot = len(memo) if name == "MEMOIZE" else int(argument)
            memo[slot] = pushes[-1][1] if pushes else None
            if memo[slot] is None:
                pushes.append((_put(slot), None))
            continue
        if _STRINGS.fullmatch(name):
            string = str(argument)
        elif name in _GETS:
            string = memo.get(int(argument))
        elif name in ("GLOBAL", "INST"):
            names.setdefault(str(argument).replace(" ", "."), _last_string(pushes))
        elif name == "STACK_GLOBAL":
            parts = [pushes.pop()[1] for _ in range(min(2, len(pushes)))][::-1]
            if len(parts) < 2 or not all(part and "\n" not in part for part in parts):
                raise ValueError(f"the name at byte {position} of a pickle is not two strings")
            names.setdefault(".".join(map(str, parts)), _last_string(pushes))
            raw = pickle.GLOBAL + "".join(f"{part}\n" for part in parts).encode()
        elif _BYTES.fullmatch(name):
            raw = _encoded_bytes(argument)
        elif name in _SETS:
            raw = _SETS[name]
        elif "PERSID" in name:
            (kind, elements), *rest = list(recent)[-1 - len(after) :] or [("", None)]
            if kind not in _INTEGERS or [name for name, _ in rest] != after:
                wrong = wrong or f"the storage at byte {position} of a pickle has no known size"
            elif not 0 <= elements <= size:
                wrong = wrong or f"a storage of {elements} elements is larger than the file"
        recent.append((name, argument))
        if string is not None:
            raw = _string(string)
        pushes.append((raw, string))
        written += len(raw)
        if written > _GROWTH * max(len(content), 1000):
            raise ValueError("a pickle repeats a long string too often")
    if wrong and not list_code(names):  # whole models have other references; they contain code
        raise ValueError(wrong)
    return CheckedPickle(names, b"".join(raw for raw, _ in pushes), protocol > 2)


def list_code(names: dict[str, str]) -> list[str]:
    """Return the names that a plain checkpoint does not mention, in alphabetical order.

    Args:
        names: Names that a pickle mentions, as in `CheckedPickle`.

    Returns:
        The other names, sorted.
    """
    return sorted(name for name in names if not _PLAIN.fullmatch(name))


def _last_string(pushes: list[tuple[bytes, str | None]]) -> str:
    """Return the last string that was pushed, or an empty string."""
    return next((string for _, string in reversed(pushes) if string is not None), "")


def _put(slot: int) -> bytes:
    if slot < 256:
        return pickle.BINPUT + bytes([slot])
    return pickle.LONG_BINPUT + struct.pack("<I", slot)


def _string(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _encoded_bytes(content: bytes | bytearray) -> bytes:
    """Return the call by which protocol 2 stores bytes."""
    text = _string(content.decode("latin-1"))
    return b"c_codecs\nencode\n" + text + _string("latin1") + pickle.TUPLE2 + pickle.REDUCE
