"""What export refuses.

ExportError
|- ConfigError        a `config.pbtxt` is missing or does not fit the model; names file, field, expected and found
|- VocabularyError    a vocabulary is malformed, or not the one that is served
|- GateError          a release over a tolerance; `gates` has all of them
|- GoldenSetError     a golden set is missing, damaged, or another release's
|- ReleaseError       a release is not there, or not whole
|- RepositoryBusy     another command is writing to the repository
`- ServerFailure      a running server does not answer, or not as it should
   `- LoadRefused     it refused to load a version of a model
"""

from export.gate import Gate


class ExportError(ValueError):
    """Base of the errors of this package."""


class ConfigError(ExportError):
    """A `config.pbtxt` is missing or does not fit the model; names file, field, expected and found."""


class VocabularyError(ExportError):
    """A vocabulary is malformed, or not the one that is served."""


class GateError(ExportError):
    """The exported models are over a tolerance; `gates` has every gate that was measured."""

    def __init__(self, message: str, gates: tuple[Gate, ...]) -> None:
        """Keep the gates beside the message."""
        super().__init__(message)
        self.gates = gates


class GoldenSetError(ExportError):
    """A golden set is missing, damaged, or another release's."""


class ReleaseError(ExportError):
    """A release is not there, or not whole."""


class RepositoryBusy(ExportError):
    """Another command is writing to the repository."""


class ServerFailure(ExportError):
    """A running server does not answer, or not as it should."""


class LoadRefused(ServerFailure):
    """A running server refused to load a version of a model."""
