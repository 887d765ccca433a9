# A model of handwritten digits, trained while the image is built and served on port 8000, on a CPU.
#   docker build -t vtrain .
#   docker run --rm -p 127.0.0.1:8000:8000 -e VTRAIN_TOKEN=<16 characters or more> vtrain
FROM python:3.13.13-slim-bookworm

# The build of torch for CPUs; pip would take that for NVIDIA's, some gigabytes larger.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY vtrain vtrain
RUN pip install --no-cache-dir ".[serve]"

RUN useradd --create-home --uid 1000 vtrain
USER vtrain
WORKDIR /home/vtrain
RUN vtrain fit vit_digits --run-dir digits

EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
CMD ["vtrain", "serve", "digits", "--host", "0.0.0.0"]
