from __future__ import annotations

import demo
from tests.toy import ROOT, read, write_corpus
from utils.recipe import Recipe


def test_the_toy_parts_fit_the_toy_recipe(tmp_path) -> None:
    corpus = write_corpus(tmp_path)
    demo.make_toy_parts(tmp_path / "toy", corpus["tr_data_scp_path"])
    names = {"wavlm_path": "wavlm", "kmeans_path": "kmeans", "hifi_gan_path": "vocoder"}
    overrides = [f"{key}={tmp_path}/toy/{name}" for key, name in names.items()]
    overrides += [f"{key}={value}" for key, value in demo.SIZES.items()]
    model = Recipe(ROOT / "config/tselm_toy.yaml", overrides=overrides).build("model")["model"]
    mixture, enrolment = read("mix_clean", "utt0")[0], read("aux_s1", "utt0")[0]
    assert model.extract(mixture, enrolment).shape == mixture.shape
