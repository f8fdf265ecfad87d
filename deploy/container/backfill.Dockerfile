# syntax=docker/dockerfile:1.7
# The client and `python -m backfill`, without anything else of this repository; built from its root:
#
#   docker build -f deploy/container/backfill.Dockerfile -t registry.example.com/altreco/backfill:0.1.0 .
#
# Never built or run, as no container engine was available. tests/deploy/test_container.py checks it with hadolint.
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md constraints.txt ./
COPY client client
COPY backfill backfill
COPY measure measure
RUN pip install --no-cache-dir --constraint constraints.txt './client[histories]' '.[backfill]' && rm -rf /src/*

USER 10001:10001
WORKDIR /tmp
ENV PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["python", "-m", "backfill"]
