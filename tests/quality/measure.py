#!/usr/bin/env python3
"""Holds --quality fast, good and best against llama-imatrix + llama-quantize, on held-out text; see `make quality`.

All files of a type come from the same F16 file or checkpoint, and llama.cpp's importance matrix from the same text that
`good` and `best` are calibrated on. Written to OUT: quality.md (tables), quality.svg (bytes against KL), and whatever
was made on the way, which the next run takes up again. Only Python's own library is needed.
"""

import argparse
import json
import math
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Held-out text: documents of this repository, which share no line with the calibration text in src/calibrate/text.
KINDS = {
    "English": ["docs/verify.md", "docs/guide.md", "docs/hub.md", "docs/reliability.md", "docs/json.md", "docs/tools.md",
                "docs/receipt.md", "ARCHITECTURE.md", "CONTRIBUTING.md"],
    "Chinese": ["docs/guide.zh-CN.md", "README.zh-CN.md"],
    "code": ["tests/hf/*.py", "tests/faults/*.c", "tests/ollama/go/*.go", "tests/conversations/*.mjs", "src/forward/*.rs", "src/bpe.rs",
             "quant/src/*.rs"],
}
RIVAL = "llama.cpp, imatrix"
OURS = ["fast", "good", "best"]
TARGET = "best, same size"


def main():
    args = arguments()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    texts, calibration = write_texts(args)
    files = {kind: make(args, kind, calibration) for kind in args.types}
    results = {kind: {text: compare(args, kind, made, text, texts[text]) for text in texts} for kind, made in files.items()}
    llama = {kind: llama_kl(args, kind, made, texts) for kind, made in files.items()} if args.perplexity else {}
    table = tables(files, results, llama)
    (out / "quality.md").write_text(table, encoding="utf-8")
    (out / "quality.svg").write_text(plot(files, llama or results), encoding="utf-8")
    print(table)
    print(f"{out / 'quality.md'}, {out / 'quality.svg'}", file=sys.stderr)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--program", type=Path, required=True, help="glm2llama")
    parser.add_argument("--llama", type=Path, help="folder of llama.cpp's programs [default: those of PATH]")
    parser.add_argument("--out", type=Path, default=ROOT / "target/quality")
    parser.add_argument("--types", nargs="+", default=["Q4_K_M", "Q3_K_M", "Q2_K"])
    parser.add_argument("--tokens", type=int, default=10240, help="that are predicted, of each kind of text")
    parser.add_argument("--exact-tokens", type=int, help="the same for f32 arithmetic, which is slow [default: as --tokens]")
    parser.add_argument("--texts", type=Path, help="folder of held-out text, NAME.txt for each kind [default: of this repository]")
    parser.add_argument("--calibration", type=Path, help="folder of text to calibrate on, all .txt in it [default: the built-in text]")
    parser.add_argument("--calibration-tokens", type=int, default=8192)
    args = parser.parse_args()
    args.llama_imatrix, args.llama_quantize, args.perplexity = (
        program(args.llama, name, needed) for name, needed in [("llama-imatrix", True), ("llama-quantize", True), ("llama-perplexity", False)])
    return args


def program(folder, name, needed):
    found = shutil.which(name, path=str(folder) if folder else None)
    if not found and needed:
        sys.exit(f"{name} is not in {folder or 'PATH'}: get llama.cpp's programs (its releases, or a package of your system's), "
                 "and name their folder: make quality LLAMA=folder")
    if not found:
        print(f"{name} is not there: no divergence in llama.cpp's own arithmetic is measured", file=sys.stderr)
    return found


def run(*command, log=None):
    """Runs a program; returns what it printed on stdout. Its stderr goes to a file, and is shown when it fails."""
    command = [str(part) for part in command]
    print("$ " + " ".join(command), file=sys.stderr)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    if log:
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return done.stdout


def write_texts(args):
    """The held-out text of each kind, and the calibration texts: as files, so that all programs read the same."""
    held_out = folder_of_texts(args.texts) if args.texts else own_held_out()
    parts = folder_of_texts(args.calibration) if args.calibration else built_in_calibration()
    seen = {line for text in parts.values() for line in text.splitlines() if len(line) > 40}
    for kind, text in held_out.items():
        both = seen.intersection(text.splitlines())
        assert not both, f"{kind}: calibrated on, and so not held out: {both}"

    def write(name, text):
        file = args.out / f"{name}.txt"
        file.write_text(text, encoding="utf-8")
        return file

    write("calibration", "\n".join(parts.values()))
    return ({kind: write(f"text-{kind}", text) for kind, text in held_out.items()},
            [write(f"calibration-{name}", text) for name, text in parts.items()])


def folder_of_texts(folder):
    texts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.txt"))}
    return texts or sys.exit(f"{folder}: no .txt in it")


def own_held_out():
    texts = {}
    for kind, names in KINDS.items():
        found = [sorted(ROOT.glob(name)) for name in names]
        assert all(found), f"{kind}: {names}: one of them is gone"
        texts[kind] = "\n".join(file.read_text(encoding="utf-8") for files in found for file in files)
    return texts


def built_in_calibration():
    source = ROOT / "src/calibrate/text"
    parts = {name: (source / f"{name}.txt").read_text(encoding="utf-8") for name in ["english", "chinese", "code"]}
    chats = json.loads((source / "chats.json").read_text(encoding="utf-8"))
    return parts | {"chats": "\n\n".join(message["content"] for chat in chats for message in chat)}


def make(args, kind, calibration):
    """The files of a type, by method."""
    out = args.out
    f16, matrix = out / "F16.gguf", out / "llama.imatrix.gguf"
    convert = [args.program, "convert", args.model, "--no-modelfile", "--quiet"]
    if not f16.exists():
        # Padded, so that llama-quantize has the shapes that the types need.
        run(*convert, "--type", "F16", "--ffn-pad", "on", "--output", f16)
    if not matrix.exists():
        run(args.llama_imatrix, "-m", f16, "-f", out / "calibration.txt", "-o", matrix, "-c", "512", log=out / "llama-imatrix.log")
    files = {RIVAL: out / f"{kind}-llama.gguf"}
    if not files[RIVAL].exists():
        run(args.llama_quantize, "--imatrix", matrix, f16, files[RIVAL], kind, log=out / f"{kind}-llama-quantize.log")
    measured = [part for text in calibration for part in ("--calibration", text)] + ["--calibration-tokens", args.calibration_tokens]
    for quality in OURS:
        files[quality] = out / f"{kind}-{quality}.gguf"
        if not files[quality].exists():
            options = [] if quality == "fast" else measured
            run(*convert, "--type", kind, "--ffn-pad", "on", "--quality", quality, *options, "--output", files[quality])
    if "--target-size" in run(args.program, "convert", "--help"):
        files[TARGET] = out / f"{kind}-target.gguf"
        if not files[TARGET].exists():
            size = files[RIVAL].stat().st_size
            run(*convert, "--quality", "best", "--target-size", size, *measured, "--output", files[TARGET])
    return files


def compare(args, kind, files, name, text):
    """What `glm2llama compare` finds on a text: each file's KL, and its ratio to the rival's with the interval."""
    kept = args.out / f"{kind}-{name}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    tokens = args.exact_tokens or args.tokens
    stdout = run(args.program, "compare", args.model, *files.values(), "--text", text, "--tokens", tokens, "--json")
    events = [json.loads(line) for line in stdout.splitlines()]
    of = lambda wanted: [event["data"] for event in events if event["type"] == wanted]
    found = {"summary": of("summary")[0]}
    for method, file in zip(files, of("file")):
        found[method] = {"kl": file["mean_kl"], "top_1": file["top_1_agreement"]}
    for method, pair in zip(list(files)[1:], of("comparison")):
        # The rival stands first, so its divergence is told as a part of ours: turned over here.
        found[method]["ratio"] = [1 / pair["ratio"], 1 / pair["ratio_high"], 1 / pair["ratio_low"]]
    kept.write_text(json.dumps(found, indent=1))
    return found


def llama_kl(args, kind, files, texts):
    """The same in llama.cpp's own arithmetic, from llama-perplexity: by kind of text, as `compare`."""
    kept = args.out / f"{kind}-llama-kl.json"
    chunks = json.loads(kept.read_text()) if kept.exists() else {}
    for name, text in texts.items():
        base = args.out / f"{name}.logits"
        # llama-perplexity predicts the second half of each window.
        common = ["-f", text, "-c", "512", "-b", "512", "--chunks", max(2, args.tokens // 256), "--kl-divergence-base", base]
        missing = [method for method in files if method not in chunks.get(name, {})]
        if missing and not base.exists():
            run(args.perplexity, "-m", args.out / "F16.gguf", *common, log=args.out / f"{name}-llama-base.log")
        for method in missing:
            log = args.out / f"{files[method].stem}-{name}-llama-kl.log"
            run(args.perplexity, "-m", files[method], *common, "--kl-divergence", log=log)
            # The mean so far stands in the row of each chunk, third; some builds lose what is printed at the end.
            rows = re.findall(r"^ *\d+ +(?:[-\d.]+ ± +[-\d.]+ +){2}([-\d.]+) ±", log.read_text(encoding="utf-8"), re.MULTILINE)
            if not rows:
                sys.exit(f"{log}: no KL divergence")
            sums = [0.0] + [float(mean) * count for count, mean in enumerate(rows, 1)]
            chunks.setdefault(name, {})[method] = [after - before for before, after in zip(sums, sums[1:])]
            kept.write_text(json.dumps(chunks, indent=1))
    return {name: {method: {"kl": sum(of[method]) / len(of[method]), "ratio": ratio(of[method], of[RIVAL])} for method in files}
            | {"summary": {"windows": len(of[RIVAL]), "window_tokens": 512, "predictions": 255 * len(of[RIVAL])}}
            for name, of in chunks.items()}


def ratio(ours, rival):
    """That of the sums over the same windows, with the middle 95 % of what 10,000 draws of windows give."""
    assert len(ours) == len(rival), "windows of other texts"
    chance, draws = random.Random(1), []
    for _ in range(10_000):
        drawn = chance.choices(range(len(ours)), k=len(ours))
        draws.append(sum(ours[i] for i in drawn) / sum(rival[i] for i in drawn))
    draws.sort()
    return [sum(ours) / sum(rival), draws[249], draws[9749]]


def mean_kl(found, method):
    return sum(of[method]["kl"] for of in found.values()) / len(found)


def tables(files, results, llama):
    lines = ["| type | file | bytes |", "|---|---|---|"]
    lines += [f"| {kind} | {method} | {file.stat().st_size:,} |" for kind, made in files.items() for method, file in made.items()]
    for title, found in [("In llama.cpp's own arithmetic", llama), ("In f32 arithmetic", results)]:
        if found:
            lines += ["", f"## {title}", ""] + table(files, found)
    return "\n".join(lines) + "\n"


def table(files, found):
    """Mean KL in nats, and as a part of that of the rival with its 95 % interval."""
    texts = list(next(iter(found.values())))
    lines = ["| type | file | " + " | ".join(texts) + " |", "|---" * (2 + len(texts)) + "|"]
    for kind, made in files.items():
        for method in made:
            of = [found[kind][name][method] for name in texts]
            part = lambda one: "" if method == RIVAL else ": {:.2f} ({:.2f} to {:.2f})".format(*one["ratio"])
            lines.append(f"| {kind} | {method} | " + " | ".join(f"{one['kl']:.4f}{part(one)}" for one in of) + " |")
    summaries = [found[kind][name]["summary"] for kind in files for name in texts]
    windows, tokens, predictions = (min(s[key] for s in summaries) for key in ["windows", "window_tokens", "predictions"])
    lines += ["", f"KL, and as a part of that of `{RIVAL}` with its 95 % interval. Windows of {tokens} tokens, at least {windows} of each "
              f"kind of text; no fewer than {predictions:,} predictions."]
    return lines


def plot(files, results):
    """Bytes against KL, a curve for each method; the KL's axis is logarithmic."""
    methods = list(next(iter(files.values())))
    points = {m: sorted((made[m].stat().st_size / 1e6, mean_kl(results[kind], m), kind) for kind, made in files.items()) for m in methods}
    colours = dict(zip(methods, ["#888888", "#4e79a7", "#59a14f", "#d62728", "#9467bd"]))
    width, height, left, right, top, bottom = 720, 440, 70, 170, 30, 50
    xs = [x for p in points.values() for x, _, _ in p]
    ys = [math.log10(y) for p in points.values() for _, y, _ in p]
    spread = (max(xs) - min(xs)) or 1
    x0, x1, y0, y1 = min(xs) - 0.08 * spread, max(xs) + 0.08 * spread, min(ys) - 0.1, max(ys) + 0.1
    px = lambda x: left + (x - x0) / (x1 - x0) * (width - left - right)
    py = lambda y: top + (y1 - math.log10(y)) / (y1 - y0) * (height - top - bottom)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    marks = [m * 10.0 ** e for e in range(-4, 3) for m in (1, 2, 5)]
    for y in (y for y in marks if y0 <= math.log10(y) <= y1):
        svg.append(f'<line x1="{left}" x2="{width - right}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    dashes = lambda method: ' stroke-dasharray="6 4"' if method == RIVAL else ""
    step = 10 ** math.floor(math.log10(x1 - x0))
    step = step / 2 if (x1 - x0) / step < 4 else step
    for i in range(math.ceil(x0 / step), math.floor(x1 / step) + 1):
        svg.append(f'<line x1="{px(i * step):.1f}" x2="{px(i * step):.1f}" y1="{top}" y2="{height - bottom}" stroke="#eee"/>'
                   f'<text x="{px(i * step):.1f}" y="{height - bottom + 16}" text-anchor="middle">{i * step:g}</text>')
    svg.append(f'<text x="{(left + width - right) / 2}" y="{height - 12}" text-anchor="middle">size of the file, MB</text>')
    svg.append(f'<text transform="translate(16 {(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">mean KL divergence, nats a token</text>')
    for row, method in reversed(list(enumerate(methods))):
        line = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y, _ in points[method])
        svg.append(f'<polyline points="{line}" fill="none" stroke="{colours[method]}" stroke-width="2"{dashes(method)}/>')
        for x, y, kind in points[method]:
            svg.append(f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3.5" fill="{colours[method]}"><title>{kind} {method}: {x:.1f} MB, {y:.4f}</title></circle>')
        y = top + 14 + 20 * row
        svg.append(f'<line x1="{width - right + 14}" x2="{width - right + 34}" y1="{y}" y2="{y}" stroke="{colours[method]}" stroke-width="3"{dashes(method)}/>'
                   f'<text x="{width - right + 40}" y="{y + 4}">{method}</text>')
    highest = max(points, key=lambda m: points[m][0][1])
    for x, y, kind in points[highest]:
        svg.append(f'<text x="{px(x) + 7:.1f}" y="{py(y) - 6:.1f}" fill="#555">{kind}</text>')
    return "\n".join(svg + ["</svg>"]) + "\n"


if __name__ == "__main__":
    main()
