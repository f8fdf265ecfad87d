"""The errors of every package cross processes: those of the client have their own test."""

import copy
import importlib
import pickle

import pytest

MODULES = (
    "backfill.errors",
    "benchmark.peers.errors",
    "deploy.local.errors",
    "deploy.local.process",
    "export.errors",
    "loadtest.errors",
    "measure.kept",
    "training.errors",
)


@pytest.mark.parametrize("name", MODULES)
def test_every_error_survives_a_process_pool(name: str) -> None:
    kinds = [kind for kind in vars(importlib.import_module(name)).values() if isinstance(kind, type)]
    errors = [kind for kind in kinds if issubclass(kind, Exception) and kind.__module__ == name]
    assert errors
    for kind in errors:
        error = kind("what is wrong")
        vars(error).update(gates=(1, 2))  # a field, as some have
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert type(twin) is kind
            assert (str(twin), vars(twin)) == ("what is wrong", vars(error))
