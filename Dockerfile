# syntax=docker/dockerfile:1
# Builds the binary, then a small image with it and the system's TLS certificates. Runs as an unprivileged user.
# The workflows use the compiler of this image: raise both together.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY crates crates
# Dependencies first: a change of the service does not rebuild them.
RUN mkdir src benches && echo 'fn main() {}' > src/main.rs && touch src/lib.rs benches/micro.rs \
    && cargo build --locked --release --no-default-features --package nas-cron && rm -rf src
# The commit, which nas_cron_build_info shows: --build-arg BUILD_COMMIT=$(git rev-parse HEAD)
ARG BUILD_COMMIT=unknown
COPY . .
RUN touch src/main.rs src/lib.rs && SQLX_OFFLINE=true cargo build --locked --release --no-default-features --package nas-cron

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin nas-cron
COPY --from=build /src/target/release/nas-cron /usr/local/bin/nas-cron
USER 10001
# 8080: agents, the portal's backend. 9090: Prometheus only; do not route it.
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["nas-cron", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["nas-cron"]
CMD ["serve"]
