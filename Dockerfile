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
    && python3 -m venv /opt/venv \
    && /opt/venv/bin/pip uninstall --quiet --yes setuptools

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
# Named to the last letter: without "+cpu" an index that fails to answer would turn 1.2 GB into 5.6.
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt ./
# The CPU build goes without torch's own test programs, C++ headers (there is no compiler) and the symbols that only a
# debugger reads, a quarter of it; in the step that installs them, or the layer would keep them.  CUDA's stays whole.
# hadolint ignore=DL3003,DL3008
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    pip install --no-cache-dir --constraint=constraints.txt ${TORCH_INDEX:+--extra-index-url="$TORCH_INDEX"} "$TORCH" \
    && if [ "$TORCH" != "${TORCH%+cpu}" ]; then \
        apt-get -qq update && apt-get -qq install --yes --no-install-recommends binutils > /dev/null \
        && cd /opt/venv/lib/python3*/site-packages \
        && rm -rf torch/test torch/include torch/bin/*[Tt]est* torch/bin/protoc* \
        && strip --strip-unneeded torch/lib/libtorch_*.so \
        && find sympy networkx -type d -name tests -prune -exec rm -r {} + \
        && apt-get -qq purge --yes --auto-remove binutils > /dev/null && rm -rf /var/lib/apt/lists/* /var/cache/apt/*; \
    fi

# ---- Other dependencies, as pyproject.toml names them; EXTRAS=tensorboard,mlflow adds its optional ones ----
# As above go packages' own tests, C sources and symbols (not in *.libs folders, whose files were patched after linking),
# and two of Arrow's libraries that speak to servers and to query planners.
COPY pyproject.toml ./
ARG EXTRAS=
# hadolint ignore=DL3003,DL3008
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    python -c "import os, tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb')); \
extras = [project['project']['optional-dependencies'][name] for name in os.environ.get('EXTRAS', '').split(',') if name]; \
print(*project['build-system']['requires'], *project['project']['dependencies'], *sum(extras, []), sep='\n')" \
        > /tmp/requirements.txt \
    && pip install --no-cache-dir --constraint=constraints.txt --requirement=/tmp/requirements.txt \
    && rm /tmp/requirements.txt \
    && apt-get -qq update && apt-get -qq install --yes --no-install-recommends binutils > /dev/null \
    && cd /opt/venv/lib/python3*/site-packages \
    && find numpy scipy sklearn pandas matplotlib pyarrow -type d -name tests -prune -exec rm -r {} + \
    && rm pyarrow/*flight* pyarrow/*substrait* \
    && find fontTools numpy pandas pyarrow scipy sklearn -type f -regex '.*\.\(c\|cc\|cpp\|h\|pxd\|pxi\|pyx\)' -delete \
    && find . -name '*.so*' -type f -not -path './torch*' -not -path './nvidia*' -not -path './triton*' \
        -not -path '*.libs/*' -exec strip --strip-unneeded {} + \
    && apt-get -qq purge --yes --auto-remove binutils > /dev/null && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

# ---- Source: editable, so that its paths are those of a checkout and there is no second copy to go stale ----
COPY README.md LICENSE train.py convert_command.sh ./
COPY configs configs
COPY src src
# `--build-arg RUN_AS=root` is for mounts that only root may write.  All three stand before a RUN, whose cache heeds
# them; for USER and LABEL alone older podman would take another build's from its cache.
ARG RUN_AS=1000:0
ARG VERSION=unknown
ARG REVISION=unknown
RUN pip install --no-cache-dir --no-deps --no-index --no-build-isolation --editable . \
    && python -m compileall -q src

USER ${RUN_AS}
LABEL org.opencontainers.image.title="alphard" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["./convert_command.sh"]
