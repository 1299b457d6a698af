"""Small models from scratch, for a quick test without a download: a ModernBERT with its tokenizer, and a ViT."""

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BaseImageProcessor,
    ModernBertConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    ViTConfig,
)

from .extras import needed
from .label_space import LabelSpace

PIXELS = 64
"""The width and height of a picture for the small ViT."""


def train_tokenizer(texts: Iterable[str], vocab_size: int = 8000) -> PreTrainedTokenizerFast:
    """A tokenizer (byte-level BPE, lower case) that is trained on `texts`; the same for the same texts every time.

    Args:
        vocab_size: the maximum number of tokens.
    """
    tokenizer = Tokenizer(models.BPE())  # the training of WordPiece breaks ties differently every time
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def small_text_model(space: LabelSpace, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A ModernBERT of 2 layers and 128 dimensions with random weights."""
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        classifier_pooling="mean",  # from scratch, a CLS token learns nothing in a few epochs
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=None,
        eos_token_id=None,
        **space.config_arguments(),
    )
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    return model


def small_image_processor() -> BaseImageProcessor:
    """An image processor that resizes pictures to 64 x 64 pixels, for the small ViT."""
    with needed("PIL"):
        from transformers import ViTImageProcessorPil

        return ViTImageProcessorPil(size={"height": PIXELS, "width": PIXELS})


def small_image_model(space: LabelSpace) -> PreTrainedModel:
    """A ViT of 4 layers and 128 dimensions with random weights, for pictures of 64 x 64 pixels."""
    config = ViTConfig(
        image_size=PIXELS,
        patch_size=8,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        **space.config_arguments(),
    )
    model: PreTrainedModel = AutoModelForImageClassification.from_config(config)
    return model
