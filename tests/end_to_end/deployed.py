"""A Triton as `deploy/kubernetes` runs it: with the manifests' flags, under certificates of an authority of its own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from altreco_client import TLS

from deploy.access import ADMIN_KEY, Access
from deploy.local import Server
from tests.end_to_end.faults import Certificates, make_certificates
from tests.servers import serving

DEPLOY = Path(__file__).parents[2] / "deploy"
KEY = "a-key"
LOCAL = ("model-repository", "model-control-mode", "cache-config", "metrics-address", "grpc-server", "grpc-root")
"""Flags that name the container's own paths and addresses."""


@dataclass(frozen=True)
class Deployed:
    """A server with the manifests' flags, and the certificates of those who may call it, and who may not."""

    server: Server
    models: Path
    certificates: Certificates

    def tls(self, client: str | None = "client") -> TLS:
        """TLS files of a caller with this certificate; None: with none."""
        return TLS(
            root_certificates=str(self.certificates.pem("ca")),
            certificate=str(self.certificates.pem(client)) if client else None,
            private_key=str(self.certificates.key(client)) if client else None,
        )

    def access(self, key: str | None = None) -> Access:
        """Access of a caller with a certificate, and perhaps the operators' key."""
        return Access(tls=self.tls(), headers=((ADMIN_KEY, key),) if key else ())


def manifest_flags() -> list[str]:
    """The base manifests' flags, but for what the local server decides itself."""
    deployment = yaml.safe_load((DEPLOY / "kubernetes" / "base" / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    flags = [flag.replace("$(ADMIN_KEY)", KEY) for flag in container["args"]]
    return [flag for flag in flags if not flag.startswith(tuple(f"--{name}" for name in LOCAL))]


@contextmanager
def deploying(repository: Path, folder: Path, *, more: tuple[str, ...] = (), **settings: Any) -> Iterator[Deployed]:
    """Over a copy of the repository in the folder; the flags of `more` come last, and so count."""
    models = shutil.copytree(repository, folder / "models")
    certificates = make_certificates(folder)
    flags = (*manifest_flags(), *certificates.server_flags(mutual=True), *more)
    with serving(models, extra_args=flags, **settings) as server:
        yield Deployed(server, models, certificates)
