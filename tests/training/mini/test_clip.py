import json

import lightning as L
import pytest
import torch
from torch.nn.functional import cosine_similarity

from regionlm.backbones.loading import load_backbone
from training.mini.clip import CaptionData, ContrastiveClipModule, normalise, position_window
from training.mini.export import export_clip
from training.world.scene_batches import CaptionBatches, Stage

STAGES = [
    Stage(2, 4, 64, (1.0,), (0.5, 0.9), patch_dropout=0.5),
    Stage(2, 4, 192, negatives=1),
]


def _trainer(folder, steps):
    return L.Trainer(
        accelerator="cpu", max_steps=steps, default_root_dir=folder, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


@pytest.fixture(scope="module")  # Muon's steps are slow on processors without bfloat16
def trained(drawn_sprites, tmp_path_factory):
    """A module after three steps, for reading only, and a folder with its checkpoint and export."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGIONLM_CACHE", str(drawn_sprites))
        L.seed_everything(0)
        module = ContrastiveClipModule(STAGES, warmup=1)
        before = module.clip.visual.proj.detach().clone()
        trainer = _trainer(folder, 3)
        trainer.fit(module, CaptionData(STAGES))
    assert not torch.equal(before, module.clip.visual.proj)
    trainer.save_checkpoint(folder / "some.ckpt")
    export_clip(folder / "some.ckpt", folder / "backbone")
    return module, folder


def test_training_resumes_with_the_next_batch(trained, world, tmp_path):
    _, folder = trained
    module = ContrastiveClipModule(STAGES, warmup=1)
    seen = []
    module.on_train_batch_start = lambda batch, number: seen.append(batch["pixels"].shape[-1])
    trainer = _trainer(tmp_path, 4)
    trainer.fit(module, CaptionData(STAGES), ckpt_path=folder / "some.ckpt", weights_only=True)
    assert seen == [192] and trainer.global_step == 4


def test_a_resumed_run_ends_with_the_weights_of_one_piece(world, tmp_path):
    stages = [Stage(4, 4, 192, negatives=1)]  # whole canvas, all patches: no randomness in a step

    def run(steps, checkpoint=None):
        L.seed_everything(0)
        module, trainer = ContrastiveClipModule(stages, warmup=2), _trainer(tmp_path, steps)
        trainer.fit(module, CaptionData(stages), ckpt_path=checkpoint, weights_only=True)
        return module, trainer

    whole, _ = run(2)
    _, stopped = run(1)
    stopped.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = run(2, tmp_path / "half.ckpt")
    for name, value in whole.clip.state_dict().items():
        torch.testing.assert_close(resumed.clip.state_dict()[name], value, msg=name)


def test_patch_dropout_is_the_stages(world):
    module = ContrastiveClipModule(STAGES).train()
    module.log_dict = lambda *args, **options: None
    batch = next(iter(CaptionBatches([Stage(1, 4, 192)], 0)))
    for share, same in ((0.5, False), (0.0, True)):
        losses = [module.training_step({**batch, "patch_dropout": share}, 0) for _ in range(2)]
        assert torch.equal(*losses) is same


def test_exported_folder_gives_the_same_vectors(trained):
    module, folder = trained
    backbone = load_backbone(str(folder / "backbone"), device="cpu")
    pixels = normalise(torch.randint(0, 256, (2, 3, 192, 192), dtype=torch.uint8))
    with torch.no_grad():
        wanted = module.clip.eval().encode_image(pixels)
    torch.testing.assert_close(backbone.embed_images(pixels), wanted, atol=1e-5, rtol=1e-5)
    assert backbone.pooling == "mean" and backbone.embed_texts(["a red fox"]).shape == (1, 128)
    config = json.loads((folder / "backbone" / "open_clip_config.json").read_text())
    assert config["preprocess_cfg"]["resize_mode"] == "squash"


def test_training_goes_on_from_exported_weights(trained):
    module, folder = trained
    further = ContrastiveClipModule(STAGES, start=folder / "backbone")
    for name, value in further.clip.state_dict().items():
        assert torch.equal(value, module.clip.state_dict()[name]), name


def test_texts_padded_to_the_batch_give_the_vectors_of_texts_padded_in_full(trained):
    _, folder = trained
    backbone = load_backbone(str(folder / "backbone"), device="cpu")
    one = backbone.embed_texts(["an owl"])
    both = backbone.embed_texts(["an owl", "a red car on the snow, a blue bus and scissors"])
    assert cosine_similarity(one, both[:1]).item() == pytest.approx(1, abs=1e-5)


def test_position_window_is_a_rectangle_of_the_table():
    clip = ContrastiveClipModule(STAGES).clip
    table = clip.visual.positional_embedding
    assert position_window(clip.visual, 192) is table
    window = position_window(clip.visual, 64)
    assert window.shape == (17, table.shape[1]) and torch.equal(window[0], table[0])
    rows = [int((table == row).all(1).nonzero()) - 1 for row in window[1:]]
    top, left = divmod(rows[0], 12)
    assert rows == [12 * (top + r) + left + c for r in range(4) for c in range(4)]
