# The course as a container. `make space KIND=course` makes a Docker Space of it.
#
#   docker build -f docker/course.Dockerfile -t medsegdiff-course .
#   docker run --rm -p 8501:8501 medsegdiff-course
#
# --build-arg RECORDINGS=1 builds an image without PyTorch, which replays recordings and runs no network. In an image with PyTorch,
# -e MEDSEGDIFF_RECORDINGS=1 does the same. Pin the base by digest for a release: --build-arg BASE=python:3.12-slim@sha256:...
# (docs/deploy.md).
ARG BASE=python:3.12-slim
FROM ${BASE}

RUN useradd --create-home --uid 1000 user \
    && install --directory --owner=user /home/user/.cache
WORKDIR /srv/course
ARG RECORDINGS=""
COPY requirements.txt .
RUN if [ -n "$RECORDINGS" ]; then sed -i "/^torch/d" requirements.txt; \
    else pip install --no-cache-dir "torch==2.13.0" --index-url https://download.pytorch.org/whl/cpu; fi \
    && pip install --no-cache-dir -r requirements.txt
COPY --chown=user . .
USER 1000

# Two memory arenas instead of eight per core, which saves memory.
ENV OMP_WAIT_POLICY=PASSIVE PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2
EXPOSE 8501
HEALTHCHECK --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:8501/_stcore/health')"]
CMD ["python", "-m", "streamlit", "run", "app.py", "--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true"]
