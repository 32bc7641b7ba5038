"""Holds files and functions to a size that can be read at one sitting. Run by ``make check``."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LIMIT = 320
FUNCTION_LIMIT = 45
ROOT = Path(__file__).parent.parent / "cache_proxy"


def oversize(path: Path) -> Iterator[str]:
    """What in this file is too long."""
    text = path.read_text()
    lines = text.count("\n")
    if lines > FILE_LIMIT:
        yield f"{path}: {lines} lines, more than {FILE_LIMIT}: does it hold two things?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LIMIT:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, more than {FUNCTION_LIMIT}"


def main() -> int:
    """Print what is too long; 1 if anything is."""
    found = [line for path in sorted(ROOT.rglob("*.py")) for line in oversize(path)]
    print("\n".join(found) or "sizes: fine")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
