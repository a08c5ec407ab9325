"""Write the table of errors in ``docs/errors.md`` from ``loom_py.errors``.

``python scripts/errors_table.py`` rewrites the part of the page between its two marks. The tests
hold the committed page to what this script would write.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from loom_py import errors
from loom_py.errors import LoomError

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"
BEGIN = "<!-- errors table: begin; written by scripts/errors_table.py -->"
END = "<!-- errors table: end -->"
HEAD = "| Class | Code | HTTP | gRPC | Retryable | Meaning | Default hint |\n|---|---|---|---|---|---|---|"


def tree(root: type[LoomError] = LoomError, depth: int = 0) -> list[tuple[int, type[LoomError]]]:
    """Every public error class with its depth in the tree, parents before children."""
    order = list(vars(errors))
    children = [kind for kind in root.__subclasses__() if kind.__name__ in errors.__all__]
    children.sort(key=lambda kind: order.index(kind.__name__))
    rows = [(depth, root)]
    for kind in children:
        rows += tree(kind, depth + 1)
    return rows


def table() -> str:
    """The table, one class a row, in Markdown."""
    return "\n".join([HEAD, *(_row(depth, kind) for depth, kind in tree())])


def page(text: str) -> str:
    """``text``, the page, with its table as it should be."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _row(depth: int, kind: type[LoomError]) -> str:
    indent = "&nbsp;&nbsp;" * depth
    cells = (
        f"{indent}`{kind.__name__}`",
        f"`{kind.code}`",
        str(kind.http_status or "–"),
        kind.grpc_code,
        "yes" if kind.retryable else "no",
        _meaning(kind),
        kind.default_hint or "–",
    )
    return f"| {' | '.join(cells)} |"


def _meaning(kind: type[LoomError]) -> str:
    """The first paragraph of the docstring, with Markdown's marks for code."""
    first = inspect.getdoc(kind).partition("\n\n")[0]  # type: ignore[union-attr]
    return " ".join(first.split()).replace("``", "`").replace("|", "\\|")


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
