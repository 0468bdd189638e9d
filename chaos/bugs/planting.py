"""Plant a bug: have this process, and no other, run the product as if its source read otherwise.

Modules are compiled from the edited text when the product first imports them, in its own order. An edit whose text is
not found exactly once is refused beforehand, so no bug ever turns silently into the product itself.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from types import CodeType, ModuleType

from onceloop.errors import ReportedError


class StaleBugError(ReportedError):
    """The product no longer reads as the bug expects: it would be planted wrongly, or not at all."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In `module` the text `old`, which stands there once, becomes `new`."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """`wrong`: what it does; `rule`: which rule of the books must see it; `statements`: what it does to the schema."""

    name: str
    wrong: str
    rule: str
    edits: tuple[Edit, ...]
    statements: tuple[str, ...] = ()


def edited(source: str, edits: Sequence[Edit]) -> str:
    """Return a module's text with the edits done. Raises StaleBugError if one does not fit exactly once."""
    for edit in edits:
        if (found := source.count(edit.old)) != 1:
            raise StaleBugError(
                f"{edit.module} has {found} places that read {edit.old.strip()!r}, instead of one",
                cure="rewrite the edit in chaos/bugs/planted.py, so that it makes the same mistake",
            )
        source = source.replace(edit.old, edit.new)
    return source


def plant(bug: Bug) -> None:
    """Have this process run the product with the bug in it.

    The modules are left to the product to import: what they import in turn may be early before its main has begun.
    Raises StaleBugError if the product has changed under an edit, or if a module was loaded before.
    """
    edits: dict[str, list[Edit]] = {}
    for edit in bug.edits:
        edits.setdefault(edit.module, []).append(edit)
    if early := sorted(edits.keys() & sys.modules.keys()):
        raise StaleBugError(f"{', '.join(early)} was loaded before the bug was planted", cure="plant it earlier")
    sys.meta_path.insert(0, _Finder(edits))
    for module in edits:
        spec = find_spec(module)
        if spec is None or not isinstance(spec.loader, _Loader):
            raise StaleBugError(f"there is no module {module}", cure="name the one that holds the text now")
        spec.loader.get_code(module)


class _Finder(MetaPathFinder):
    """Finds the modules that are edited; all others are left to the usual ways."""

    def __init__(self, edits: Mapping[str, Sequence[Edit]]) -> None:
        self._edits = edits

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where the module stands, to be loaded with its edits."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in self._edits else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, self._edits[fullname])
        return spec


class _Loader(SourceFileLoader):
    """Loads a module from its edited text; compiled code that lies beside it is neither read nor written."""

    def __init__(self, fullname: str, path: str, edits: Sequence[Edit]) -> None:
        super().__init__(fullname, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType:
        """Compile the edited text."""
        path = self.get_filename(fullname)
        return compile(edited(self.get_data(path).decode(), self._edits), path, "exec", dont_inherit=True)
