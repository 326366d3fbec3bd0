"""Renders [{template, context}] from standard input as transformers does; prints the texts as JSON.

Each is rendered with blocks trimmed, as transformers has it, and without: it must make no difference."""

import json
import sys

sys.path.insert(0, sys.argv[1])
from jinja2.sandbox import ImmutableSandboxedEnvironment


def tojson(value, ensure_ascii=False, indent=None):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def render(template, context, trim):
    environment = ImmutableSandboxedEnvironment(trim_blocks=trim, lstrip_blocks=trim)
    environment.filters["tojson"] = tojson
    return environment.from_string(template).render(**context)


texts = []
for job in json.load(sys.stdin):
    text, other = (render(job["template"], job["context"], trim) for trim in (True, False))
    assert text == other, (text, other)
    texts.append(text)
json.dump(texts, sys.stdout)
