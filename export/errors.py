"""What export refuses."""


class ExportError(ValueError):
    """Base of the errors of this package."""


class ConfigError(ExportError):
    """A `config.pbtxt` is missing or does not fit the model; names file, field, expected and found."""


class VocabularyError(ExportError):
    """The repository serves another vocabulary than the checkpoint's."""


class ParityError(ExportError):
    """The exported models answer otherwise than the PyTorch model."""
