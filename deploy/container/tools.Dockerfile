# syntax=docker/dockerfile:1.7
# The load test, for machines and clusters that have no checkout. Built from the checkout's root:
#
#   docker build --file deploy/container/tools.Dockerfile -t registry.example.com/altreco/tools:0.1.0 .
#   docker run --rm registry.example.com/altreco/tools:0.1.0 loadtest worker --help
#
# Never built, as no container engine was available. tests/deploy/test_container.py checks it with hadolint.
FROM python:3.11-slim-bookworm
WORKDIR /app
COPY . .
# The packages are this checkout's, and its pyproject.toml has the bounds of theirs.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ./client '.[loadtest]'
USER 10001:10001
ENTRYPOINT ["python", "-m"]
