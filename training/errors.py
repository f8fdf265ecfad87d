"""What training refuses, with a message that says what was expected."""


class TrainingError(ValueError):
    """Base of the errors of this package."""


class DataError(TrainingError):
    """A data set is missing, incomplete, or in the way."""


class SettingsError(TrainingError):
    """Settings that cannot train, or an unknown preset."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, foreign, or cannot be written."""
