"""Write the reference of the command line, docs/commands.md, from the settings that it parses.

    python -m benchmarks.command_line [--check]

With ``--check`` nothing is written and the exit code says whether the page agrees with the settings.
"""

from __future__ import annotations

import argparse
import html
import inspect
import sys
from collections.abc import Iterable
from dataclasses import MISSING
from typing import Any

from benchmarks.common import ROOT
from hyperface_jax import runs
from hyperface_jax.cli._leaves import Leaf, in_flags, leaves
from hyperface_jax.cli._parser import General
from hyperface_jax.cli._verbs import EXAMPLES, VERBS

PAGE = ROOT / "docs" / "commands.md"
HEAD = """\
# The command line

<!-- Written by `python -m benchmarks.command_line`: change the settings, not this page. -->

`hyperface VERB --help` prints what stands here. An option with `...` takes several values. A switch such
as `--flip` has a second form, `--no-flip`. Settings may come
[from a file](faq.md#may-i-keep-settings-in-a-file). In Python they are dataclasses: [runs](api/runs.md).
"""


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        PAGE.write_text(page())
    elif not PAGE.exists() or PAGE.read_text() != page():
        print(f"{PAGE} does not agree with the settings")
        return 1
    return 0


def page() -> str:
    """Return the text of the page."""
    general = ["## Every verb", _options(leaves(General))]
    return "\n\n".join([HEAD.rstrip(), *map(_verb, VERBS), *general]) + "\n"


def _verb(verb: str) -> str:
    name = verb.capitalize()
    settings = getattr(runs, name)
    about = in_flags(inspect.getdoc(settings) or VERBS[verb], settings)
    parts = [f"## {verb}", about, f"```bash\nhyperface {verb} {EXAMPLES[verb]}\n```"]
    parts.append(f"In Python, with the source: {_entry(verb)} and {_entry(name)}.")
    found = [leaf._replace(help=in_flags(leaf.help, settings)) for leaf in leaves(settings)]
    for group in sorted(dict.fromkeys(leaf.group for leaf in found), key=bool):
        parts += [f"**{group.capitalize()}**"] if group else []
        parts.append(_options(leaf for leaf in found if leaf.group == group))
    return "\n\n".join(parts)


def _entry(name: str) -> str:
    return f"[`runs.{name}`](api/runs.md#hyperface_jax.runs.{name})"


def _options(found: Iterable[Leaf]) -> str:
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    for leaf in found:
        name = leaf.in_words(None)
        if leaf.kind is not bool and not leaf.option.is_positional:
            name = f"{name} {leaf.metavar}"
        rows.append(f"| {_code(name)} | {_default(leaf)} | {_cell(leaf.help)} |")
    return "\n".join(rows)


def _default(leaf: Leaf) -> str:
    value = leaf.default
    if value is MISSING:
        return "must be given"
    if value in (None, ()):
        return ""
    shown: Any = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return _code(leaf.in_words(str(value)) if leaf.kind is bool else str(shown))


def _code(text: str) -> str:
    # Markdown readers do not agree on what an escaped bar is inside of backquotes.
    return (
        f"<code>{html.escape(text).replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
