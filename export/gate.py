"""The result of one check of a release."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One check of a release: `measured` may be at most `allowed`. `worst` names the input with the largest value."""

    name: str
    measured: float
    allowed: float
    worst: str

    @property
    def passed(self) -> bool:
        """Whether `measured` is within `allowed`; NaN is not."""
        return self.measured <= self.allowed

    def __str__(self) -> str:
        """Format the result as a line for the terminal."""
        sign = "ok " if self.passed else "NO "
        return f"{sign} {self.name}: {self.measured:.2g} (allowed {self.allowed:g}) {self.worst}".rstrip()
