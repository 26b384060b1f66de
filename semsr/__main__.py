"""`python -m semsr`: the same as the command `semsr`."""

import sys

from semsr.cli import main

sys.exit(main())
