#!/usr/bin/env bash
# reproducible.sh VERSION builds the program for Linux twice, in different folders and the second time with nothing cached, and compares the bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch" && rm -rf "$scratch"' EXIT

scripts/release.sh "$version" "$scratch/dist" linux/amd64
mkdir "$scratch/elsewhere"
git ls-files --cached --others --exclude-standard -z | tar --null --files-from=- -cf - | tar -xf - -C "$scratch/elsewhere"
GOCACHE=$scratch/cache "$scratch/elsewhere/scripts/release.sh" "$version" "$scratch/again" linux/amd64
cmp "$scratch/dist/jetsam-$version-linux-amd64" "$scratch/again/jetsam-$version-linux-amd64"
echo 'two builds in different folders are equal, byte for byte'
