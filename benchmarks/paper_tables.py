"""What the scripts that make a paper's tables share: their options, the making of their cells, and their results."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import common

from balancegan.core.errors import (
    BalanceGANError,
    DatasetError,
    DiskError,
    StoppedError,
    UsageError,
    WeightsMissingError,
)

OF_ALL_CELLS = (UsageError, DatasetError, DiskError, WeightsMissingError)  # what no other cell would escape


# Making cells ---------------------------------------------------------------------------------------------------------


def make_cells(cells, bring, deadline=math.inf):
    """Bring every cell to its result; the exit status, and how many have one.

    `bring(cell, watch)` keeps the result, and is false where the time is over before there is one.
    """
    status = finished = 0
    for cell in cells:
        watch = common.Watch(cell.label, deadline)
        try:
            if not bring(cell, watch):
                break
        except StoppedError as error:
            watch.note(error.message)
            status = status if watch.cut else error.exit_code
            break
        except OF_ALL_CELLS:
            raise
        except BalanceGANError as error:  # of this training alone
            watch.note(error.message)
            status = error.exit_code
            continue
        finished += 1
        watch.note("done")
    if finished < len(cells):
        print(f"{finished} of {len(cells)} cells are done; the same command makes the others", file=sys.stderr)
    return status, finished


def results_file(folder, name, quick):
    return folder / f"{name}{'-quick' * quick}.json"


# Showing them ---------------------------------------------------------------------------------------------------------


def between(warning, lines):
    """Lines as text, with a warning that cannot be overlooked where there is one."""
    return "\n".join([warning, "", *lines, "", warning] if warning else lines)


# Command line ---------------------------------------------------------------------------------------------------------


def table_parser(doc, methods, work):
    """A parser with the options that every script of a paper's tables has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=common.several(str, tuple(methods)), default=list(methods))
    parser.add_argument("--seeds", type=common.several(int), default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--weights", type=Path, help="Inception weights, without which FIDs do not compare")
    parser.add_argument("--work", type=Path, default=Path(work))
    parser.add_argument("--results", type=Path, default=common.HERE / "results")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--print", action="store_true", dest="only_print")
    parser.add_argument("--merge", type=Path, metavar="DIR", help="take over another machine's results")
    parser.add_argument("--commit", help="what to record where this is no git checkout")
    return parser


def parsed(parser, argv, check):
    """The arguments, after `check(parser, args)` where something is to be made."""
    args = parser.parse_args(argv)
    if args.merge and not args.merge.is_dir():
        parser.error(f"there is no folder {args.merge}")
    if not args.only_print and not args.merge:
        check(parser, args)
    return args


def check_splits(parser, folder):
    if missing := [split for split in ("train", "test") if not (folder / split).is_dir()]:
        parser.error(f"{folder} has no folder {missing[0]}")


def run(args, tables, name, *, key, make, warning):
    """Merge, print, or make cells and show the table that they are in; the exit status.

    Args:
        args: as `parsed` gave them.
        tables: by the names of their results files: `show(entries, quick)`, the table as text.
        name: of the table that `make(args)` makes cells of.
        key: of an entry.
        make: returns the exit status.
        warning: printed before quick cells are made.
    """
    ways = [(name, quick) for quick in (False, True) for name in tables]
    if args.merge:
        for way in ways:
            if entries := common.read(results_file(args.merge, *way)):
                common.merge(results_file(args.results, *way), entries, key)
    if args.only_print or args.merge:
        for name, quick in ways:
            entries = common.read(results_file(args.results, name, quick))
            if entries or not quick:
                print(tables[name](entries, quick), end="\n\n")
        return 0
    if args.quick:
        print(warning, flush=True)
    try:
        status = make(args)
    except BalanceGANError as error:
        return common.failure(error)
    print(tables[name](common.read(results_file(args.results, name, args.quick)), args.quick))
    return status
