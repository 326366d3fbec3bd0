#!/bin/sh
# The whole job on a checkpoint of ChatGLM3-6B's shapes, beside the plain reading and copying of the same bytes.
# Usage: tests/full-size.sh CHECKPOINT_DIR [TYPE ...]; `make bench-6b` makes the checkpoint and calls it.
set -eu

model=$1
shift
[ $# -gt 0 ] || set -- F16 Q8_0 Q4_K_M
scratch=$(mktemp -d "${model%/}.bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# Seconds that a command takes.
seconds() {
    start=$(date +%s.%N)
    "$@"
    echo "$start $(date +%s.%N)" | awk '{printf "%.1f", $2 - $1}'
}
read_all() { cat "$model"/*.safetensors >/dev/null; }
copy_all() { cat "$model"/*.safetensors >"$scratch/copy" && sync "$scratch/copy"; }
write_again() { cat "$scratch/$1.gguf" >"$scratch/copy" && sync "$scratch/copy"; }
convert() { "$GLM2LLAMA" convert "$model" --type "$1" --output "$scratch/$1.gguf" --no-modelfile --json >"$scratch/log"; }

read_all # into the page cache, as far as it goes
echo "reading all shards:          $(seconds read_all) s"
echo "copying all shards, synced:  $(seconds copy_all) s"
rm "$scratch/copy"
echo
echo "type     seconds  peak memory  size         reading and writing the same bytes"
for type in "$@"; do
    took=$(seconds convert "$type")
    peak=$(sed -n 's/.*"peak_memory_bytes":\([0-9]*\).*/\1/p' "$scratch/log" | awk '{printf "%.0f MB", $1 / 1e6}')
    size=$(wc -c <"$scratch/$type.gguf" | awk '{printf "%.2f GB", $1 / 1e9}')
    plain=$(echo "$(seconds read_all) $(seconds write_again "$type")" | awk '{printf "%.1f s", $1 + $2}')
    rm "$scratch/copy" "$scratch/$type.gguf"
    printf '%-8s %-8s %-12s %-12s %s\n' "$type" "$took" "$peak" "$size" "$plain"
done
