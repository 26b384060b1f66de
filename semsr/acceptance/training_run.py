"""Stage `train`: the training, which goes on from its last saved state after a kill."""

import json
from pathlib import Path

from semsr.acceptance.estimating import read_ranges
from semsr.acceptance.layout import Layout, Settings, read_json
from semsr.acceptance.planning import training_overrides
from training.ground.whole_file import write_whole_text
from training.run.folder import RunDir


def train_planned(settings: Settings, layout: Layout) -> list[Path]:
    """Train as planned; returns the checkpoint.

    Raises:
        Exception: All that `training.trainer.train` raises.
    """
    from training.trainer import train

    plan = read_json(layout.plan)
    folder = RunDir(layout.run)
    is_begun = folder.config.is_file()
    if not is_begun:
        # The run takes the estimate of its stage, which was made of the same images.
        ranges = read_ranges(layout).model_dump_json(indent=2)
        write_whole_text(folder.degradation_of(""), ranges + "\n")
    overrides = [
        *training_overrides(settings, layout),
        f"optimization.steps={plan['steps']}",
        f"optimization.learning_rate={json.dumps(plan['learning_rate'])}",
        f"run.log_every_steps={plan['log_every_steps']}",
        f"run.checkpoint_every_steps={plan['checkpoint_every_steps']}",
    ]
    start = None if is_begun else plan["start"]["file"]  # a run keeps a copy of its start weights
    checkpoint = train(
        settings.recipe,
        data_root=layout.data,
        run_dir=layout.run,
        overrides=overrides,
        resume=is_begun,
        vgg16=settings.vgg16,
        start_from=None if start is None else Path(start),
    )
    return [checkpoint]
