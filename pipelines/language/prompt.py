"""What a vision-language model is asked of a cell, in the words in which it is trained and judged."""

from collections.abc import Sequence

IMAGE = "<image>"
"""Where the image stands in a text, in the files of LLaVA and in its processor."""

MEDIUM, SURE, SIZE, SHAPE, TEXTURE, FOCUS, DESCRIBE = "medium", "sure", "size", "shape", "texture", "focus", "describe"
TOPICS = (MEDIUM, SURE, SIZE, SHAPE, TEXTURE, FOCUS, DESCRIBE)
"""What is asked, in the order in which a paragraph says it."""

_QUESTIONS = {
    SURE: "How sure can one be of the medium from this image?",
    SIZE: "How large is the cell?",
    SHAPE: "What shape is the cell?",
    TEXTURE: "What is the texture of the cell?",
    FOCUS: "Is the image in focus?",
    DESCRIBE: "Describe the cell.",
}

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %} ASSISTANT: {% else %}USER: {% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] in ('image', 'image_url') %}" + IMAGE + "\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
"""How a conversation reads, as LLaVA 1.5 writes it; for folders whose processor has no template of its own."""


def question(topic: str, classes: Sequence[str]) -> str:
    """Return the question about a topic of TOPICS, of cells of the `classes`."""
    if topic == MEDIUM:
        return f"Which medium was this cell grown in? Answer with one of: {', '.join(classes)}."
    return _QUESTIONS[topic]


def from_human(text: str, images: int = 1) -> dict[str, object]:
    """Return a turn of a conversation that asks `text` about the images before it."""
    return {"role": "user", "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}


def from_model(text: str) -> dict[str, object]:
    """Return a turn of a conversation that answers `text`."""
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}
