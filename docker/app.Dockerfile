# The page as a container.
#
#   docker build -f docker/app.Dockerfile -t medsegdiff .
#   docker run --rm -p 7860:7860 -v medsegdiff-cache:/home/user/.cache medsegdiff
#
# The volume keeps checkpoints downloaded from the Hub. Pin the base by digest for a release:
# --build-arg BASE=python:3.12-slim@sha256:... (docs/deploy.md).
ARG BASE=python:3.12-slim
FROM ${BASE}

RUN useradd --create-home --uid 1000 user \
    && install --directory --owner=user /home/user/.cache
WORKDIR /srv/medsegdiff
COPY requirements.txt .
RUN pip install --no-cache-dir "torch==2.13.0" --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -r requirements.txt
COPY --chown=user . .
USER 1000

ENV OMP_WAIT_POLICY=PASSIVE PYTHONUNBUFFERED=1
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:7860/')"]
CMD ["python", "app.py", "--host=0.0.0.0", "--port=7860"]
