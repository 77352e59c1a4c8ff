"""Entry point of ``hyperface``: parse, run, print; bad input gives one line and exit code 2."""

import difflib
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import hyperface_jax
from hyperface_jax import runs
from hyperface_jax.cli._verbs import VERBS
from hyperface_jax.errors import InputError, PeerError, Stopped

_BAD_INPUT, _PEER_STOPPED, _INTERRUPTED = 2, 3, 130
_HELP = """\
usage: hyperface [-h] [--version] [--print-completion SHELL] COMMAND ...

Spherical codes for synthetic face identities.

commands, in the order of the method:
{commands}

options:
  -h, --help                show this page; "hyperface pack --help" shows that of pack
  --version                 show the version
  --print-completion SHELL  print a completion script for bash or zsh, for example
                            hyperface --print-completion bash > \\
                              ~/.local/share/bash-completion/completions/hyperface"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: the arguments after ``hyperface``; None takes those of the process.

    Returns:
        The exit code: 0 if done, 2 for bad input, 3 if another process of the job stopped, 130 if
        stopped by a signal with everything saved.
    """
    try:
        return _run(*_parsed(arguments))
    except InputError as error:
        print(f"hyperface: error: {error}", file=sys.stderr)
        return _BAD_INPUT
    except PeerError:
        return _PEER_STOPPED
    except KeyboardInterrupt:
        print("hyperface: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        if error.name not in ("tyro", "rich", "yaml"):
            raise
        print("hyperface needs its extras: pip install '.[cli]' in a checkout", file=sys.stderr)
        return _BAD_INPUT
    finally:
        _let_go_of_a_closed_pipe()


def parse(arguments: Sequence[str] | None = None) -> Any:
    """Return the settings that a command line as for :func:`main` gives, and run nothing.

    Raises:
        SystemExit: the arguments are invalid, or ask for help.
    """
    return _parsed(arguments)[0]


def _parsed(arguments: Sequence[str] | None) -> tuple[Any, Any]:
    """Return the settings of a verb, and the general ones."""
    first, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if first in ("-h", "--help", "--version"):
            print(f"hyperface {hyperface_jax.__version__}" if first == "--version" else _help())
            raise SystemExit(0)
        from hyperface_jax.cli import _parser

        if first == "--print-completion":
            if rest not in (["bash"], ["zsh"]):
                raise InputError("--print-completion: give bash or zsh")
            _parser.print_completion(rest[0])
        if first not in VERBS:
            close = difflib.get_close_matches(first, VERBS, n=1)
            hint = f"did you mean {close[0]}?" if close else "hyperface --help lists them"
            raise InputError(f"{first!r} is no command: {hint}")
        return _parser.parse(first, rest)
    except BrokenPipeError:
        raise SystemExit(0) from None


def _help() -> str:
    lines = [f"  {verb:11} {summary}" for verb, summary in VERBS.items()]
    lines.insert(list(VERBS).index("plan"), "\nother commands:")
    return _HELP.format(commands="\n".join(lines))


def _run(settings: Any, general: Any) -> int:
    import jax

    from hyperface_jax import processes
    from hyperface_jax.cli._config import as_yaml
    from hyperface_jax.cli._leaves import in_flags
    from hyperface_jax.cli._terminal import make_watch, tell

    if general.print_config:
        tell(as_yaml(settings), sys.stdout)
        return 0
    translate = partial(in_flags, settings=type(settings))
    watch = make_watch(translate, is_quiet=general.quiet, is_json=general.json)
    code = 0
    try:
        result = getattr(runs, type(settings).__name__.lower())(settings, watch=watch)
        text = (
            json.dumps(result.summary, indent=2, ensure_ascii=False)
            if general.json
            else translate(result.text)
        )
    except InputError as error:
        raise InputError(translate(str(error))) from error
    except Stopped as stopped:
        code, text = _INTERRUPTED, str(stopped)
    # A process that is alone is not asked whether it is the first: that would start its devices.
    if text and (not jax.distributed.is_initialized() or processes.is_first_process()):
        tell(text, sys.stdout)
    return code


def _let_go_of_a_closed_pipe() -> None:
    """Discard what a reader such as ``head`` has left unread, so that Python prints no traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
