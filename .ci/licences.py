"""Prints the licences of all crates that are built in: what their authors ask of those who give the program on."""

import json
import pathlib
import subprocess

metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--locked"]))
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

# What the program is built of, on any system: no tools of the build, nothing of the tests.
found, waiting = set(), [metadata["resolve"]["root"]]
while waiting:
    node = waiting.pop()
    if node not in found:
        found.add(node)
        waiting += [
            dependency["pkg"]
            for dependency in nodes[node]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        ]

texts = {}
for package in sorted((packages[node] for node in found), key=lambda package: package["name"]):
    name = f"{package['name']} {package['version']} ({package['license']})"
    files = pathlib.Path(package["manifest_path"]).parent.iterdir()
    words = ("license", "licence", "copying", "notice", "unlicense", "copyright")
    for file in sorted(file for file in files if file.is_file() and file.name.lower().startswith(words)):
        texts.setdefault(file.read_text(errors="replace").strip(), []).append(name)
    if not any(name in names for names in texts.values()):
        texts.setdefault(f"(no text in the crate; {package['license']}, {package['repository']})", []).append(name)

for text, names in texts.items():
    print("=" * 80, *dict.fromkeys(names), "-" * 80, text, sep="\n", end="\n\n")
