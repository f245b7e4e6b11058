# Two stages: the first has npm and whatever else it takes to install, the second only what runs. The sources
# run as they are, so nothing is built.
#
# The base is pinned by version, the one that package.json brings for development. In a pipeline of your own pin its
# digest too: `--build-arg NODE_IMAGE=docker.io/library/node@sha256:…`.
ARG NODE_IMAGE=docker.io/library/node:26.10.0-trixie-slim

FROM ${NODE_IMAGE} AS dependencies
# An init that passes signals on: as process 1, Node would not end on SIGTERM before it has a handler.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json ./
# No package of the server needs an install script.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund
# Made here for its owner: the last stage runs nothing.
RUN install --directory --mode=0700 --owner=10001 --group=10001 /var/lib/tollgate

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="Tollgate" \
  org.opencontainers.image.description="A self-hosted gateway with which an AI lab sells its models" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.documentation="docs/operations.md"
WORKDIR /app
COPY --from=dependencies /usr/bin/tini-static /usr/bin/tini
COPY --from=dependencies --chown=10001:10001 /var/lib/tollgate /var/lib/tollgate
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY src ./src

# Inside a container loopback is out of everybody's reach.
ENV NODE_ENV=production \
  TOLLGATE_DATA_DIR=/var/lib/tollgate \
  TOLLGATE_INFERENCE_LISTEN=0.0.0.0:8000 \
  TOLLGATE_MANAGEMENT_LISTEN=0.0.0.0:8001

# A number, so that Kubernetes can see that it is not root. All but the volume may be read-only.
USER 10001:10001
VOLUME /var/lib/tollgate
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["node", "--eval", "fetch('http://127.0.0.1:8001/health/ready').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]

ENTRYPOINT ["tini", "--", "node", "/app/src/main.ts"]
CMD ["serve"]
