"""A real Triton on this machine, without a container: `with serve(ServerSettings(repository=...)) as server`."""

from deploy.local.errors import (
    BackendAborted,
    MissingDependency,
    ModelLoadError,
    PortInUse,
    RepositoryError,
    ServerDied,
    ServerError,
    ServerStartError,
    StartTimeout,
)
from deploy.local.server import Server, ServerSettings, on_free_ports, serve

__all__ = [
    "BackendAborted",
    "MissingDependency",
    "ModelLoadError",
    "PortInUse",
    "RepositoryError",
    "Server",
    "ServerDied",
    "ServerError",
    "ServerSettings",
    "ServerStartError",
    "StartTimeout",
    "on_free_ports",
    "serve",
]
