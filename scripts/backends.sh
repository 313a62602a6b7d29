#!/usr/bin/env bash
# backends.sh DIR puts the servers that keep objects, and that tests of storage start, into DIR, unless they are there.
set -euo pipefail
dir=$1
mkdir -p "$dir"
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch" && rm -rf "$scratch"' EXIT

# program NAME MODULE VERSION: builds it; it comes through the Go module proxy.
program() {
	[ -x "$dir/$1-$3" ] && return
	echo "$1 $3"
	(cd "$scratch" && GOBIN=$scratch GOFLAGS=-mod=mod ${GO:-go} install "$2@v$3")
	mv "$scratch/$1" "$dir/$1-$3"
}

program versitygw github.com/versity/versitygw/cmd/versitygw 1.8.0
program fake-gcs-server github.com/fsouza/fake-gcs-server 1.56.1

# Azurite is a program for Node.js, which is in a directory of its own.
if [ ! -d "$dir/azurite-3.35.0" ]; then
	echo 'azurite 3.35.0'
	mkdir "$scratch/azurite"
	npm install --silent --no-audit --no-fund --prefix "$scratch/azurite" azurite@3.35.0
	mv "$scratch/azurite" "$dir/azurite-3.35.0"
fi
