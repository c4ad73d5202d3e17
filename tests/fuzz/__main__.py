"""`python -m tests.fuzz --examples 10000`: so many spoilt files of each kind; exit code 1 if anything is found.

Each finding is printed with the seed of its kind and kept below `--keep`, whole, so that it can be read again:
`python -m tests.fuzz --again FILE --only KIND`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

from tests.fuzz.campaign import Campaign, fuzz
from tests.fuzz.child import Child
from tests.fuzz.specimens import specimens


def main() -> int:
    options = _parser().parse_args()
    known = specimens()
    names = options.only or list(known)
    with Child(known) as child:
        if options.again is not None:
            _say(child.read(names[0], options.again.read_bytes()).finding or "nothing is found")
            return 0
        found = 0
        for name in names:
            began = time.monotonic()
            campaign = fuzz(child, name, options.examples, options.seed)
            _say(f"{campaign.line}, {time.monotonic() - began:.0f} s")
            _tell(campaign, options.keep)
            found += len(campaign.findings)
    _say(f"{len(names)} kinds, {options.examples} examples each, seed {options.seed}: {found or 'no'} findings")
    return 1 if found else 0


def _tell(campaign: Campaign, keep: Path) -> None:
    for place, finding in campaign.findings.items():
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / f"{campaign.name.replace('/', '-')}-{hashlib.sha256(finding.data).hexdigest()[:8]}"
        path.write_bytes(finding.data)
        _say(f"    {place}: {finding.words}\n        {campaign.counts[place]} times, as {path}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="kinds, instead of all")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--again", type=Path, help="a file that was kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
