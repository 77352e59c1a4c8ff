"""Entry point of ``hyperface``: parse, run, and turn bad input into one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hyperface_jax.errors import InputError, PeerError

_BAD_INPUT = 2
_INTERRUPTED = 130
_PEER_STOPPED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: the words after ``hyperface``; None takes those of the process.

    Returns:
        The exit code: 0 done, 2 bad input, 3 another process of the job stopped, 130 stopped by a
        signal with everything saved.
    """
    try:
        command = parse(arguments)
    except ModuleNotFoundError as error:
        if error.name != "tyro":
            raise
        print("hyperface needs its extras: pip install 'hyperface_jax[cli]'", file=sys.stderr)
        return _BAD_INPUT
    try:
        return command.run()
    except InputError as error:
        print(f"hyperface: error: {error}", file=sys.stderr)
        return _BAD_INPUT
    except PeerError:
        return _PEER_STOPPED
    except KeyboardInterrupt:
        print("hyperface: interrupted", file=sys.stderr)
        return _INTERRUPTED


def parse(arguments: Sequence[str] | None = None) -> Any:
    """Return the verb of a command line with its settings, and run nothing.

    Args:
        arguments: the words after ``hyperface``; None takes those of the process.

    Raises:
        SystemExit: they are no command, or ask for help.
    """
    import tyro

    from hyperface_jax.cli.bounds import Bounds
    from hyperface_jax.cli.demo import Demo
    from hyperface_jax.cli.diversity import Diversity
    from hyperface_jax.cli.embed import Embed
    from hyperface_jax.cli.evaluate import Evaluate
    from hyperface_jax.cli.faces import Faces
    from hyperface_jax.cli.leakage import Leakage
    from hyperface_jax.cli.pack import Pack
    from hyperface_jax.cli.plan import Plan
    from hyperface_jax.cli.report import Report
    from hyperface_jax.cli.synthesize import Synthesize
    from hyperface_jax.cli.train import Train

    verbs = {
        "pack": Pack,
        "bounds": Bounds,
        "plan": Plan,
        "report": Report,
        "synthesize": Synthesize,
        "train": Train,
        "faces": Faces,
        "embed": Embed,
        "evaluate": Evaluate,
        "leakage": Leakage,
        "diversity": Diversity,
        "demo": Demo,
    }
    return tyro.extras.subcommand_cli_from_dict(
        verbs,
        args=arguments,
        prog="hyperface",
        description="Spherical codes for synthetic face identities.",
    )


if __name__ == "__main__":
    sys.exit(main())
