"""What can go wrong with a local server.

ServerError
|-- ServerStartError
|   |-- MissingDependency   a package or library that has to be installed first
|   |-- RepositoryError     the model repository is not there, or holds no model
|   |-- PortInUse
|   |-- ModelLoadError      Triton refused one or more models
|   `-- StartTimeout
`-- ServerDied              it was ready, and then ended by itself
"""


class ServerError(RuntimeError):
    """The base of everything that goes wrong with a local server."""


class ServerStartError(ServerError):
    """The server did not start."""


class MissingDependency(ServerStartError):
    """A package or library that the server needs is missing, or has the wrong version."""


class RepositoryError(ServerStartError):
    """The model repository is not there, or holds no model."""


class PortInUse(ServerStartError):
    """Something else listens on one of the ports."""


class ModelLoadError(ServerStartError):
    """Triton refused one or more models of the repository."""


class StartTimeout(ServerStartError):
    """The server was not ready in time."""


class ServerDied(ServerError):
    """The server ended by itself after it had been ready."""
