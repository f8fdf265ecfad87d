"""The result of one check of a release."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One check of a release: `measured` may be at most `allowed`; `worst` names the input that decided it."""

    name: str
    measured: float
    allowed: float
    worst: str

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.measured <= self.allowed

    def __str__(self) -> str:
        """For the terminal."""
        sign = "ok " if self.passed else "NO "
        return f"{sign} {self.name}: {self.measured:.2g} (allowed {self.allowed:g}) {self.worst}".rstrip()
