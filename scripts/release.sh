#!/usr/bin/env bash
# Builds what is released into a folder: release.sh VERSION FOLDER [SYSTEM/PROCESSOR…]
#
# The same source and the same version of Go give the same bytes, on any machine and in any folder.
set -euo pipefail
version=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

# What a machine may have set for itself must not reach the program.
unset GOFLAGS GOEXPERIMENT
export CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0

source=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$source"
rm -f "$out"/jetsam-* "$out"/SHA256SUMS

for target; do
	name=jetsam-$version-${target%/*}-${target#*/}
	[ "${target%/*}" != windows ] || name+=.exe
	echo "$name"
	GOOS=${target%/*} GOARCH=${target#*/} go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X jetsam/cmd/jetsam/command.build=$version" -o "$out/$name" ./cmd/jetsam
done

go run ./scripts/licenses -o "$out/THIRD-PARTY-LICENSES.txt" >/dev/null
cp LICENSE "$out/LICENSE"
cd "$out"
if command -v sha256sum >/dev/null; then sum='sha256sum'; else sum='shasum -a 256'; fi
$sum jetsam-* LICENSE THIRD-PARTY-LICENSES.txt >SHA256SUMS
