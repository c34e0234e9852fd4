"""The kinds of sources by entry points, those of sgdd itself and of other packages alike. None is imported here."""

import functools
from dataclasses import dataclass, replace
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
        conflict: Why its name cannot be used, or None.
    """

    name: str
    entry_point: EntryPoint
    package: str
    version: str
    conflict: str | None = None

    def load(self) -> "VectorSource":
        """Import it.

        Raises:
            VectorSourceError: it cannot be imported, lacks one of the two functions, or its name is taken.
        """
        from sgdd_engine.vectors.source import VectorSource  # noqa: PLC0415 - loads numpy

        try:
            if self.conflict is not None:
                raise BrokenPlugin(self.conflict)
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
    """The kinds that are installed: sgdd's own, then those of other packages, each by name.

    Of two packages with the same name the first in the alphabet has it; the other one's kind has a `conflict`.
    """
    found: list[VectorKind] = []
    kinds = [
        VectorKind(point.name, point, point.dist.name, point.dist.version)
        if point.dist is not None
        else VectorKind(point.name, point, "an unknown package", "")
        for point in entry_points(group=GROUP)
    ]
    for kind in sorted(kinds, key=lambda kind: (kind.package != "sgdd", kind.name, kind.package)):
        same = [one for one in found if one.name == kind.name]
        # The same distribution may be seen twice, as with a checkout that is installed as well.
        if any(
            (one.package, one.entry_point.value) == (kind.package, kind.entry_point.value) for one in same
        ):
            continue
        if same and same[0].package == kind.package == "sgdd":  # an older copy of it
            continue
        conflict = f"the name `{kind.name}` is taken by {same[0].package}" if same else None
        found.append(replace(kind, conflict=conflict))
    return tuple(found)
