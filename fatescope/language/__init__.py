"""Language models: a client for any OpenAI-compatible endpoint, and descriptions whose every number is checked.

    settings → chat → budget, cache → client → class_answer
    culture → template, numbers, vocabulary → reader → check → describe

No model is needed: without one a template says the same. Nothing here loads a network or imports a framework.
"""
