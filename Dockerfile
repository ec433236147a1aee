# leafserve on the CPU, linux/amd64 and linux/arm64:
#
#   docker build -t leafserve --build-arg VERSION=$(git describe --tags --always) .
#   docker run --rm -p 8080:8080 -v leafserve:/data leafserve
#
# API and workers in containers of their own share a Redis:
#
#   docker run … leafserve api --redis redis://redis:6379
#   docker run --no-healthcheck … leafserve worker --redis redis://redis:6379
#
# and a store of pictures (--store); docker-compose.yaml and deploy/kubernetes have all of it.
#
# The root file system may be read-only (--read-only): only /data is written.
# A stop waits up to 30 seconds for requests, 20 for running jobs: docker stop --time 40.

FROM golang:1.26-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# What changes seldom comes first: the runtime, then the modules, then the sources.
COPY tools/lib.sh tools/ort.sh tools/
RUN tools/ort.sh cpu
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN CGO_ENABLED=1 tools/build.sh cpu "$VERSION"

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /data leafserve \
    && install -d -o leafserve -g leafserve /data
COPY --from=build /src/bin /app
COPY LICENSE THIRD_PARTY.md /app/
ENV PATH=/app:$PATH \
    LEAFSERVE_ADDR=0.0.0.0:8080 \
    LEAFSERVE_DATA_DIR=/data \
    LEAFSERVE_LOG_FORMAT=json
USER leafserve
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["leafserve", "doctor", "--server", "http://127.0.0.1:8080"]
ENTRYPOINT ["leafserve"]
CMD ["serve"]
