#!/usr/bin/env bash
# Resolves the tag of every image in docker-compose.yml, Dockerfile and the Kubernetes manifests to its digest, into deploy/images.lock.
# It needs a container engine with buildx and a registry to ask; without them it stops, since a digest is never guessed.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! docker buildx version >/dev/null 2>&1; then
  echo "digests can be resolved only with docker and its buildx plugin: run this where they are, as part of a release." >&2
  exit 1
fi

images() {
  awk '$1 == "image:" && $2 !~ /^plumbline-/ {print $2}' docker-compose.yml
  awk '$1 == "image:" && $2 !~ /^plumbline-/ {print $2}' deploy/kubernetes/*.yaml deploy/flink/*.yaml
  awk '$1 == "FROM" && $2 ~ /:/ {print $2}' Dockerfile
}

lock=$(mktemp)
trap 'rm -f "$lock"' EXIT
images | sort -u | while read -r image; do
  digest=$(docker buildx imagetools inspect "$image" --format '{{.Manifest.Digest}}')
  [[ $digest == sha256:* ]] || { echo "no digest was returned for $image" >&2; exit 1; }
  echo "$image@$digest" >>"$lock"
done
mv "$lock" deploy/images.lock
trap - EXIT
cat deploy/images.lock
