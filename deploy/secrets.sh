#!/usr/bin/env bash
# Makes the secrets of docker-compose.yml: three random words in a folder that only its owner can enter. Existing ones stay.
set -euo pipefail

folder=${1:?usage: deploy/secrets.sh FOLDER}
umask 077
mkdir -p "$folder"
for name in postgres_password secret_key password_salt; do
  [[ -e $folder/$name ]] && continue
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$folder/$name"
  # Containers run as users of their own and must be able to read the file itself; the folder keeps everybody else out.
  chmod 444 "$folder/$name"
  echo "$folder/$name" >&2
done
