# syntax=docker/dockerfile:1
# A Jetson with JetPack 6 (the default) or 5: CUDA, TensorRT and trtexec of that JetPack from NVIDIA,
# elfatt-deploy beside them. How to build and run it, and where each tag comes from: docs/docker.md.

# JetPack 6.1 and 6.2: L4T 36.4, CUDA 12.6, TensorRT 10.3, Python 3.10.
# JetPack 5.1: nvcr.io/nvidia/l4t-jetpack:r35.4.1@sha256:d1c8e971ab994235840eacc31c4ef4173bf9156317b1bf8aabe7e01eb21b2a0e
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0@sha256:34ccf0f3b63c6da9eee45f2e79de9bf7fdf3beda9abfd72bbf285ae9d40bb673
ARG UV=ghcr.io/astral-sh/uv:0.8.22@sha256:9874eb7afe5ca16c363fe80b294fe700e460df29a55532bbfea234a0f12eddb1

FROM ${UV} AS uv

FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# The distribution's mirrors keep one version of a package only, so that a pin would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates openssh-client python3 \
    && rm -rf /var/lib/apt/lists/*

COPY --from=uv /uv /usr/local/bin/uv
# JetPack 6's own Python has NVIDIA's TensorRT binding, which the environment must see. JetPack 5
# has Python 3.8, too old for us: build with PYTHON=3.10 there, and plans are built by trtexec.
ARG PYTHON=/usr/bin/python3
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_INSTALL_DIR=/opt/python
RUN uv venv --python "${PYTHON}" --system-site-packages /opt/elfatt
WORKDIR /opt/source
COPY docker/requirements.txt docker/requirements.txt
RUN uv pip install --python /opt/elfatt/bin/python --requirement docker/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY profiles profiles
COPY elfatt_deploy elfatt_deploy
RUN uv pip install --python /opt/elfatt/bin/python --no-deps --no-build-isolation . \
    && /opt/elfatt/bin/elfatt-deploy --help >/dev/null

# On a Jetson the GPU's device files belong to the group video.
ARG USER_ID=10001
RUN useradd --create-home --uid "${USER_ID}" --groups video elfatt
USER ${USER_ID}
WORKDIR /home/elfatt
ENV PATH=/opt/elfatt/bin:/usr/src/tensorrt/bin:$PATH
CMD ["elfatt-deploy", "doctor"]
