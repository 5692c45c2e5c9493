"""Output to a terminal or a pipe that is gone."""

import io
import os

from rich.console import Console

from train.runtime.disconnect_tolerant_output import DisconnectTolerantOutput


def test_output_after_its_reader_is_gone_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as stream:
        console = Console(file=DisconnectTolerantOutput(stream))
        console.print("lost")
        console.print("lost too")
        assert os.readlink(f"/proc/self/fd/{writer}") == os.devnull


def test_characters_that_cannot_be_encoded_become_escapes():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    output = DisconnectTolerantOutput(stream)
    assert output.write(os.fsdecode(b"caf\xe9 \xc3\xa9\n")) == 7
    output.flush()
    assert stream.buffer.getvalue() == b"caf\\udce9 \\xe9\n"
    assert not output.isatty()
