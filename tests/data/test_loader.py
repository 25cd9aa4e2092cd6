import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data.loader import Batches, evaluation_batches
from src.data.transforms import Normaliser, crop_and_flip
from src.randomness import generator

COUNT = 50
IMAGES = torch.randint(256, (COUNT, 3, 32, 32), dtype=torch.uint8)
LABELS = torch.arange(COUNT)  # each image's label is its row
RAW = Normaliser(torch.zeros(3), torch.ones(3))


def batches(batch_size: int = 8, steps: int = 20, seed: int = 0, **options: object) -> Batches:
    return Batches(IMAGES, LABELS, batch_size, steps, seed, RAW, **options)  # type: ignore[arg-type]


def pixels(images: torch.Tensor) -> torch.Tensor:
    return (images * 255).round().to(torch.uint8)


def test_batches_equal_naive_indexing():
    loader = batches(batch_size=8)
    for step in (0, 5, 6, 19):
        epoch, position = divmod(step, 6)
        order = torch.randperm(COUNT, generator=generator(0, "order", epoch))
        rows = order[8 * position : 8 * position + 8]
        images, labels = loader.batch(step)
        assert torch.equal(labels, LABELS[rows])
        assert torch.equal(pixels(images), IMAGES[rows])
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


@settings(max_examples=30)
@given(
    batch_size=st.integers(1, COUNT), seed=st.integers(0, 2**40), epoch=st.integers(0, 1_000_000)
)
def test_epoch_is_a_permutation_without_its_last_partial_batch(
    batch_size: int, seed: int, epoch: int
):
    loader = batches(batch_size, seed=seed)
    assert loader.steps_per_epoch == COUNT // batch_size
    first = epoch * loader.steps_per_epoch
    labels = torch.cat(
        [loader.batch(first + step)[1] for step in range(loader.steps_per_epoch)]
    ).tolist()
    assert len(set(labels)) == len(labels) == COUNT - COUNT % batch_size


def test_cifar10_has_390_steps_an_epoch():
    images = torch.empty(1, 3, 32, 32, dtype=torch.uint8).expand(50_000, -1, -1, -1)
    assert Batches(images, torch.empty(50_000), 128, 15_000, 0, RAW).steps_per_epoch == 390


def test_epochs_and_seeds_differ():
    labels = {
        tuple(batches(seed=seed).batch(step)[1].tolist()) for seed in (0, 1) for step in (0, 6)
    }
    assert len(labels) == 4


@pytest.mark.parametrize("augment", [False, True])
@settings(max_examples=15)
@given(start=st.integers(0, 20))
def test_resumed_training_sees_what_an_uninterrupted_one_sees(augment: bool, start: int):
    whole = list(batches(augment=augment))[start:]
    resumed = list(batches(augment=augment, start=lambda: start))
    assert len(resumed) == len(whole) == 20 - start
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@settings(max_examples=15)
@given(steps=st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_batches_do_not_depend_on_those_drawn_before(steps: list[int]):
    loader = batches(augment=True)
    for step in steps:
        images, labels = loader.batch(step)
        expected = batches(augment=True).batch(step)
        assert torch.equal(images, expected[0])
        assert torch.equal(labels, expected[1])


def test_start_is_asked_at_each_iteration():
    step = 3
    loader = batches(start=lambda: step)
    assert len(list(loader)) == 17
    step = 18
    assert len(list(loader)) == 2
    assert len(loader) == 20


def test_augmentation_is_drawn_by_step_and_keeps_labels():
    plain, augmented = batches(), batches(augment=True)
    for step in (0, 7):
        images, labels = plain.batch(step)
        expected = crop_and_flip(pixels(images), generator(0, "augment", step))
        assert torch.equal(pixels(augmented.batch(step)[0]), expected)
        assert torch.equal(augmented.batch(step)[1], labels)


def test_global_generator_is_left_alone():
    before = torch.get_rng_state()
    list(batches(augment=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_as_large_as_the_data():
    assert batches(batch_size=COUNT).batch(1)[1].sort().values.tolist() == LABELS.tolist()


def test_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="a batch of 51 is larger than the data, 50"):
        batches(batch_size=COUNT + 1)


def test_there_is_no_state():
    loader = batches()
    loader.load_state_dict(loader.state_dict())
    assert loader.state_dict() == {}


@pytest.mark.parametrize("batch_size", [1, 8, 25, 50, 64])
def test_evaluation_takes_every_image_once_in_order(batch_size: int):
    parts = list(evaluation_batches(IMAGES, LABELS, batch_size, RAW))
    assert torch.equal(pixels(torch.cat([images for images, _ in parts])), IMAGES)
    assert torch.equal(torch.cat([labels for _, labels in parts]), LABELS)
    assert all(len(labels) == batch_size for _, labels in parts[:-1])
    assert 0 < len(parts[-1][1]) <= batch_size


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gets_the_same_batches():
    normaliser = Normaliser(torch.zeros(3), torch.ones(3), device="cuda")
    there = Batches(IMAGES.cuda(), LABELS.cuda(), 8, 20, 0, normaliser, augment=True)
    for step in (0, 7):
        images, labels = there.batch(step)
        assert images.device.type == labels.device.type == "cuda"
        expected = batches(augment=True).batch(step)
        assert torch.equal(pixels(images).cpu(), pixels(expected[0]))
        assert torch.equal(labels.cpu(), expected[1])
