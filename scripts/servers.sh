#!/usr/bin/env bash
# servers.sh DIR VERSION… puts nats-servers of these versions into DIR, as nats-server-VERSION, unless they are there. They come through the Go module
# proxy; that of Debian 12, which is called debian, comes as its package, where there is Debian's package client.
set -euo pipefail
dir=$1
shift
mkdir -p "$dir"
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch" && rm -rf "$scratch"' EXIT

for version in "$@"; do
	[ -x "$dir/nats-server-$version" ] && continue
	if [ "$version" = debian ] && ! command -v apt-get >/dev/null; then
		echo 'no apt-get here: without the nats-server of Debian'
		continue
	fi
	echo "nats-server $version"
	if [ "$version" = debian ]; then
		(cd "$scratch" && apt-get -qq download nats-server && dpkg-deb -x nats-server_*.deb .)
		mv "$scratch/usr/sbin/nats-server" "$dir/nats-server-$version"
	else
		(cd "$scratch" && GOBIN=$scratch GOFLAGS=-mod=mod ${GO:-go} install "github.com/nats-io/nats-server/v2@v$version")
		mv "$scratch/nats-server" "$dir/nats-server-$version"
	fi
done
