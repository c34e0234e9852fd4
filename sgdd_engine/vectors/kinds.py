"""The kinds of sources by entry points, those of sgdd itself and of other packages alike. None is imported here."""

import functools
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.plugins import BrokenPlugin, load_plugin

if TYPE_CHECKING:
    from sgdd_engine.vectors.source import VectorSource

GROUP = "sgdd.vectors"
"""Entry-point group of kinds of sources: a name → a module with `matches` and `open`."""


@dataclass(frozen=True)
class VectorKind:
    """A kind of source that is installed, not imported yet.

    Attributes:
        name: As in the prefix `name:where`.
        entry_point: The module or object.
        package: The distribution that brings it.
        version: Of that distribution.
    """

    name: str
    entry_point: EntryPoint
    package: str
    version: str

    def load(self) -> "VectorSource":
        """Import it.

        Raises:
            VectorSourceError: it cannot be imported, or lacks one of the two functions.
        """
        from sgdd_engine.vectors.source import VectorSource  # noqa: PLC0415 - loads numpy

        try:
            found = load_plugin(self.entry_point)
            if not isinstance(found, VectorSource):
                raise BrokenPlugin(f"{self.entry_point.value} lacks `matches` or `open`")
        except BrokenPlugin as error:  # a broken package must not break the others
            raise VectorSourceError(
                f"The vector source `{self.name}` of {self.package} is broken: {error}",
                error.hint or f"Everything else works without it; to remove it: pip uninstall {self.package}",
            ) from error
        return found


@functools.cache
def vector_kinds() -> tuple[VectorKind, ...]:
    """The kinds that are installed: sgdd's own, then those of other packages, each by name."""
    found: dict[str, VectorKind] = {}
    kinds = [
        VectorKind(point.name, point, point.dist.name, point.dist.version)
        if point.dist is not None
        else VectorKind(point.name, point, "an unknown package", "")
        for point in entry_points(group=GROUP)
    ]
    for kind in sorted(kinds, key=lambda kind: (kind.package != "sgdd", kind.name, kind.package)):
        found.setdefault(kind.name, kind)
    return tuple(found.values())
