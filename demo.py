"""The whole system in a few minutes on a CPU, from nothing: `make demo`, or `python demo.py --help`.

Makes synthetic voices, toy frozen parts, trains a toy TSELM, extracts a test list with two processes, evaluates what
came out, and prints the token error beside the error of copying the mixture's tokens. The encoder and the vocoder have
random weights: the tokens carry something to predict, but what is heard in the output is noise, not speech. And the
tokens of the mixture alone, without the enrolments around it, are nearer to the target's than what a few minutes of
training give: the evaluation's table shows that too.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

# Those that need no download.
METRICS = ("tokens", "predicted_tokens", "talker", "dnsmos", "stoi", "estoi", "pesq", "si_sdr", "si_sdri")
CLUSTERS, LAYERS = 50, (1, 3, 7)
# What makes config/tselm_toy.yaml a matter of minutes, beside the random parts.
SIZES = {
    "ssl_layers": list(LAYERS), "vocoder_layers": list(LAYERS), "num_clusters": CLUSTERS, "embedding_dim": 64,
    "fusion_ffn": 128, "d_model": 64, "num_layers": 3, "lm_ffn": 128, "mix_length": 32080, "regi_length": 32080,
}  # fmt: skip
TRAINING = {"epoch_num": 400, "lr": 0.001, "precision": "fp32"}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="exp/demo", type=Path, metavar="DIR", help="where all goes (%(default)s)")
    parser.add_argument("--hours", default=0.5, type=float, help="of synthetic training speech (%(default)s)")
    parser.add_argument("--epochs", default=8, type=int, help="of toy training (%(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    data, toy, out = args.output / "data", args.output / "toy", args.output / "extracted"
    started = time.time()

    step("synthetic voices: training speech, and dev and test mixtures of other voices")
    run("-m", "data.prepare.synthetic", "--output", data, "--hours", args.hours, "--test", 30)

    step("toy frozen parts: a WavLM and a vocoder with RANDOM weights, and k-means on the WavLM's features")
    if not (toy / "vocoder/vocoder.json").exists():
        make_toy_parts(toy, data / "train.json")
    print(f"in {toy}")

    step("training (Ctrl-C saves; the same command continues)")
    paths = {"wavlm_path": toy / "wavlm", "kmeans_path": toy / "kmeans", "hifi_gan_path": toy / "vocoder", **SIZES}
    lists = {
        "tr_data_scp_path": data / "train.json",
        "cv_mix_path": data / "dev/mix_clean.scp",
        "cv_ref_path": data / "dev/aux_s1.scp",
        "cv_clean_path": data / "dev/s1.scp",
    }
    recipe, log, ckpt = "config/tselm_toy.yaml", args.output / "log", args.output / "ckpt"
    where = ("--config_path", recipe, "--log", log, "--ckpt_path", ckpt)
    run("train.py", *where, *overrides({**paths, **lists, **TRAINING, "epoch": args.epochs}))

    step("extraction of the test mixtures with two processes")
    run(
        "inference.py",
        "-scp",
        data / "test",
        "-config",
        recipe,
        "-ckpt",
        ckpt / "best.pth",
        "--output",
        out,
        "-gpus",
        "cpu",
        "-proc",
        2,
        "--save-tokens",
        *overrides(paths),
    )

    step("evaluation: of the extractions, of the mixtures (the floor), and of the targets' own tokens (the ceiling)")
    where = ("-scp", data / "test", "--output", out, "-config", recipe, "-gpus", "cpu")
    run("evaluate.py", *where, "--floor-and-ceiling", "--metrics", *METRICS, *overrides(paths))

    step("result")
    report(log / "metrics.jsonl", out)
    print(f"all of it took {(time.time() - started) / 60:.1f} minutes; TensorBoard: tensorboard --logdir {log}")
    print(f"to look at and listen to: {(out / 'report.html').absolute()}")
    return 0


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def overrides(values: dict[str, object]) -> list[str]:
    return [text for key, value in values.items() for text in ("--override", f"{key}={value}")]


def run(*command: object) -> None:
    """Run one of the programs, and show its command line. Ctrl-C is for the program, which may have to save."""
    arguments = [str(part) for part in command]
    print("$ python " + shlex.join(arguments), flush=True)
    process = subprocess.Popen([sys.executable, *arguments])
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = process.wait()
    signal.signal(signal.SIGINT, previous)
    if status:
        raise SystemExit(status)


def make_toy_parts(folder: Path, speakers: Path) -> None:
    """Write ``wavlm``, ``kmeans`` and ``vocoder`` folders, in the forms that recipes read."""
    import torch
    from sklearn.cluster import MiniBatchKMeans
    from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator
    from transformers import WavLMConfig, WavLMModel

    from data import audio
    from data.speakers import read_speakers
    from models.released import write_kmeans, write_vocoder
    from models.wavlm import WavLM

    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=64, num_hidden_layers=max(LAYERS), num_attention_heads=4, intermediate_size=128,
        conv_dim=[64] * 7, feat_extract_norm="layer", do_stable_layer_norm=True,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    model = WavLMModel(config)
    # The first convolution keeps its random filters; the others only average over time. So the features are the
    # energies in random frequency bands, which speech shapes, and not the phases, which it does not.
    for layer in model.feature_extractor.conv_layers[1:]:
        layer.conv.weight.data.copy_(torch.eye(64)[:, :, None].expand_as(layer.conv.weight))
    model.save_pretrained(folder / "wavlm")

    encoder = WavLM(folder / "wavlm", layers=LAYERS)
    utterances = [path for paths in read_speakers(speakers).values() for path in paths[:4]]
    features = [encoder(torch.from_numpy(audio.read(path))[None]) for path in utterances]
    centres = {}
    for position, layer in enumerate(LAYERS):
        frames = torch.cat([hidden[position][0] for hidden in features]).numpy()
        fitted = MiniBatchKMeans(CLUSTERS, batch_size=4096, n_init=3, random_state=0).fit(frames)
        centres[layer] = torch.from_numpy(fitted.cluster_centers_)
    write_kmeans(folder / "kmeans", centres)

    arguments = dict(
        in_channels=32, out_channels=1, resblock_type="1", resblock_dilation_sizes=[[1, 3, 5]] * 3,
        resblock_kernel_sizes=[3, 7, 11], upsample_kernel_sizes=[11, 8, 8, 4, 4], upsample_initial_channel=64,
        upsample_factors=[5, 4, 4, 2, 2], vocab_size=len(LAYERS) * CLUSTERS + 1, embedding_dim=32, attn_dim=16,
    )  # fmt: skip
    write_vocoder(folder / "vocoder", arguments, UnitHifiganGenerator(**arguments).state_dict())


def report(metrics: Path, out: Path) -> None:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    valid = [line for line in lines if line["kind"] == "valid"]
    print("dev token error, percent (lower is better)")
    copied = valid[-1]["copy_error"]
    print(f"  copying the mixture's tokens, as the network hears them between two enrolments: {copied:.1f}")
    for line in valid:
        print(f"  trained, after epoch {line['epoch']} ({line['step']} steps): {line['error']:.1f}")
    print(f"{len(list(out.glob('*.wav')))} files in {out} (noise, not speech: the vocoder here is untrained)")


if __name__ == "__main__":
    sys.exit(main())
