#!/usr/bin/env bash
# Runs every fuzz target of every package, one after the other: fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}

targets=$(grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | wc -l)
[ "$targets" -gt 0 ] || { echo 'there is no fuzz target' >&2; exit 1; }
echo "$((targets)) fuzz targets, $time each"

grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS= read -r found; do
	file=${found%%:*} name=${found##* }
	echo "-- $(dirname "$file") $name"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$(dirname "$file")"
done
