"""Who may import whom. Imports inside functions and for the type checker count as well."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "altreco_client": frozenset(),
    "examples": frozenset({"altreco_client"}),
    "measure": frozenset({"altreco_client"}),
    "backfill": frozenset({"altreco_client", "measure"}),
    "training": frozenset({"altreco_client", "measure"}),
    "deploy": frozenset({"altreco_client", "measure"}),
    "export": frozenset({"altreco_client", "measure", "training", "deploy"}),
    "loadtest": frozenset({"altreco_client", "measure", "deploy"}),
    "benchmark": frozenset({"altreco_client", "measure", "training", "export", "deploy", "backfill"}),
    "reliability": frozenset({"altreco_client", "measure", "training", "export", "deploy", "loadtest"}),
    "demo": frozenset(
        {"altreco_client", "measure", "training", "export", "deploy", "loadtest", "benchmark", "reliability"}
    ),
    "tests": frozenset(
        {
            *("altreco_client", "measure", "training", "export", "deploy"),
            *("backfill", "loadtest", "benchmark", "reliability", "demo"),
        }
    ),
}
"""Each top-level package and the other ones that it may import."""

SOURCES = {"altreco_client": Path("client/src/altreco_client"), "examples": Path("client/examples")}
"""Packages that are not folders of the root."""

NOT_PACKAGES = {"build", "client"}
"""Folders of the root that hold no package of their own name."""


@dataclass(frozen=True)
class Import:
    """One imported module, dotted, where the importing file says so."""

    importer: str
    target: str
    where: str
    """FILE:LINE, the file from the root."""

    @property
    def arrow(self) -> tuple[str, str]:
        """The packages: who imports, and what."""
        return self.importer.partition(".")[0], self.target.partition(".")[0]


def packages(root: Path) -> dict[str, Path]:
    """The folder of each top-level package that has Python files."""
    folders = {
        path.name: path
        for path in root.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in NOT_PACKAGES
    }
    folders |= {name: root / path for name, path in SOURCES.items()}
    return {name: folder for name, folder in folders.items() if any(folder.rglob("*.py"))}


def modules(root: Path) -> dict[str, Path]:
    """The file of each module by its dotted name; a package's own file is its `__init__.py`."""
    return {
        ".".join((name, *(part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__"))): path
        for name, folder in packages(root).items()
        for path in folder.rglob("*.py")
    }


@cache
def imports(root: Path) -> list[Import]:
    """All imports of one of the tree's modules by another one."""
    known = modules(root)
    return [
        Import(name, target, f"{path.relative_to(root)}:{line}")
        for name, path in sorted(known.items())
        for line, imported in _statements(name, path)
        if (target := _module(imported, known)) not in (None, name)
    ]


def _statements(name: str, path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that the file imports, relative imports resolved."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def _module(imported: str, known: Mapping[str, Path]) -> str | None:
    """The module that holds what is imported: the name itself, or what stands before its last dots."""
    while imported and imported not in known:
        imported = imported.rpartition(".")[0]
    return imported or None


def forbidden(root: Path, may_import: Mapping[str, frozenset[str]]) -> list[Import]:
    """Imports from one package to another that the table does not have."""
    return [
        found
        for found in imports(root)
        if found.arrow[0] != found.arrow[1] and found.arrow[1] not in may_import.get(found.arrow[0], frozenset())
    ]


def message(found: Import, may_import: Mapping[str, frozenset[str]]) -> str:
    """Where it is, what is wrong and what to do."""
    importer, target = found.arrow
    allowed = ", ".join(sorted(may_import.get(importer, frozenset()))) or "nothing of this repository"
    return (
        f"{found.where}: {importer} imports {found.target}, but may import only: {allowed}. Pass it in as an argument, "
        f"move it to a package that {importer} may import, or move what imports it up to one that may import {target}"
    )


def circles(root: Path) -> list[list[str]]:
    """Modules that import each other, each circle as `[a, b, a]`: a imports b, b imports a."""
    graph: dict[str, set[str]] = {}
    for found in imports(root):
        graph.setdefault(found.importer, set()).add(found.target)
    circles = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = error.args[1][::-1]
            circles.append(circle)
            graph[circle[0]].discard(circle[1])
        else:
            return circles


def test_every_package_is_in_the_table() -> None:
    there = packages(ROOT).keys()
    assert {"altreco_client", "examples", "training", "tests"} <= there
    missing = sorted(there - MAY_IMPORT.keys())
    assert not missing, f"{', '.join(missing)}: say in MAY_IMPORT of {Path(__file__).name} what each may import"


def test_packages_import_only_what_the_table_allows() -> None:
    found = forbidden(ROOT, MAY_IMPORT)
    assert not found, "\n".join(message(one, MAY_IMPORT) for one in found)


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = circles(ROOT)
    assert not found, "\n".join(
        f"{' imports '.join(circle)}: move what they share to a module that imports neither" for circle in found
    )


def test_transformers_is_imported_where_a_network_is_made() -> None:
    """It takes three seconds, which a command that prints its help, a plan or an error does not need."""
    at_once = [
        name
        for name, path in modules(ROOT).items()
        if not name.startswith("tests.")
        for node in ast.parse(path.read_text()).body
        if re.match(r"(from|import) transformers\b", ast.unparse(node))
    ]
    assert at_once == []


def test_the_table_itself_has_no_circle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    "statement",
    [
        "import upper.tools",
        "from upper import tools",
        "from upper.tools import number",
        "def late():\n    from upper.tools import number",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from upper.tools import number",
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, statement: str) -> None:
    table = {"lower": frozenset[str](), "upper": frozenset({"lower"})}
    root = tree(tmp_path, {"upper/tools.py": "import lower.part", "lower/part.py": statement})
    (found,) = forbidden(root, table)
    line = 1 + statement.count("\n")
    assert found == Import("lower.part", "upper.tools", f"lower/part.py:{line}")
    said = message(found, table)
    assert said.startswith(f"lower/part.py:{line}: lower imports upper.tools, but may import only: nothing of this")


def test_the_client_and_its_examples_are_read(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "client/src/altreco_client/aio.py": "import training",
            "client/examples/service/app.py": "import altreco_client.aio\nfrom export import release",
            "training/__init__.py": "",
            "export/__init__.py": "release = 1",
        },
    )
    assert [found.where for found in forbidden(root, MAY_IMPORT)] == [
        "client/src/altreco_client/aio.py:1",
        "client/examples/service/app.py:2",
    ]


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        ({"a.py": "from . import b", "b.py": "from .c import f", "c.py": "def g():\n    from p.a import f"}, "abc"),
        ({"a.py": "if TYPE_CHECKING:\n    from .b import f", "b.py": "import p.a"}, "ab"),
        ({"__init__.py": "from .a import f", "a.py": "from p import g"}, ["p", "p.a"]),
        ({"a.py": "from .sub import f", "sub/__init__.py": "from ..a import g"}, ["p.a", "p.sub"]),
    ],
)
def test_a_circle_is_found(tmp_path: Path, files: Mapping[str, str], circle: str | list[str]) -> None:
    root = tree(tmp_path, {f"p/{name}": text for name, text in files.items()})
    (found,) = circles(root)
    assert found[0] == found[-1]
    assert {*found} == ({f"p.{name}" for name in circle} if isinstance(circle, str) else {*circle})


def test_every_circle_is_found_and_nothing_else(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "p/__init__.py": "from .a import f",
            "p/a.py": "from . import b",
            "p/b.py": "import p.a\nimport json",
            "p/c.py": "from p.d import f",
            "p/d.py": "from .c import f",
            "p/e.py": "from p import a, c",
        },
    )
    assert {frozenset(circle) for circle in circles(root)} == {frozenset({"p.a", "p.b"}), frozenset({"p.c", "p.d"})}


def test_a_package_outside_the_table_is_found(tmp_path: Path) -> None:
    root = tree(tmp_path, {"training/loop.py": "", "novelty/deep/thing.py": "", "docs/notes.md": "", ".venv/x.py": ""})
    assert packages(root).keys() - MAY_IMPORT.keys() == {"novelty"}
