# The production image: no embedded database (set DATABASE_URL), no tools, no root.
FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH
COPY requirements/build.txt requirements/run.txt requirements/
RUN pip install --require-hashes -r requirements/build.txt -r requirements/run.txt
COPY pyproject.toml LICENSE alembic.ini ./
COPY migrations/ migrations/
COPY service/ service/
# In place, so that the migrations stand beside the package as they do in a checkout.
RUN pip install --no-deps --no-build-isolation -e . && python -m compileall -q service migrations

FROM python:3.13-slim-bookworm AS run
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin koc
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 KOC_HOST=0.0.0.0 KOC_PORT=8000 KOC_LOG_FORMAT=json
USER koc
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"KOC_PORT\"]}/healthz', timeout=2)"]
CMD ["koc", "serve"]
