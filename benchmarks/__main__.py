"""Run every measurement in its own process, one after the other, and print one table.

Each script prints a table for a person and, as its last line, one JSON object
``{"benchmark": name, "rows": [{"what": …, "ours": …, "peer": …, "unit": …, "peer_name": …}, …]}``.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run all, or those whose names are given; exit code 1 if one fails."""
    wanted = sys.argv[1:]
    scripts = [path for path in sorted(HERE.glob("*.py")) if not path.name.startswith("_")]
    rows: list[dict[str, object]] = []
    failed: list[str] = []
    for script in scripts:
        if wanted and script.stem not in wanted:
            continue
        print(f"== {script.stem}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{script.stem}"],
            cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        print(done.stdout, flush=True)
        if done.returncode:
            failed.append(script.stem)
        else:
            rows += json.loads(done.stdout.splitlines()[-1])["rows"]
    machine = platform.processor() or platform.machine()
    print(f"== all: {machine}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for row in rows:
        print(line(row))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def line(row: dict[str, object]) -> str:
    """One measurement; with the ratio where a peer was measured in the same run."""
    ours, peer, unit = row["ours"], row.get("peer"), row.get("unit", "")
    text = f"{row['what']:<60} {ours:>14,.2f} {unit}"
    if isinstance(ours, (int, float)) and isinstance(peer, (int, float)) and peer and ours:
        ratio = peer / ours if row.get("lower_is_better") else ours / peer
        text += f"   {row.get('peer_name', 'peer')} {peer:,.2f}   {ratio:.2f}×"
    return text


if __name__ == "__main__":
    main()
