"""A scan over a cluster in a process of its own, to be killed or left alone; see the tests.

python cluster_process.py SOURCE SINK ADDRESS [WORK]
"""

import sys
from pathlib import Path

from tests.cluster_engines import load_noting
from tests.scans import scan

if __name__ == "__main__":
    report = scan(
        sys.argv[1],
        sys.argv[2],
        work=Path(sys.argv[4]) if len(sys.argv) > 4 else None,
        cluster=sys.argv[3],
        worker_cpus=1,
        engine_loader=load_noting,
    )
    sys.stdout.write(report.text())
