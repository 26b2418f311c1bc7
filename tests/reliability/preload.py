"""What the server of :mod:`processes` does once, for all the tools that it starts."""

import functools
import gc
from pathlib import Path

import mmdet.apis  # noqa: F401
import torch._dynamo  # the first optimiser imports it
import torch.utils.tensorboard  # noqa: F401
from mmengine.config import Config, utils
from yapf.yapflib import yapf_api

import custom.engine.runner
import custom.engine.runs  # noqa: F401

# MMEngine parses a hundred YAML files for every base that begins with mmdet::, and
# formats the text of the config at each save of a checkpoint, which takes a second.
utils.load = functools.cache(utils.load)
yapf_api.FormatCode = lambda text, **_: (text, True)
Config.fromfile(Path(__file__).parent / "configs" / "tiny_epochs.py")
gc.freeze()  # the tools need not look through all this for garbage
