# The audit receiver: Fluent Bit with the plugin audit_s3 and the shipped configuration,
# for amd64 and arm64. `make image` builds it and says what it is.
#
# No `# syntax` line: it would fetch and run one more image, and all that is used here is
# in every BuildKit since Docker 23.

# A version may carry a digest, as 5.1.1@sha256:…; then the tag can no longer be moved.
ARG GO_VERSION=1.26.8
ARG FLUENT_BIT_VERSION=5.1.1

FROM fluent/fluent-bit:${FLUENT_BIT_VERSION} AS runtime

# Bookworm, whose glibc (2.36) is older than the runtime's (Debian 13: 2.41): symbols of a
# newer one would not be found when Fluent Bit loads the plugin. The builder runs on the
# machine that builds, whatever it builds for: emulating another one takes many times as long.
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-bookworm AS builder
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
ARG BUILDARCH
ARG TARGETARCH

# cgo needs a C compiler for the target; for its own machine the builder has one. Debian
# removes versions from its mirror when they are replaced, so none is named here.
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked <<'EOF'
case "$TARGETARCH" in
amd64) set -- gcc-x86-64-linux-gnu libc6-dev-amd64-cross ;;
arm64) set -- gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
*) echo "this builds for amd64 and arm64, not for $TARGETARCH" >&2; exit 1 ;;
esac
[ "$TARGETARCH" != "$BUILDARCH" ] || exit 0
rm -f /etc/apt/apt.conf.d/docker-clean # it empties the cache that is mounted
apt-get update
apt-get install -y --no-install-recommends "$@"
EOF

COPY go.mod go.sum Makefile LICENSE ./
COPY conf conf/
COPY convert convert/
COPY metrics metrics/
COPY plugin plugin/
COPY sink sink/

# The Makefile's own build, so that its flags stand in one place. The version is given:
# without .git, which is not in the context, nothing could tell it.
ARG TARGETOS
ARG VERSION=unknown
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build <<'EOF'
case "$TARGETARCH" in
amd64) CC=x86_64-linux-gnu-gcc ;;
arm64) CC=aarch64-linux-gnu-gcc ;;
esac
export CC GOOS="$TARGETOS" GOARCH="$TARGETARCH"
make build VERSION="$VERSION"
EOF

# What would otherwise come out when the receiver starts, or with its first upload.
RUN --mount=type=bind,from=runtime,target=/runtime <<'EOF'
fail() { echo "$*" >&2; exit 1; }
versions() { readelf --version-info --wide "$1" | grep -o 'GLIBC_[0-9A-Z.]*' | sort -u; }
needed=$(readelf --dynamic --wide build/out_audit_s3.so | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p')
[ "$needed" = libc.so.6 ] || fail "the plugin may need libc.so.6 alone, not: $needed"
libc=$(find /runtime -name libc.so.6 -print -quit)
[ -n "$libc" ] || fail "the runtime has no libc.so.6"
versions build/out_audit_s3.so >/tmp/needed
versions "$libc" >/tmp/offered
missing=$(comm -23 /tmp/needed /tmp/offered)
[ -z "$missing" ] || fail "the runtime's glibc is older than the builder's; it lacks: $missing"
[ -s /runtime/etc/ssl/certs/ca-certificates.crt ] || fail "the runtime has no CA certificates: S3 could not be verified"
EOF

# Modes are given, so that no umask of the machine that builds decides who can read what.
RUN <<'EOF'
install -D -m 0755 -t /out/opt/audit_s3 build/out_audit_s3.so
install -D -m 0644 -t /out/opt/audit_s3 LICENSE
install -D -m 0644 -t /out/etc/audit_s3 conf/fluent-bit.conf conf/fluent-bit.yaml conf/fluent-bit-tail.conf conf/ship-orphan.conf
install -D -m 0644 -t /out/etc/audit_s3/policy conf/policy/compliance.yaml conf/policy/minimal.yaml conf/policy/security.yaml
install -d -m 0700 /out/var/lib/audit-receiver/chunks /out/var/lib/audit-receiver/spool
EOF

FROM runtime
COPY --from=builder /out/opt/audit_s3 /opt/audit_s3
COPY --from=builder /out/etc/audit_s3 /etc/audit_s3

# For a run without volumes. No VOLUME: it would keep the spool in a volume without a name,
# which nobody finds again and `docker rm -v` or --rm deletes with all that is not uploaded.
COPY --from=builder --chown=65532:65532 /out/var/lib/audit-receiver /var/lib/audit-receiver

# By number: Kubernetes' runAsNonRoot cannot tell who a name is.
USER 65532:65532

# 8443 audit events, 2020 Fluent Bit's health and metrics, 2021 the plugin's.
EXPOSE 8443 2020 2021

ENTRYPOINT ["/fluent-bit/bin/fluent-bit", "-e", "/opt/audit_s3/out_audit_s3.so"]
CMD ["-c", "/etc/audit_s3/fluent-bit.conf"]

# After all else, since they change with every commit. Those that are empty would otherwise
# be Fluent Bit's, and say of this image what is true of its base.
ARG FLUENT_BIT_VERSION
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="audit-receiver" \
      org.opencontainers.image.description="Fluent Bit with audit_s3: Kubernetes audit events as a table on S3" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="docker.io/fluent/fluent-bit:${FLUENT_BIT_VERSION}" \
      org.opencontainers.image.authors="" \
      org.opencontainers.image.documentation="" \
      org.opencontainers.image.vendor="" \
      author="" \
      description="" \
      vendor="" \
      version=""
