# The worker: one parent process, one forked process a job. It listens on no port.
# From the repository's root: docker build --file docker/worker.Dockerfile --tag consilience-worker .

ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
# PyTorch's CPU wheels; those on PyPI pull gigabytes of CUDA packages. Another of PyTorch's indexes gives another build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# With models and vision too it makes embeddings (CONSILIENCE_QUEUE=extract).
ARG EXTRAS=worker,postgres,cluster,telemetry
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY consilience consilience
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --extra-index-url "${TORCH_INDEX}" --constraint constraints.txt ".[${EXTRAS}]"
# Kernels for the machine that builds may not run on the machine that works: these run on every processor of the architecture.
RUN NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR=/opt/numba /opt/venv/bin/python -m consilience.numerics.compile_kernels

FROM python:${PYTHON}
# The same user as in the service's image: they share the data folder.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin consilience \
    && install --directory --owner consilience --group consilience --mode 0750 /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/numba /opt/numba
WORKDIR /app
COPY workers workers
COPY docker/worker_health.py ./
RUN /opt/venv/bin/python -m compileall -q workers
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CPU_NAME=generic \
    NUMBA_CACHE_DIR=/tmp/numba \
    CONSILIENCE_DATA_DIR=/data
USER 10001:10001
VOLUME /data
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["python", "worker_health.py"]
# numba refuses a cache that it cannot write to, and the image may be mounted read-only: the kernels move to /tmp first.
CMD ["sh", "-c", "cp -R /opt/numba /tmp/ && exec python -m workers"]
