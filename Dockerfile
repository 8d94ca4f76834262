# The images of Plumbline. Targets: light (scorer, ledger, guard, console, topics, migrations; no TensorFlow), training, dev.
# Each installs exactly the locked files; tags are exact, and a release resolves them to digests (docs/adr/0008).

FROM node:24.11.1-bookworm-slim AS node

FROM python:3.11.14-slim-bookworm AS base
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PLUMBLINE_DATA_DIR=/data \
    NUMBA_CACHE_DIR=/tmp/numba \
    PATH=/opt/plumbline/bin:$PATH
# A volume that is mounted on these folders for the first time takes over their owner.
RUN groupadd --gid 10001 plumbline \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin plumbline \
    && install -d -o plumbline -g plumbline /data /data/archive /data/models /data/snapshots /data/watch \
       /data/journal /data/retrain

FROM base AS sources
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
    && python -m venv /opt/plumbline
WORKDIR /build
COPY deploy/light.lock deploy/light.lock
RUN pip install --no-deps --require-hashes -r deploy/light.lock
COPY pyproject.toml README.md LICENSE ./
COPY plumbline plumbline
COPY observe observe
COPY features features
COPY archive archive
COPY store store
COPY serving serving
COPY streaming streaming
COPY training training
COPY app app
COPY audit audit
COPY drift drift
COPY release release
COPY retrain retrain
COPY demo demo
RUN python -m app.frontend \
    && pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
    && pip install --no-deps --no-index /wheels/*.whl \
    && pip uninstall --yes setuptools pip

FROM base AS training-build
RUN python -m venv /opt/plumbline
WORKDIR /build
COPY deploy/training.lock deploy/training.lock
RUN pip install --no-deps --require-hashes -r deploy/training.lock
COPY --from=sources /wheels /wheels
RUN pip install --no-deps --no-index /wheels/*.whl \
    && pip uninstall --yes setuptools pip

FROM base AS light
COPY --from=sources /opt/plumbline /opt/plumbline
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["plumbline"]
CMD ["--help"]

FROM base AS training
COPY --from=training-build /opt/plumbline /opt/plumbline
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["plumbline"]
CMD ["train", "--help"]

FROM base AS dev
# Debian keeps one version of each of these at a time: pinning would only break the build at the next security update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
       bash chromium fonts-noto-cjk git make openjdk-17-jre-headless postgresql \
    && rm -rf /var/lib/apt/lists/*
ENV PLUMBLINE_DATA_DIR=var
RUN install -d -o plumbline -g plumbline /home/plumbline
USER 10001:10001
ENV HOME=/home/plumbline
WORKDIR /home/plumbline/source
COPY --chown=10001:10001 . .
RUN make venv
CMD ["make", "check"]
