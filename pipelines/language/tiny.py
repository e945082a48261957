"""A LLaVA of few million parameters from nothing, for tests and for cells of the size that an instrument exports.

It has the parts of LLaVA 1.5 (a CLIP vision tower, a projection of two layers, a Llama) and none of its weights, and is
loaded as any other folder: `LlavaForConditionalGeneration.from_pretrained`, `AutoProcessor.from_pretrained`. A few
hundred cells teach such a tower little, so that `build_on` puts a trained backbone of Fatescope in its place.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from fatescope.networks.network import Network
from pipelines.language import prompt
from pipelines.language.encoder import EncoderConfig

PATCH = 10
"""Height and width in px of a patch, each of which is a token of the language model."""
VISION = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
TEXT = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}
VOCABULARY = 1024
"""Tokens at most: bytes, and the words of the texts."""
BOS, EOS, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"


def build(folder: Path, side: int, texts: Sequence[str] = (), seed: int = 0) -> None:
    """Write a tiny LLaVA with random weights and its processor to `folder`, for pictures of `side` px a side.

    It sees as many whole patches as they have in the middle, at their resolution. Its tokens are whole words of
    `texts`, and bytes for all other text.
    """
    seen = max(side // PATCH, 1) * PATCH
    vision = CLIPVisionConfig(**VISION, image_size=seen, patch_size=PATCH, projection_dim=64)
    _save(vision, _build_processor(side, vision, texts, additional=1, strategy="default"), folder, seed)


def build_on(network: Network, folder: Path, side: int, texts: Sequence[str], seed: int = 0) -> None:
    """Write a tiny LLaVA to `folder` whose vision encoder is the backbone `compact` of a trained `network`.

    The network takes images of `side` px a side, as the pictures have them. Its preprocessing is left to the pictures.
    """
    vision = EncoderConfig(image_size=side)
    model = _save(vision, _build_processor(side, vision, texts, additional=0, strategy="full"), folder, seed)
    model.model.vision_tower.features.load_state_dict(network.features.state_dict())
    model.save_pretrained(folder)


def _save(
    vision: CLIPVisionConfig | EncoderConfig, processor: LlavaProcessor, folder: Path, seed: int
) -> LlavaForConditionalGeneration:
    """Write a model with random weights and its `processor`; return the model."""
    tokens = processor.tokenizer
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(
            **TEXT,
            vocab_size=len(tokens),
            bos_token_id=tokens.bos_token_id,
            eos_token_id=tokens.eos_token_id,
            pad_token_id=tokens.pad_token_id,
            tie_word_embeddings=True,
        ),
        image_token_index=tokens.convert_tokens_to_ids(prompt.IMAGE),
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy=processor.vision_feature_select_strategy,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokens.eos_token_id
    model.generation_config.pad_token_id = tokens.pad_token_id
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


def _build_processor(
    side: int, vision: CLIPVisionConfig | EncoderConfig, texts: Sequence[str], *, additional: int, strategy: str
) -> LlavaProcessor:
    """Return the processor: the middle of pictures, with values around 0, and a tokeniser of the words of `texts`."""
    special = [PAD, BOS, EOS, UNKNOWN, prompt.IMAGE]
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    # Digits stay apart, so that a number that no text has can be written.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts or _default_texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        extra_special_tokens={"image_token": prompt.IMAGE},
        padding_side="left",
    )
    # Cells are written around the middle grey, most of them within 32 grey levels of it. Only pictures that are too
    # small are resized: focus and texture are in what neighbouring pixels differ by, which resizing takes away.
    images = CLIPImageProcessor(
        size={"shortest_edge": max(side, vision.image_size)},
        crop_size={"height": vision.image_size, "width": vision.image_size},
        image_mean=[0.5] * 3,
        image_std=[0.125] * 3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=fast,
        patch_size=vision.patch_size,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=additional,
        chat_template=prompt.CHAT_TEMPLATE,
    )


def _default_texts() -> list[str]:
    return [prompt.question(topic, ["astrocyte", "oligodendrocyte", "RA/SHH", "NT3"]) for topic in prompt.TOPICS]
