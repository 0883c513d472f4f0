# The course as a container, or as a Docker Space of the Hugging Face Hub.
#
#   docker build -f docker/course.Dockerfile -t medsegdiff-course .
#   docker run --rm -p 8501:8501 medsegdiff-course
#
# As a Space: copy this file to Dockerfile, and set `sdk: docker` and `app_port: 8501` in the README's front matter. A Space embeds the
# page in a frame, where browsers block the XSRF cookie, so uploads need `ENV STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION=false`.
# -e MEDSEGDIFF_RECORDINGS=1 replays recordings and computes nothing.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 user
WORKDIR /srv/course
COPY requirements.txt .
RUN pip install --no-cache-dir "torch==2.13.0" --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -r requirements.txt
COPY --chown=user . .
USER user

ENV OMP_WAIT_POLICY=PASSIVE
EXPOSE 8501
HEALTHCHECK CMD python -c "from urllib.request import urlopen; urlopen('http://localhost:8501/_stcore/health')"
CMD ["python", "-m", "streamlit", "run", "app.py", "--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true"]
