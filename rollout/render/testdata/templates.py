"""Writes templates/renderings.json: what Jinja2, set up as transformers sets it up, makes of the chat templates
and conversations there; and templates/dumps.json: what json.dumps writes. A template that raises an exception
renders as {"error": ...}. templates.mjs then confirms the renderings with another implementation.

    python3 templates.py    (Jinja2 3.1.2)
"""

import datetime
import json

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 11, 21, 12)


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise TemplateError(message)


def dump(rows, file):
    with open(file, "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n")


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = NOW.strftime

conversations = json.load(open("templates/conversations.json"))
renderings = []
for name in ["qwen2_5", "qwen3", "llama3_1", "llama3_2", "constructs", "whitespace", "methods"]:
    template = environment.from_string(open(f"templates/{name}.jinja").read())
    tokens = {"eos_token": "<|im_end|>"}
    if name.startswith("llama"):
        tokens = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    for c in conversations:
        row = {"template": name, "conversation": c["name"]}
        try:
            row["text"] = template.render(
                messages=c["messages"], tools=c.get("tools"), documents=None,
                add_generation_prompt=c.get("add_generation_prompt", False), **tokens, **c.get("variables", {}))
        except TemplateError as error:
            row["error"] = str(error)
        renderings.append(row)
dump(renderings, "templates/renderings.json")

VALUES = [
    '{"b": 1, "a": [true, false, null], "": {}, "nested": {"z": [], "y": [[]], "x": [{}]}}',
    '"quotes \\" backslash \\\\ slash / <b>&amp;</b> \'"', '"\\u0000\\u001f\\u007f\\u0080\\u2028\\ufeff\\n\\r\\t\\b\\f"', '"é 中 👩‍👩‍👧 e\\u0301"',
    "[1, -1, 0, 12345678901234567890123, 9007199254740993, -9223372036854775808]",
    "[1.0, -0.0, 0.1, 1e16, 1e15, 123456789012345680.0, 1e-4, 1e-5, 1.5e300, 5e-324, 3.141592653589793, 1E5, 2.50]",
    '{"twice": 1, "other": 2, "twice": 3}', "null", "true", "[]", "{}", '""', "17", "1.25",
]
dumps = []
for text in VALUES:
    value = json.loads(text)
    dumps.append({"json": text, "line": tojson(value), "two": tojson(value, indent=2), "four": tojson(value, indent=4), "zero": tojson(value, indent=0)})
dump(dumps, "templates/dumps.json")
