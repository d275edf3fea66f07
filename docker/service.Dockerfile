# The HTTP service: routes and the reconciler. Neither torch nor FAISS, numba or scipy is inside.
# From the repository's root: docker build --file docker/service.Dockerfile --tag consilience-service .

ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY consilience consilience
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --constraint constraints.txt ".[service,postgres,parquet,images,telemetry]"

FROM python:${PYTHON}
# The same user as in the worker's image: they share the data folder.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin consilience \
    && install --directory --owner consilience --group consilience --mode 0750 /data
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY service service
RUN /opt/venv/bin/python -m compileall -q service
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CONSILIENCE_DATA_DIR=/data \
    CONSILIENCE_PORT=8000
USER 10001:10001
VOLUME /data
EXPOSE 8000
# Alive and not ready: a container that is started again because Redis is away helps nobody.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["python", "-m", "service"]
