#!/usr/bin/env bash
# Runs every fuzz target of every package, one on each processor at a time: fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
export FUZZTIME=${1:-20s}

found=$(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort)
[ -n "$found" ] || { echo 'there is no fuzz target' >&2; exit 1; }
echo "$(wc -l <<<"$found") fuzz targets, $FUZZTIME each"

# fuzz FILE:func NAME: what it prints comes in one piece.
fuzz() {
	local file=${1%%:*} name=$2 said
	if said=$(attempt) || { late && said=$(attempt); }; then
		printf -- '-- %s %s: %s\n' "$(dirname "$file")" "$name" "$(grep -E '^fuzz: elapsed' <<<"$said" | tail -n 1)"
	else
		printf -- '-- %s %s\n%s\n' "$(dirname "$file")" "$name" "$said"
		return 1
	fi
}

attempt() { go test -run '^$' -fuzz "^$name\$" -fuzztime "$FUZZTIME" -parallel 1 "$(dirname "$file")" 2>&1; }

# late: the go command sometimes takes the end of its time for a failure of the target, and has no input that fails.
late() { grep -q 'context deadline exceeded' <<<"$said" && ! grep -q 'Failing input' <<<"$said"; }
export -f fuzz attempt late
xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 2 bash -c 'fuzz "$@"' fuzz <<<"$found"
