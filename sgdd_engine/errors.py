"""Everything that can go wrong for a user, as one family of exceptions.

Each carries a sentence that names the file or key, and a hint: what to do, where possible the command itself.
"""


class SgddError(Exception):
    """A failure that the user can act on.

    Args:
        message: One sentence that says what is wrong and names the file, key or text.
        hint: What to do about it; may hold commands on lines of their own.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(SgddError):
    """A setting has a value that cannot work, or a name that does not exist."""


class DataError(SgddError):
    """A source text or a prepared corpus is unreadable, empty, damaged or does not fit."""


class EncoderError(SgddError):
    """The frozen encoder cannot be loaded or cannot be honoured."""


class CheckpointError(SgddError):
    """A checkpoint is missing, incomplete, damaged, or from a version that cannot be read."""


class VectorSourceError(SgddError):
    """Vectors cannot be read: no such store or column, null or damaged rows, a client that is not installed."""


class TrainingError(SgddError):
    """Training cannot start or must not go on (a non-finite loss, a run in use by another process)."""


class GenerationError(SgddError):
    """Text cannot be generated as asked (a vector of the wrong size, guidance without a null branch)."""


def require(condition: bool, message: str, hint: str | None = None) -> None:
    """Raise `ConfigError(message, hint)` unless `condition` holds."""
    if not condition:
        raise ConfigError(message, hint)
