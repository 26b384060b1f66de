# syntax=docker/dockerfile:1
# The image of the service: the locked serving packages, the code, the shipped bundle; no torch. The
# last stage is the CPU image; `--target gpu` makes the one for NVIDIA cards.
#
#   docker build -t semsr .
#   docker run --read-only -p 8000:8000 semsr
#   docker run --read-only -p 8000:8000 -v /bundles/mine:/bundles/mine:ro -e SEMSR_BUNDLE=/bundles/mine semsr
#
#   docker build --target gpu -t semsr:gpu .
#   docker run --gpus all -v plans:/plans semsr:gpu bundle build-plans /opt/semsr/bundles/default
#   docker run --read-only --gpus all -v plans:/plans:ro -p 8000:8000 semsr:gpu
#
# Both hold the extras that a service may need where nothing can be installed later: `scan` (object
# stores, HDF5, Zarr, Parquet), `postgres`, `tracing`. Less, such as none, for a smaller image:
#   docker build --build-arg SEMSR_EXTRAS= -t semsr .
#
# /opt/semsr/sbom.cdx.json lists the Python packages that an image holds (CycloneDX).
#
# The base is pinned by tag. A site that mirrors its images pins the digest:
#   docker build --build-arg PYTHON_IMAGE=mirror/python@sha256:... -t semsr .
ARG PYTHON_IMAGE=python:3.12.13-slim-bookworm

# ---- build: the locked packages in an environment of their own, then the project as a wheel
FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_INPUT=1 \
    PIP_ROOT_USER_ACTION=ignore
# The address of a package mirror, where there is one; empty takes pip's own.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
# Extras of pyproject.toml that have a lock and are copied below.
ARG SEMSR_EXTRAS="scan postgres tracing"
WORKDIR /src

COPY requirements/base.txt requirements/build.txt requirements/sbom.txt requirements/
COPY requirements/scan.txt requirements/postgres.txt requirements/tracing.txt requirements/
RUN python -m venv --without-pip /opt/semsr \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --no-deps --only-binary=:all: \
        -r requirements/build.txt \
    && python -m venv --without-pip /opt/sbom \
    && /opt/build/bin/pip --python /opt/sbom/bin/python install --no-cache-dir --require-hashes \
        --no-deps --only-binary=:all: -r requirements/sbom.txt \
    && for lock in base ${SEMSR_EXTRAS}; do \
        /opt/build/bin/pip --python /opt/semsr/bin/python install --no-cache-dir --require-hashes \
            --no-deps --only-binary=:all: -r "requirements/${lock}.txt" || exit 1; \
    done

COPY . .
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/pip --python /opt/semsr/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && ln -sr /opt/semsr/lib/python3.*/site-packages/bundle_format/bundles /opt/semsr/bundles \
    && chmod -R a+rX /opt/semsr \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
        --output-file /opt/semsr/sbom.cdx.json /opt/semsr/bin/python

# ---- build-gpu: what a GPU host needs besides its driver. These packages come from their vendor's
# channels and are in no lock (pyproject.toml, extra gpu). onnxruntime-gpu takes the place of onnxruntime.
FROM build AS build-gpu
ARG GPU_PACKAGES="onnxruntime-gpu[cuda,cudnn]~=1.31 tensorrt~=11.4 cuda-bindings~=13.0 nvidia-ml-py~=13.0"
# hadolint ignore=SC2086
RUN /opt/build/bin/pip --python /opt/semsr/bin/python uninstall --yes onnxruntime \
    && /opt/build/bin/pip --python /opt/semsr/bin/python install --no-cache-dir ${GPU_PACKAGES} \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
        --output-file /opt/semsr/sbom.cdx.json /opt/semsr/bin/python

# ---- runtime: nothing is written at run time, so the root file system may be read-only
FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="semsr" \
      org.opencontainers.image.description="Super-resolution of SEM inspection tiles over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"

RUN groupadd --gid 10001 semsr \
    && useradd --uid 10001 --gid semsr --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin semsr \
    && install -d -o semsr -g semsr /plans

ENV PATH=/opt/semsr/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SEMSR_HOST=0.0.0.0 \
    SEMSR_PORT=8000 \
    SEMSR_BUNDLE=/opt/semsr/bundles/default

USER 10001:10001
WORKDIR /opt/semsr
EXPOSE 8000
STOPSIGNAL SIGTERM
# Alive, not ready: a full queue or a drain must not get the container killed.
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-m", "service.health_check"]
ENTRYPOINT ["semsr"]
CMD ["serve"]

# ---- gpu
FROM runtime AS gpu
COPY --from=build-gpu /opt/semsr /opt/semsr
ENV SEMSR_DEVICE=cuda \
    SEMSR_PLAN_CACHE=/plans

# ---- the CPU image
FROM runtime AS cpu
COPY --from=build /opt/semsr /opt/semsr
