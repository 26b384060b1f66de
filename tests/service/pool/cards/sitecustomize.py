"""Start-up hook of Python for pools in tests: their GPUs are the cards of `card_engine`.

The tests put this folder on PYTHONPATH, so that every process of the pool runs it.
"""

import sys
from dataclasses import replace

if "service.pool.gpus" in sys.orig_argv:
    import card_engine

    import engines.cuda

    engines.cuda.gpu_name = card_engine.card_name
elif "service.pool.engine" in sys.orig_argv:
    from engines.registry import ENGINES

    ENGINES["identity"] = replace(
        ENGINES["identity"],
        source="card_engine:load_card",
        precisions={"cuda": ("fp32",)},
    )
