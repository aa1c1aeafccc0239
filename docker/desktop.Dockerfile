# syntax=docker/dockerfile:1
# A PC or server with an NVIDIA GPU: CUDA, TensorRT and trtexec from NVIDIA, elfatt-deploy beside
# them. How to build and run it, and where each tag comes from: docs/docker.md.

# TensorRT 10.3 and Python 3.10, as on JetPack 6.
ARG BASE=nvcr.io/nvidia/tensorrt:24.08-py3
ARG UV=ghcr.io/astral-sh/uv:0.8.22@sha256:9874eb7afe5ca16c363fe80b294fe700e460df29a55532bbfea234a0f12eddb1

FROM ${UV} AS uv

FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# The distribution's mirrors keep one version of a package only, so that a pin would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client \
    && rm -rf /var/lib/apt/lists/*

COPY --from=uv /uv /usr/local/bin/uv
# The base's own Python has NVIDIA's TensorRT binding, which the environment must see.
ARG PYTHON=python3
ENV UV_LINK_MODE=copy UV_NO_CACHE=1
RUN uv venv --python "${PYTHON}" --system-site-packages /opt/elfatt
WORKDIR /opt/source
COPY docker/requirements.txt docker/requirements.txt
RUN uv pip install --python /opt/elfatt/bin/python --requirement docker/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY profiles profiles
COPY elfatt_deploy elfatt_deploy
RUN uv pip install --python /opt/elfatt/bin/python --no-deps --no-build-isolation . \
    && /opt/elfatt/bin/elfatt-deploy --help >/dev/null

# 24.04 images have a user of their own with the number 1000.
ARG USER_ID=10001
RUN useradd --create-home --uid "${USER_ID}" elfatt
USER ${USER_ID}
WORKDIR /home/elfatt
ENV PATH=/opt/elfatt/bin:$PATH
CMD ["elfatt-deploy", "doctor"]
