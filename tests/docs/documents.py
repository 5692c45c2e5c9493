"""The README and the guides, taken apart into what a reader would run."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PATHS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
DOCUMENTS = {str(path.relative_to(ROOT)): path.read_text() for path in PATHS}
"""Text by path; pages of the reference hold directives only."""

FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n+)+")
PROGRAMS = ("make", "python3", ".venv/bin/")
"""What a line begins with that is a command."""


def blocks(text):
    """(language, code) of every block; indented ones have "sh" or, where none is begun, "" ."""
    found = []
    for fence in FENCE.finditer(text):
        found.append((fence.start(), fence[2], textwrap.dedent(fence[3])))
    # As many lines as before, so that the order is kept.
    rest = FENCE.sub(lambda fence: re.sub(r"[^\n]", "-", fence[0]), text)
    for block in INDENTED.finditer(rest):
        code = textwrap.dedent(block[0]).strip() + "\n"
        found.append((block.start(), "sh" if code.startswith(PROGRAMS) else "", code))
    return [(language, code) for _, language, code in sorted(found)]


def commands(text):
    """Every command of a shell, with lines that end in a backslash joined."""
    code = "".join(code for language, code in blocks(text) if language == "sh")
    return [" ".join(line.split()) for line in code.replace("\\\n", " ").splitlines() if line]


def python(text):
    """Every piece of Python, in its order."""
    return [code for language, code in blocks(text) if language == "python"]
