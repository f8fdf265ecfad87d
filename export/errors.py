"""Errors of this package.

ExportError
|- ConfigError        a `config.pbtxt` is missing or does not fit the model
|- VocabularyError    a vocabulary is malformed or differs from the served one
|- GateError          a release gate exceeded its tolerance
|- GoldenSetError     a golden set is missing, damaged or of another release
|- ReleaseError       a release is missing, incomplete or not what `export` writes
|- SignatureError     a release is not signed, or not with this key, or was changed
|- RepositoryBusy     another command is writing to the repository
`- ServerFailure      a running server does not answer or answers wrongly
   `- LoadRefused     a running server refused to load a version of a model
"""

from export.gate import Gate


class ExportError(ValueError):
    """Base of the errors of this package."""


class ConfigError(ExportError):
    """A `config.pbtxt` is missing or does not fit the model. Names file, field, expected and found value."""


class VocabularyError(ExportError):
    """A vocabulary is malformed or differs from the served one."""


class GateError(ExportError):
    """A release gate exceeded its tolerance; `gates` holds every gate that was measured."""

    def __init__(self, message: str, gates: tuple[Gate, ...] = ()) -> None:
        """Store the message and the gates; pickle passes the message alone, and sets them afterwards."""
        super().__init__(message)
        self.gates = gates


class GoldenSetError(ExportError):
    """A golden set is missing, damaged or of another release."""


class ReleaseError(ExportError):
    """A release is missing, incomplete or not what `export` writes."""


class SignatureError(ExportError):
    """A release is not signed, or not with this key, or was changed since."""


class RepositoryBusy(ExportError):
    """Another command is writing to the repository."""


class ServerFailure(ExportError):
    """A running server does not answer or answers wrongly."""


class LoadRefused(ServerFailure):
    """A running server refused to load a version of a model."""
