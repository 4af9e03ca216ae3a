# Training, sealed: the container's arguments are a cloud's hyperparameters, ./convert_command.sh reads them.
#
#   CPU   docker build -t alphard .
#   CUDA  docker build -t alphard:cuda --build-arg TORCH=torch==2.13.0 --build-arg TORCH_INDEX= .
#
# podman builds it too.  Docker needs BuildKit, which is on since version 23.
# What changes least comes first: an edit in src/ or configs/ rebuilds the last layers only, in seconds and offline.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

# ---- System ----
WORKDIR /app

# Group 0 and sticky folders that anyone may write: clusters and `--user` choose a uid that no image knows.
RUN useradd --uid 1000 --gid 0 --no-create-home --home-dir /tmp alphard \
    && mkdir --mode=1777 outputs multirun studies \
    && python3 -m venv /opt/venv

# HOME and the caches: /tmp is there for every uid, and as a tmpfs also where the root is read-only.
# USER: getpass asks for it before it looks the uid up.  NVIDIA and LD_LIBRARY_PATH: Google's machines mount the
# driver at /usr/local/nvidia; without a GPU the names mean nothing.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ALPHARD_SEALED=1 \
    HOME=/tmp \
    USER=alphard \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64

# A build machine with its own package index says so with `--secret id=pip.conf,src=...` (and `id=ca.pem` for the
# certificate that it names as /run/secrets/ca.pem).  Secrets are there while a RUN step lasts, and in no layer.
ARG PIP_CONFIG_FILE=/run/secrets/pip.conf

# ---- Torch: the largest layer, so it has one of its own ----
# Named to the last letter: without "+cpu" an index that fails to answer would turn 0.8 GB into 6.
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt ./
# Torch's wheel brings its own C++ test programs; they go in the step that brought them, or they would stay in a layer.
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    pip install --no-cache-dir --constraint=constraints.txt ${TORCH_INDEX:+--extra-index-url="$TORCH_INDEX"} "$TORCH" \
    && rm -rf /opt/venv/lib/python3*/site-packages/torch/test /opt/venv/lib/python3*/site-packages/torch/bin/*[Tt]est*

# ---- Other dependencies, as pyproject.toml names them; EXTRAS=tensorboard,mlflow adds its optional ones ----
COPY pyproject.toml ./
ARG EXTRAS=
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    python -c "import os, tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb')); \
extras = [project['project']['optional-dependencies'][name] for name in os.environ.get('EXTRAS', '').split(',') if name]; \
print(*project['build-system']['requires'], *project['project']['dependencies'], *sum(extras, []), sep='\n')" \
        > /tmp/requirements.txt \
    && pip install --no-cache-dir --constraint=constraints.txt --requirement=/tmp/requirements.txt \
    && rm /tmp/requirements.txt

# ---- Source: editable, so that its paths are those of a checkout and there is no second copy to go stale ----
COPY README.md LICENSE train.py convert_command.sh ./
COPY configs configs
COPY src src
RUN pip install --no-cache-dir --no-deps --no-index --no-build-isolation --editable . \
    && python -m compileall -q src

# `--build-arg RUN_AS=root` is for mounts that only root may write.
ARG RUN_AS=1000:0
USER ${RUN_AS}

# After all else, for they change with each commit.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="alphard" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

ENTRYPOINT ["./convert_command.sh"]
