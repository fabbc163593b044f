"""The bundled model on the examples: the real path from files to words."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from prefix_models.errors import PrefixModelError
from regionlm import (
    ClipViT,
    InputError,
    MaskInversion,
    ModelError,
    RegionCaptioner,
    make_embedder,
    read_regions,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
THINGS = {"sand": ["book", "fish", "fox"], "snow": ["mushroom", "cheese", "pineapple"]}


@pytest.fixture(scope="module")
def mini():
    return RegionCaptioner.from_pretrained("mini")


@pytest.mark.parametrize("scene", THINGS)
def test_names_the_examples(mini, scene):
    found = mini.caption(EXAMPLES / f"{scene}.png", EXAMPLES / f"{scene}-labels.png")
    named = [thing in region.text for region, thing in zip(found, THINGS[scene], strict=True)]
    assert sum(named) >= 2, [region.text for region in found]
    for region in found:
        assert 0.3 < region.dice <= 1 and 0 <= region.iou <= 1 and region.logprob < 0
        assert -1 <= region.cosine_to_image < 0.999
        heatmap = region.heatmap()
        assert heatmap.shape == (320, 320) and heatmap.min() >= 0 and heatmap.max() <= 1


def test_heatmap_is_where_the_mask_is(mini):
    image = EXAMPLES / "snow.png"
    for region in read_regions(EXAMPLES / "snow-labels.png", (320, 320)):
        heatmap = mini.caption(image, region)[0].heatmap()
        assert heatmap[region.mask].mean() > 1.5 * heatmap[~region.mask].mean()


def test_batch_equals_one_by_one(mini):
    images = [EXAMPLES / "snow.png", EXAMPLES / "sand.png"]
    masks = [EXAMPLES / "snow-labels.png", EXAMPLES / "sand-fox.png"]
    both = mini.caption_batch(images, masks)
    assert [len(found) for found in both] == [3, 1]
    for image, mask, found in zip(images, masks, both, strict=True):
        for a, b in zip(found, mini.caption(image, mask), strict=True):
            assert (a.text, a.region) == (b.text, b.region)
            assert a.logprob == pytest.approx(b.logprob, abs=1e-3)


def test_no_images_no_captions(mini):
    assert mini.caption_batch([], []) == []
    with pytest.raises(InputError, match="steps"):
        mini.caption_batch([], [], steps=-1)
    with pytest.raises(InputError, match="0 images, found 1 sets"):
        mini.caption_batch([], [EXAMPLES / "sand-fox.png"])


def test_unknown_words_are_not_matched(mini):
    with pytest.raises(InputError, match=r"'an xyzzy': the model mini does not know 'xyzzy'"):
        mini.match(EXAMPLES / "sand.png", EXAMPLES / "sand-fox.png", ["a fox", "an xyzzy"])


def test_stream_is_the_caption(mini):
    arguments = (EXAMPLES / "snow.png", EXAMPLES / "snow-pineapple.png")
    pieces = list(mini.stream(*arguments))
    assert "".join(pieces) == mini.caption(*arguments)[0].text


def test_a_bad_option_is_named_before_the_image_is_read(mini):
    for call in (mini.caption, mini.stream):
        with pytest.raises(PrefixModelError, match="temperature"):
            call("missing.png", "missing.png", temperature=-1)


@pytest.mark.parametrize("decoding", ["beam", "sample"])
def test_other_decodings(mini, decoding):
    arguments = (EXAMPLES / "snow.png", EXAMPLES / "snow-pineapple.png")
    first, again = (mini.caption(*arguments, decoding=decoding, seed=3)[0] for _ in range(2))
    assert first.text and first.text == again.text


def test_an_empty_text_is_not_matched(mini):
    for texts in ([""], ["a fox", " "]):
        with pytest.raises(InputError, match="texts: expected words, found an empty text"):
            mini.match(EXAMPLES / "sand.png", EXAMPLES / "sand-fox.png", texts)


def test_match_prefers_the_right_text(mini):
    texts = ["cheese", "a pineapple"]
    found = mini.match(EXAMPLES / "snow.png", EXAMPLES / "snow-cheese.png", texts)[0]
    assert found.probabilities[0] > 0.5 and sum(found.probabilities) == pytest.approx(1)


def test_two_masks_two_answers(mini):
    found = mini.caption(EXAMPLES / "snow.png", EXAMPLES / "snow-labels.png")
    assert len({region.text for region in found}) == 3


def test_zero_shot_prefix_ships_too():
    zero_shot = RegionCaptioner.from_pretrained("mini", prefix="zero-shot")
    assert zero_shot.caption(EXAMPLES / "sand.png", EXAMPLES / "sand-fox.png")[0].text
    with pytest.raises(PrefixModelError, match="adapted"):
        RegionCaptioner.from_pretrained("mini", prefix="other")


def test_arrays_and_pictures_are_welcome(mini):
    picture = Image.open(EXAMPLES / "sand.png")
    mask = np.asarray(Image.open(EXAMPLES / "sand-fox.png"))
    tensor = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    texts = {
        mini.caption(image, masks)[0].text
        for image in (picture, np.asarray(picture), tensor, tensor / 255)
        for masks in (mask, torch.from_numpy(mask.astype(np.uint8)), [mask])
    }
    assert len(texts) == 1


def test_a_batch_of_images_may_be_one_tensor(mini):
    picture = Image.open(EXAMPLES / "sand.png").convert("RGB")
    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    mask = torch.from_numpy(np.array(Image.open(EXAMPLES / "sand-fox.png")) > 0)
    [one] = mini.caption(picture, mask)
    found = mini.caption_batch(torch.stack([tensor, tensor]), [mask, mask])
    assert [captions[0].text for captions in found] == [one.text, one.text]
    texts = ["a fox", "a book"]
    assert mini.match(tensor, mask, texts) == mini.match(picture, mask, texts)
    assert torch.equal(mini.embed(tensor, mask).embeddings, mini.embed(picture, mask).embeddings)


def test_options_reach_maskinversion(mini):
    arguments = (EXAMPLES / "sand.png", EXAMPLES / "sand-fox.png")
    still = mini.embed(*arguments, steps=0)
    torch.testing.assert_close(still.embeddings[0], still.image_embedding)
    near = mini.embed(*arguments, alpha=50.0)
    assert near.cosine_to_image[0] > mini.embed(*arguments).cosine_to_image[0]
    with pytest.raises(InputError, match="steps"):
        mini.embed(*arguments, steps=-1)


def test_another_embedder_by_name_or_ready_made(mini):
    image, mask = EXAMPLES / "sand.png", EXAMPLES / "sand-fox.png"
    (found,) = mini.caption(image, mask, embedder="masked_crop", size=128)
    assert found.text and found.dice is None and found.iou is None
    assert -1 <= found.cosine_to_image < 0.999
    with pytest.raises(InputError, match="only the embedder maskinversion"):
        found.heatmap()
    ready = make_embedder("masked_crop", mini.backbone, size=128)
    for embedder, options in (("masked_crop", {"size": 128}), (ready, {})):
        same = mini.embed(image, mask, embedder=embedder, **options)
        torch.testing.assert_close(same.embeddings[0], found.embedding)
        (batched,) = mini.caption_batch([image], [mask], embedder=embedder, **options)[0]
        assert batched.text == found.text
        assert "".join(mini.stream(image, mask, embedder=embedder, **options)) == found.text
        chances = mini.match(image, mask, ["a fox", "a fish"], embedder=embedder, **options)
        assert chances[0].probabilities[0] > 0.5


def test_embedders_that_do_not_belong_are_named(mini):
    arguments = (EXAMPLES / "sand.png", EXAMPLES / "sand-fox.png")
    cases = [
        (InputError, "expected one of maskinversion", {"embedder": "blip"}),
        (InputError, "lr: not an option of the embedder crop", {"embedder": "crop", "lr": 0.1}),
        (InputError, "checkpoint", {"embedder": "alphaclip"}),
        (InputError, "options of its own", {"embedder": MaskInversion(mini.backbone), "size": 64}),
    ]
    narrow = open_clip.CLIP(
        24,
        {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 8},
        {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1},
    )
    other = make_embedder("crop", ClipViT(narrow))
    cases.append((ModelError, "width 24", {"embedder": other}))
    for kind, message, options in cases:
        with pytest.raises(kind, match=message):
            mini.caption(*arguments, **options)


def test_nothing_in_the_model_changes(mini):
    before = {n: (p.clone(), p.requires_grad) for n, p in mini.backbone.model.named_parameters()}
    with torch.inference_mode():
        mini.caption(EXAMPLES / "sand.png", EXAMPLES / "sand-fox.png")
    for name, parameter in mini.backbone.model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert parameter.requires_grad == before[name][1] and parameter.grad is None


def test_parts_that_do_not_belong_together(mini):
    narrow = mini.prefix_model.config
    backbone = mini.backbone
    name = backbone.name
    try:
        backbone.name = "another"
        with pytest.raises(
            ModelError, match=f"trained on {narrow.encoder}, the backbone is another"
        ):
            RegionCaptioner(backbone, mini.prefix_model)
    finally:
        backbone.name = name


def test_a_bad_option_is_named_before_the_work(mini, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("embedded first")

    monkeypatch.setattr(mini.backbone, "encode", never)
    with pytest.raises(PrefixModelError, match="beam_size"):
        mini.caption(EXAMPLES / "sand.png", EXAMPLES / "sand-fox.png", beam_size=0)


def test_texts_and_images_may_come_from_generators(mini):
    arguments = (EXAMPLES / "snow.png", EXAMPLES / "snow-pineapple.png")
    texts = ["a pineapple", "a dog"]
    assert mini.match(*arguments, (text for text in texts)) == mini.match(*arguments, texts)
    (found,) = mini.caption_batch(*((one for one in [argument]) for argument in arguments))
    assert found[0].text == mini.caption(*arguments)[0].text


def test_captions_can_be_compared_and_kept_in_sets(mini):
    (caption,) = mini.caption(EXAMPLES / "snow.png", EXAMPLES / "snow-pineapple.png")
    (again,) = mini.caption(EXAMPLES / "snow.png", EXAMPLES / "snow-pineapple.png")
    assert caption != again and len({caption, again}) == 2
