#!/usr/bin/env bash
# servers.sh DIR VERSION… puts nats-servers of these versions into DIR, as nats-server-VERSION, unless they are there; rest-server-VERSION is restic's
# REST server. They come through the Go module proxy; the nats-server of Debian 12, which is called debian, comes as its package, where there is Debian's
# package client.
set -euo pipefail
dir=$1
shift
mkdir -p "$dir"
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch" && rm -rf "$scratch"' EXIT

# build MODULE VERSION PACKAGE FILE builds a program. A module of its own asks the proxy for no more than that version.
build() {
	rm -rf "$scratch/build" && mkdir "$scratch/build"
	(cd "$scratch/build" && printf 'module scratch\n\ngo 1.23.0\n\nrequire %s %s\n' "$1" "$2" >go.mod && GOFLAGS=-mod=mod ${GO:-go} build -o "$scratch/built" "$3")
	mv "$scratch/built" "$4"
}

for version in "$@"; do
	if [ "${version#rest-server-}" != "$version" ]; then
		[ -x "$dir/$version" ] && continue
		echo "$version"
		build github.com/restic/rest-server "v${version#rest-server-}" github.com/restic/rest-server/cmd/rest-server "$dir/$version"
		continue
	fi
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
