"""The README and the guides, and the commands and Python code in them."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PATHS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
DOCUMENTS = {str(path.relative_to(ROOT)): path.read_text() for path in PATHS}
"""Text by path. The pages of the API reference are not here: they have only directives."""

FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n+)+")
PROGRAMS = ("make", "python3", ".venv/bin/")
"""The first words of commands."""


def blocks(text):
    """Return (language, code) of each block. Indented commands have the language "sh"."""
    found = []
    for fence in FENCE.finditer(text):
        found.append((fence.start(), fence[2], textwrap.dedent(fence[3])))
    # Replace each fenced block by text of the same length, so that positions stay the same.
    rest = FENCE.sub(lambda fence: re.sub(r"[^\n]", "-", fence[0]), text)
    for block in INDENTED.finditer(rest):
        code = textwrap.dedent(block[0]).strip() + "\n"
        found.append((block.start(), "sh" if code.startswith(PROGRAMS) else "", code))
    return [(language, code) for _, language, code in sorted(found)]


def commands(text):
    """Return every shell command; lines that end in a backslash are joined with the next."""
    code = "".join(code for language, code in blocks(text) if language == "sh")
    return [" ".join(line.split()) for line in code.replace("\\\n", " ").splitlines() if line]


def python(text):
    """Return every block of Python in its order."""
    return [code for language, code in blocks(text) if language == "python"]
