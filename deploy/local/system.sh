#!/usr/bin/env bash
# What tests use and pip cannot install: a browser, PostgreSQL's server, Java 17 for Apache Kafka, fonts for Chinese pictures.
# With apt-get and root (or sudo without a password) the missing ones are installed; elsewhere they are named.
set -euo pipefail

has_browser() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; }
has_postgres() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
has_java() { command -v java >/dev/null && java -version 2>&1 | awk -F'"' '/version/ {split($2, part, "."); found = (part[1] >= 17)} END {exit !found}'; }
has_fonts() { compgen -G '/usr/share/fonts/*/*/NotoSans*CJK*' >/dev/null || { command -v fc-list >/dev/null && [[ -n $(fc-list ':lang=zh') ]]; }; }

missing=()
has_browser || missing+=(chromium)
has_postgres || missing+=(postgresql)
has_java || missing+=(openjdk-17-jre-headless)
has_fonts || missing+=(fonts-noto-cjk)
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then as_root=(sudo -n); fi
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
  echo "installing ${missing[*]}" >&2
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "not installed here, so the tests that need them will be skipped: ${missing[*]} (Debian's package names)" >&2
fi
