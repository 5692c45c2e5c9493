"""Check the pickle of a PyTorch file without running it, and rewrite it in protocol 2.

`torch.load(weights_only=True)` reads the opcodes of protocol 2. `torch.save(pickle_protocol=4)`
writes others for the same content.
"""

import pickle
import pickletools
import re
import struct
from collections import deque
from collections.abc import Sequence
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
    start = stream.tell()
    opcodes = _read_opcodes(stream)
    limit = _GROWTH * max(stream.tell() - start, 1000)
    names, content = _rewrite(opcodes, limit)
    wrong = _find_wrong_storage(opcodes, size, after)
    if wrong and not list_code(names):  # whole models have other references; they contain code
        raise ValueError(wrong)
    protocols = [opcode.argument for opcode in opcodes if opcode.name == "PROTO"]
    return CheckedPickle(names, content, max(protocols, default=0) > 2)


def list_code(names: dict[str, str]) -> list[str]:
    """Return the names that a plain checkpoint does not mention, in alphabetical order.

    Args:
        names: Names that a pickle mentions, as in `CheckedPickle`.

    Returns:
        The other names, sorted.
    """
    return sorted(name for name in names if not _PLAIN.fullmatch(name))


class _Opcode(NamedTuple):
    """An opcode of a pickle.

    Attributes:
        name: Its name in `pickletools`.
        argument: Its argument, None without one.
        position: Its position in the stream.
        raw: Its bytes, with the argument.
    """

    name: str
    argument: Any
    position: int
    raw: bytes


def _read_opcodes(stream: Any) -> list[_Opcode]:
    """Read the opcodes up to the end of the pickle, without those of frames."""
    start = stream.tell()
    found: list[tuple[str, Any, Any]] = [
        (opcode.name, argument, at) for opcode, argument, at in pickletools.genops(stream)
    ]
    end = stream.tell()
    stream.seek(start)
    content = stream.read(end - start)
    stops = [*(at for _, _, at in found[1:]), end]
    return [
        _Opcode(name, argument, at, content[at - start : stop - start])
        for (name, argument, at), stop in zip(found, stops, strict=True)
        if name != "FRAME"
    ]


def _find_wrong_storage(opcodes: Sequence[_Opcode], size: int, after: list[str]) -> str:
    """Describe the first storage that is larger than the file or has no known size, if any."""
    recent: deque[_Opcode] = deque(maxlen=3)
    for opcode in opcodes:
        if "PERSID" in opcode.name:
            last = list(recent)[-1 - len(after) :]
            is_known = bool(last) and last[0].name in _INTEGERS
            if not is_known or [other.name for other in last[1:]] != after:
                return f"the storage at byte {opcode.position} of a pickle has no known size"
            if not 0 <= last[0].argument <= size:
                return f"a storage of {last[0].argument} elements is larger than the file"
        if opcode.name not in _PUTS:
            recent.append(opcode)
    return ""


def _rewrite(opcodes: Sequence[_Opcode], limit: int) -> tuple[dict[str, str], bytes]:
    """Return the names that a pickle mentions, as in `CheckedPickle`, and the pickle in protocol 2.

    Protocol 2 has a name as text, not as two strings of the stack. These may come from the memo,
    so the memo of strings is resolved here.

    Raises:
        ValueError: If a name is not two strings, or the result is longer than `limit`.
    """
    names: dict[str, str] = {}
    pushes: list[tuple[bytes, str | None]] = []  # the new opcodes, and the strings among them
    memo: dict[int, str | None] = {}
    written = 0
    for name, argument, position, raw in opcodes:
        if name in _PUTS:  # leaves the stack as it is
            slot = len(memo) if name == "MEMOIZE" else int(argument)
            memo[slot] = pushes[-1][1] if pushes else None
            if memo[slot] is None:
                pushes.append((_put(slot), None))
            continue
        string = None
        new = _translate(name, argument, raw)
        if _STRINGS.fullmatch(name):
            string = str(argument)
        elif name in _GETS:
            string = memo.get(int(argument))
        elif name in ("GLOBAL", "INST"):
            names.setdefault(str(argument).replace(" ", "."), _last_string(pushes))
        elif name == "STACK_GLOBAL":
            parts = _pop_name(pushes, position)
            names.setdefault(".".join(parts), _last_string(pushes))
            new = pickle.GLOBAL + "".join(f"{part}\n" for part in parts).encode()
        if string is not None:
            new = _string(string)
        pushes.append((new, string))
        written += len(new)
        if written > limit:
            raise ValueError("a pickle repeats a long string too often")
    return names, b"".join(new for new, _ in pushes)


def _translate(name: str, argument: Any, raw: bytes) -> bytes:
    """Return the bytes of an opcode in protocol 2. The caller replaces names and strings."""
    if name == "PROTO":
        return pickle.PROTO + b"\2"
    if _BYTES.fullmatch(name):
        return _encoded_bytes(argument)
    return _SETS.get(name, raw)


def _pop_name(pushes: list[tuple[bytes, str | None]], position: int) -> list[str]:
    """Remove the two strings of a name from the stack and return them."""
    popped = [pushes.pop()[1] for _ in range(min(2, len(pushes)))][::-1]
    parts = [part for part in popped if part and "\n" not in part]
    if len(parts) < 2:
        raise ValueError(f"the name at byte {position} of a pickle is not two strings")
    return parts


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
