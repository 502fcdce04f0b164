"""Parse, run, and turn every outcome into an exit status and words.

0 done, 1 the work failed, 2 bad arguments or input, 130 stopped with Ctrl-C (what was done is kept where the verb says so).
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import InputError, SmlmError
from . import calibrate, convert, deconvolve, demo, doctor, evaluate, find, reconstruct, render, simulate, structured, train, views
from .progress import Stopped

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
VERBS = (calibrate, views, train, reconstruct, simulate, deconvolve, find, evaluate, render, convert, structured, demo, doctor)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and where help is, instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end with status 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}\nSee: {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Build the parser with all verbs."""
    top = Parser(
        prog="vsmlm",
        description="Single-molecule localization in three dimensions: raw camera frames to molecules.",
        epilog="Lengths are in the sample and in nm unless the name says otherwise; frames count from 0; "
        "position 0 is the centre of camera pixel (0, 0). Exit status: 0 done, 1 the work failed, 2 bad arguments or input, "
        "130 stopped with Ctrl-C.",
    )
    top.add_argument("--version", action="version", version=f"vsmlm {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for module in VERBS:
        verb = verbs.add_parser(module.NAME, help=module.SUMMARY, description=module.SUMMARY + " " + module.DETAILS)
        module.add_arguments(verb)
        verb.add_argument("--quiet", action="store_true", help="No progress and no notes on stderr.")
        verb.add_argument("--debug", action="store_true", help="Show the traceback of an error, for a bug report.")
        verb.set_defaults(run=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # into a file or a pipe, too, results and progress come in the order in which they happen
        sys.stdout.reconfigure(line_buffering=True)
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:  # help, version or bad arguments; all is said
        return int(stop.code or 0)
    try:
        return int(args.run(args) or DONE)
    except InputError as error:
        return _explain(args, BAD_INPUT, str(error))
    except SmlmError as error:
        return _explain(args, FAILED, str(error))
    except (Stopped, KeyboardInterrupt):
        return _explain(args, INTERRUPTED, "stopped; nothing was written")
    except BrokenPipeError:  # `vsmlm ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except MemoryError:
        return _explain(args, FAILED, "not enough memory; use a smaller region, fewer frames at once or larger pixels")
    except Exception as error:
        return _explain(
            args,
            FAILED,
            f"something went wrong inside the program: {type(error).__name__}: {error}\n"
            "Please report it with the output of the same command and --debug.",
        )


def _explain(args: argparse.Namespace, status: int, words: str) -> int:
    if args.debug:
        traceback.print_exc()
    print(f"vsmlm {args.verb}: {words}", file=sys.stderr)
    return status
