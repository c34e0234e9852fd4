"""How a model on the Hugging Face hub is named, and when a name means one."""

import re
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(
    r"(?P<prefix>hf:)?(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>(?!.*\.\.)[\w./-]+))?",
    re.ASCII,
)
# Where runs are kept by default: a name that begins so is one of theirs, there or not.
_RUNS = "runs"


@dataclass(frozen=True)
class HubName:
    """A model on the hub, as `owner/name` or `owner/name@revision`, with `hf:` before it where it must not be a folder.

    Attributes:
        name: `owner/name`.
        revision: A commit, branch or tag; None means the newest commit.
        explicit: Whether `hf:` stood before it.
    """

    name: str
    revision: str | None = None
    explicit: bool = False

    @classmethod
    def parse(cls, text: str) -> "HubName | None":
        """From what a user wrote; None where that is no such name."""
        match = _NAME.fullmatch(text)
        return match and cls(match["name"], match["revision"], match["prefix"] is not None)

    @classmethod
    def of_folder(cls, folder: Path) -> "HubName | None":
        """The name and commit of a folder in the hub's cache; None for another folder."""
        commit, snapshots, repository = folder.name, folder.parent.name, folder.parent.parent.name
        if snapshots != "snapshots" or not _is_commit(commit) or not repository.startswith("models--"):
            return None
        return cls("/".join(repository.split("--")[1:]), commit)

    @property
    def pinned(self) -> bool:
        """Whether it means the same weights for ever."""
        return _is_commit(self.revision)

    def means_hub(self) -> bool:
        """Whether the hub is meant: an existing folder wins, and so does a missing one in a folder that exists."""
        return self.explicit or (self.hides_hub and not Path(self.name.partition("/")[0]).exists())

    @property
    def hides_hub(self) -> bool:
        """Whether a folder of this name keeps users from a model on the hub; those of runs are never meant so."""
        return self.name.partition("/")[0] != _RUNS

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def _is_commit(revision: str | None) -> bool:
    return revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None
