"""Errors of a local server.

ServerError
|-- ServerStartError
|   |-- MissingDependency   a package or library that has to be installed first
|   |-- RepositoryError     the model repository does not exist or has no models
|   |-- PortInUse
|   |-- ModelLoadError      Triton refused one or more models
|   |-- BackendAborted      Triton's Python backend aborted in two starts
|   `-- StartTimeout
`-- ServerDied              it was ready, and then ended by itself
"""


class ServerError(RuntimeError):
    """Base of all errors of a local server."""


class ServerStartError(ServerError):
    """The server did not start."""


class MissingDependency(ServerStartError):
    """A package or library that the server needs is missing, or has the wrong version."""


class RepositoryError(ServerStartError):
    """The model repository does not exist or has no models."""


class PortInUse(ServerStartError):
    """One of the ports is in use."""


class ModelLoadError(ServerStartError):
    """Triton refused one or more models of the repository."""


class BackendAborted(ServerStartError):
    """Triton's Python backend aborted, whatever the models are. `serve` has tried twice."""


class StartTimeout(ServerStartError):
    """The server was not ready in time."""


class ServerDied(ServerError):
    """The server ended by itself after it had been ready."""
