from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner


class CheckpointGuardHook(Hook):
    """Keep a checkpoint from running code, and refuse to resume from one without a training state.

    Args:
        resume: Whether the run resumes from the checkpoint, rather than loading its weights only.

    Raises:
        ValueError: The run resumes, and the checkpoint has no training state.
    """

    def __init__(self, resume: bool) -> None:
        self.resume = resume

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self.resume and not {'meta', 'message_hub', 'optimizer'} <= checkpoint.keys():
            raise ValueError(
                'The checkpoint has no training state to resume. '
                'To start from its weights, leave --resume out and set --cfg-options load_from=CHECKPOINT'
            )
        # Runner.resume executes this text as a config. MMEngine itself writes it under another name.
        if isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)
