"""What the process imports that programs are forked from. Nothing is computed: no thread lives through a fork."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import speechbrain.lobes.models.HifiGAN  # noqa: E402, F401
import torch  # noqa: E402
import torch.utils.tensorboard  # noqa: E402, F401
import transformers.models.wavlm.modeling_wavlm  # noqa: E402, F401

import evaluate  # noqa: E402, F401
import inference  # noqa: E402, F401
import running.run  # noqa: E402, F401
import train  # noqa: E402, F401
import utils.launch  # noqa: E402, F401
import utils.trainer  # noqa: E402, F401

torch.set_num_threads(1)
