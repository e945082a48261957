"""A vision-language model (LLaVA, Liu et al. 2023, arXiv 2304.08485) beside the CNNs: data, models and a verdict.

No stage of the pipeline needs it; `transformers` and `peft` come with the extra `language`, and weights are a folder.
"""
