#!/bin/sh
# Draws the upper part of verify's page on a model: screenshot.sh MODEL PICTURE.png. GLM2LLAMA names the program.
set -eu
model=$1
picture=$2
browser=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)} ||
    { echo "needs Chromium (the Debian package is called chromium)" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

"$GLM2LLAMA" convert "$model" --type Q8_0,Q4_K_M --no-modelfile --quiet --output "$scratch/model-{type}.gguf"
# The page has the command as it was typed: without the folders of the machine that drew it.
model=$(cd "$model" && pwd)
ln -s "$model" "$scratch/model"
(cd "$scratch" && "$GLM2LLAMA" verify model model-Q8_0.gguf model-Q4_K_M.gguf --report page.html >/dev/null)
"$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
    --user-data-dir="$scratch/profile" --blink-settings=preferredColorScheme=1 --window-size=1000,1460 \
    --screenshot="$scratch/page.png" "file://$scratch/page.html" 2>/dev/null
cp "$scratch/page.png" "$picture"
ls -l "$picture"
