"""A tiny LLaVA is tuned, asked, judged and written; its vision tower is a backbone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_model

from fatescope import config
from fatescope.data import dataset
from fatescope.errors import DataError, ParamsError
from fatescope.inference import bundle
from fatescope.networks import backbones, network
from pipelines.language import conversations, llava, pictures, prompt, tiny, tuning, verdict
from pipelines.training import trainer

SIDE = 80
"""Of the pictures of the made-up cells, px."""
SHORT = tuning.Settings("all", epochs=1, minutes=5, batch_size=8, learning_rate=1e-3, seed=0, questions=2)


@pytest.fixture(scope="module")
def model(made):
    return llava.load(made.folder / "tiny")


def cells_of(made, count=3):
    return [conversation.picture for conversation in made.conversations[:count]]


def test_probabilities_are_the_likelihoods_of_the_names(made, model):
    """As written out: the tokens of each name after the question, one by one."""
    pictures_of_cells, classes = cells_of(made, 2), made.data.classes
    found = model.probabilities(pictures_of_cells, classes)
    np.testing.assert_allclose(found.sum(1), 1)
    question = f"USER: <image>\n{prompt.question(prompt.MEDIUM, classes)} ASSISTANT:"
    scores = []
    for name in classes:
        inputs = model.processor(images=pictures_of_cells[:1], text=[f"{question} {name}</s>"], return_tensors="pt")
        asked = model.processor(images=pictures_of_cells[:1], text=[question], return_tensors="pt")
        tokens, start = inputs["input_ids"][0], asked["input_ids"].shape[1]
        with torch.inference_mode():
            logits = model.model(**inputs).logits[0].log_softmax(-1)
        scores.append(sum(float(logits[i - 1, tokens[i]]) for i in range(start, len(tokens))))
    np.testing.assert_allclose(found[0], np.exp(scores) / np.exp(scores).sum(), rtol=1e-4)


def test_a_batch_gives_what_single_cells_give_with_examples_too(made, model):
    shown = [
        llava.Example(cells_of(made)[0], made.data.classes[0]),
        llava.Example(cells_of(made)[1], made.data.classes[1]),
    ]
    few = llava.Llava(model.model, model.processor, shown)
    before = few.use.tokens_in
    together = few.probabilities(cells_of(made), made.data.classes)
    assert few.use.tokens_in > before + 3 * 3 * (SIDE // tiny.PATCH) ** 2, "examples have pictures too"
    alone = [few.probabilities([picture], made.data.classes)[0] for picture in cells_of(made)]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert np.abs(together - model.probabilities(cells_of(made), made.data.classes)).max() > 1e-6


@pytest.mark.parametrize(
    ("how", "moved"), [("projection", {"multi_modal_projector"}), ("lora", {"multi_modal_projector", "language_model"})]
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # how peft asks
def test_tuning_moves_what_it_names_and_is_loaded_again(made, tmp_path, how, moved):
    before = {name: weight.clone() for name, weight in llava.load(made.folder / "tiny").model.state_dict().items()}
    settings = tuning.Settings(how, 1, 5, 8, 1e-3, 0, 2)
    tuned = tuning.tune(llava.load(made.folder / "tiny"), made.conversations[:8], settings, lambda *_: None)
    tuning.save(tuned, tmp_path / how)
    again = llava.load(tmp_path / how)
    after = again.model.state_dict()
    assert after.keys() == before.keys()
    changed = {part for name in before if not torch.equal(before[name], after[name]) for part in name.split(".")[1:2]}
    assert changed == moved
    np.testing.assert_allclose(
        again.probabilities(cells_of(made), made.data.classes),
        tuned.probabilities(cells_of(made), made.data.classes),
        rtol=1e-4,
    )


def test_training_learns_and_stops_in_time(made):
    losses = []
    settings = tuning.Settings("all", 4, 5, 8, 3e-3, 0, 2)
    tuning.tune(
        llava.load(made.folder / "tiny"), made.conversations[:16], settings, lambda _, loss: losses.append(loss)
    )
    assert len(losses) == 4
    assert losses[-1] < losses[0] - 0.5
    losses.clear()
    out_of_time = tuning.Settings("all", 1000, 1e-9, 8, 3e-3, 0, 2)
    tuning.tune(
        llava.load(made.folder / "tiny"), made.conversations[:16], out_of_time, lambda _, loss: losses.append(loss)
    )
    assert len(losses) <= 1


def test_a_backbone_of_fatescope_is_the_vision_encoder(made, tmp_path):
    torch.manual_seed(0)
    size = (SIDE, SIDE)
    trained = network.Network(
        backbones.build("compact", "none", size), 2, size, resize="pad", normalisation="contrast", dropout=0
    )
    tiny.build_on(
        trained, tmp_path / "on", conversations.side(made.conversations), conversations.texts(made.conversations)
    )
    on = llava.load(tmp_path / "on")
    found = on.model.model.vision_tower.features.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in trained.features.state_dict().items())
    assert len(on.answer(cells_of(made), prompt.question(prompt.FOCUS, []), max_tokens=2)) == 3
    cells = dataset.load(made.folder / "cells")
    raw = cells.pixels[:4]
    on.model.eval(), trained.eval()
    seen = on.processor.image_processor([pictures.draw(cell) for cell in raw], return_tensors="pt")["pixel_values"][
        :, :1
    ]
    expected = trained.preprocess(torch.from_numpy(raw.astype(np.float32))[:, None])
    with torch.inference_mode():
        tokens = on.model.model.vision_tower(pixel_values=seen.expand(-1, 3, -1, -1)).last_hidden_state
        maps = trained.features(seen).flatten(2).transpose(1, 2)
        first = trained.features[:4](seen)
    assert tokens.shape == (4, (SIDE // 8) ** 2, 32 + 64 + 128)
    torch.testing.assert_close(tokens[..., -128:], maps)
    # A position of the last stage has 4x4 positions of the first.
    torch.testing.assert_close(tokens[:, 11, :32], first[:, :, 4:8, 4:8].mean((2, 3)))
    # At the same resolution and scale, but for rounding to 8 bits and what these cannot show.
    np.testing.assert_allclose(seen, expected.clamp(-4, 3.97), atol=0.05)


@pytest.mark.slow
def test_the_vision_tower_is_a_backbone_that_is_exported(made, tmp_path):
    train = config.load(made.params).train.changed(
        {"backbone": "vision_tower", "weights": str(made.folder / "tiny"), "input_size": (SIDE, SIDE)}
    )
    built = trainer.build_network(train, 2).eval()
    pixels = torch.from_numpy(dataset.load(made.folder / "cells").pixels[:3].astype(np.float32))[:, None]
    with torch.inference_mode():
        outputs = built(pixels)
        # What the language model sees of the same picture, but for its rounding to 8 bits.
        tower = llava.load(made.folder / "tiny").model.model.vision_tower
        images = (128 + 32 * built.preprocess(pixels)) / 255
        states = tower(
            pixel_values=((images.clamp(0, 1) - 0.5) / 0.125).expand(-1, 3, -1, -1), output_hidden_states=True
        )
    expected = states.hidden_states[-1][:, 1:].mean(1)
    torch.testing.assert_close(outputs.embedding, expected, rtol=1e-4, atol=1e-4)
    network.export(built, (60, 80), tmp_path / "model.onnx")
    graph = bundle.Graph(tmp_path / "model.onnx", 1)
    np.testing.assert_allclose(graph.predict(pixels.numpy()).logits, outputs.logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("weights", "size", "channels", "message"),
    [
        ("nowhere", (80, 80), 1, "no folder of a LLaVA"),
        ("tiny", (45, 60), 1, r"takes \[80, 80\], got \[45, 60\]"),
        ("tiny", (80, 80), 2, "takes one channel, got 2"),
    ],
)
def test_a_vision_tower_that_does_not_fit_is_refused(made, weights, size, channels, message):
    with pytest.raises(ParamsError, match=message):
        backbones.build("vision_tower", str(made.folder / weights), size, channels)


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no LLaVA that transformers can load"):
        llava.load(tmp_path)


def test_a_report_stands_beside_the_cnn(made, model, tmp_path, monkeypatch):
    monkeypatch.setenv("FATESCOPE_PRICE_PER_HOUR", "3600")
    cells, data = dataset.load(made.folder / "cells"), made.data
    rows = np.array(data.rows["test"])
    targets = dataset.class_indices(cells.manifest["label"], data.classes)
    report, texts = verdict.judge(model, lambda asked: np.eye(2)[targets[asked]] * 0.8 + 0.1, cells, data, None)
    assert report.cnn.score.balanced_accuracy == 1
    assert report.language.score.balanced_accuracy < 1
    by = report.difference
    assert by.low < by.value < by.high
    assert by.value == pytest.approx(report.language.score.balanced_accuracy - 1)
    assert all(len(of_topic) == len(rows) for of_topic in texts.values())
    # Random weights write no sentences.
    assert report.answers[prompt.DESCRIBE].parsed == 0
    assert report.effort.tokens_in > 100
    assert report.effort.cost == pytest.approx(report.effort.seconds)
    assert "No gate promotes it" in report.sentences()
    report.write(tmp_path / "language.json")
    assert type(report).read(tmp_path / "language.json") == report


def test_several_images_of_a_cell_are_no_further_evidence(made):
    """With a single group a class, cells are the units: each as often as it likes."""
    rng, targets = np.random.default_rng(0), np.repeat([0, 1], 20)
    groups, cells, times = np.array(["a", "b"])[targets], np.arange(40), np.repeat(np.arange(40), 9)
    one, other = (rng.dirichlet([2, 2], 40) for _ in range(2))
    classes = made.data.classes

    def measured(rows, *images):
        bound = verdict.score(targets[rows], one[rows], groups[rows], classes, None, *images).lower_bound
        return bound, verdict.compare(rows, targets[rows], groups[rows], classes, other[rows], one[rows], *images)

    once, often, as_others = measured(cells), measured(times, times), measured(times)
    assert once[0].units == often[0].units == "cells"
    assert often[0].value == pytest.approx(once[0].value)
    assert (often[1].low, often[1].high) == pytest.approx((once[1].low, once[1].high))
    assert as_others[0].value > once[0].value + 0.05, "each image is another cell"


def test_a_network_with_a_vision_tower_is_restored_from_its_folder(made, tmp_path):
    fit = config.load(made.params).train.changed(
        {"backbone": "vision_tower", "weights": str(made.folder / "tiny"), "input_size": (SIDE, SIDE)}
    )
    built = trainer.build_network(fit, 2).eval()
    with torch.no_grad():
        built.features.tower.embeddings.class_embedding.add_(1)
    save_model(built, str(tmp_path / "weights.safetensors"))
    spec = SimpleNamespace(
        taught=None, params={"train": [fit.model_dump()]}, kinds=["brightfield"], classes=["a", "b"], join=None
    )
    restored = network.restore(spec, tmp_path / "weights.safetensors")
    pixels = torch.from_numpy(dataset.load(made.folder / "cells").pixels[:2].astype(np.float32))[:, None]
    with torch.inference_mode():
        torch.testing.assert_close(restored(pixels).logits, built(pixels).logits)
