#!/bin/sh
# Fetches the other engines that render chat templates into .runtime/, once: @huggingface/jinja (LM Studio's) by npm,
# jinja2 (transformers') by pip. Only tests need them; where they cannot be had, those tests are skipped, but not in CI.
set -eu

jinja_js=0.5.11
jinja_js_sha512=633133c0ce6841fe2bd2fb3b89f590fb2b95475624007ae311143e6bc591b12b471e9e0d44183e35eb2388573e5f600552946fbeb21e1c34b5c45cbd8d8fc88d
jinja_py="jinja2==3.1.6 markupsafe==3.0.3"

runtime=$(cd "$(dirname "$0")/../.." && pwd)/.runtime
mkdir -p "$runtime"
scratch=$(mktemp -d "$runtime/fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# without REASON: leaves it at that, unless in CI.
without() {
    echo "$1: the templates will not be tried in that engine" >&2
    [ -z "${CI:-}" ] || exit 1
}

target=$runtime/jinja-js
if [ ! -d "$target" ]; then
    if command -v npm >/dev/null && npm pack "@huggingface/jinja@$jinja_js" --pack-destination "$scratch" --silent >"$scratch/name"; then
        archive=$scratch/$(cat "$scratch/name")
        echo "$jinja_js_sha512  $archive" | sha512sum -c - >/dev/null || { echo "$archive is not the archive that this script knows" >&2; exit 1; }
        tar -xzf "$archive" -C "$scratch"
        mv -T "$scratch/package" "$target" 2>/dev/null || [ -d "$target" ]
    else
        without "npm cannot fetch @huggingface/jinja"
    fi
fi

target=$runtime/jinja-py
if [ ! -d "$target" ]; then
    # shellcheck disable=SC2086 # two words are meant
    if command -v python3 >/dev/null && python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$scratch/python" $jinja_py; then
        mv -T "$scratch/python" "$target" 2>/dev/null || [ -d "$target" ]
    else
        without "pip cannot fetch jinja2"
    fi
fi
