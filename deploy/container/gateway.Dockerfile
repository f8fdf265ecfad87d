# syntax=docker/dockerfile:1.7
# The HTTP gateway: Python, and the client with its extras. Built from the root of the repository:
#
#   docker build --file deploy/container/gateway.Dockerfile --tag registry.example.com/altreco/gateway:0.1.0-1 .
#
# Never built or run, as no container engine was available. tests/deploy/test_gateway.py checks it with hadolint.
ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS build
COPY constraints.txt /build/
COPY client /build/client
# The versions that were tested, in an environment that the next stage copies without pip's leavings.
RUN python -m venv --without-pip /opt/gateway \
    && python -m pip --python /opt/gateway/bin/python install --no-cache-dir --constraint /build/constraints.txt \
        '/build/client[gateway,histories]'

FROM python:${PYTHON}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="altreco-gateway" \
      org.opencontainers.image.description="HTTP gateway for personalized image tags from Triton" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/gateway /opt/gateway
ENV PATH="/opt/gateway/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1
# A number, so that Kubernetes can check that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["altreco", "gateway"]
