# poller in a container: no shell at start, no root, nothing to write but /data and /tmp.
#
#   docker build -t poller:0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Everything from PyPI is pinned by hash. To pin the base image as well, give it by digest:
#   --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:…
# An image with glibc is needed for the embedded server; with a Redis of your own any will do.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# First what changes least, so that a change of ours installs nothing again.
COPY deploy/requirements.txt deploy/requirements-build.txt deploy/
RUN python -m venv /opt/poller && python -m venv /opt/build
RUN /opt/poller/bin/python -m pip install --require-hashes --only-binary :all: -r deploy/requirements.txt
RUN /opt/build/bin/python -m pip install --require-hashes --only-binary :all: -r deploy/requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY poller poller
RUN /opt/build/bin/python -m pip wheel --no-deps --no-index --no-build-isolation --wheel-dir dist .
RUN /opt/poller/bin/python -m pip install --no-deps --no-index dist/poller-*.whl
# Nothing is written when it runs, so what it imports is compiled now; pip has done its work.
RUN /opt/poller/bin/python -m compileall -q /opt/poller/lib && /opt/poller/bin/python -m pip uninstall -qy pip setuptools

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="poller" \
      org.opencontainers.image.description="Webhooks for APIs that have none" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build /opt/poller /opt/poller
RUN install -d -o 65532 -g 65532 -m 0700 /data && install -d -m 0755 /etc/poller
ENV PATH=/opt/poller/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    POLLER_DATA_DIR=/data
USER 65532:65532
# A settings file is read from here where there is one: mount it as /etc/poller/poller.toml.
WORKDIR /etc/poller
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["poller", "health"]
ENTRYPOINT ["poller"]
CMD ["run"]
