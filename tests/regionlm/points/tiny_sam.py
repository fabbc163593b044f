"""Tiny random models of Segment Anything with their processors."""

import torch
import transformers
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2Processor,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    SamConfig,
    SamImageProcessor,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

SIDE = 64
_NAMES = ("Sam2ImageProcessor", "Sam2ImageProcessorFast")  # the second is older
Sam2Pictures = next(getattr(transformers, name) for name in _NAMES if hasattr(transformers, name))


def tiny_sam():
    torch.manual_seed(0)
    vision = SamVisionConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
        output_channels=16,
        window_size=2,
        global_attn_indexes=[0],
        mlp_dim=16,
        num_pos_feats=8,
    )
    prompts = SamPromptEncoderConfig(
        hidden_size=16, image_size=SIDE, patch_size=8, mask_input_channels=4
    )
    masks = SamMaskDecoderConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_dim=16,
        iou_head_hidden_dim=16,
        attention_downsample_rate=2,
    )
    model = SamModel(
        SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks)
    )
    pictures = SamImageProcessor(
        size={"longest_edge": SIDE},
        pad_size={"height": SIDE, "width": SIDE},
        mask_size={"longest_edge": SIDE // 4},
        mask_pad_size={"height": SIDE // 4, "width": SIDE // 4},
    )
    return model.eval(), SamProcessor(pictures)


def tiny_sam2():
    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        fpn_hidden_size=32,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )
    prompts = Sam2PromptEncoderConfig(
        hidden_size=32, image_size=SIDE, patch_size=16, mask_input_channels=4
    )
    masks = Sam2MaskDecoderConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_dim=16,
        iou_head_hidden_dim=16,
        attention_downsample_rate=2,
    )
    model = Sam2Model(
        Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks)
    )
    pictures = Sam2Pictures(
        size={"height": SIDE, "width": SIDE}, mask_size={"height": SIDE // 4, "width": SIDE // 4}
    )
    return model.eval(), Sam2Processor(pictures)
