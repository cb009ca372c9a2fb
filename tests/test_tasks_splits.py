"""Hold-outs and disjointness."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutant.tasks.errors import UserError
from mutant.tasks.splits import Example, fingerprint, resolve

ORIGINS = {"train": "train", "validation": "validation", "test": "test"}


def examples(count: int, label: str, prefix: str = "") -> list[Example]:
    return [Example(place, f"{prefix}{label}-{place}", label) for place in range(count)]


def two_classes(count: int, prefix: str = "") -> list[Example]:
    return examples(count, "cat", prefix) + examples(count, "dog", prefix)


def hashes(part) -> set[str]:
    return {example.hash for example in part}


@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=6),
    given_test=st.booleans(),
)
def test_hold_outs_are_stratified_disjoint_and_lose_nothing(counts, given_test):
    train = [e for i, count in enumerate(counts) for e in examples(count, f"class{i}")]
    test = [e for i in range(len(counts)) for e in examples(2, f"class{i}", "test ")] if given_test else []
    resolved = resolve({"train": train, "test": test}, ORIGINS)
    parts = resolved.splits
    assert sum(len(part) for part in parts.values()) == len(train) + len(test)
    assert hashes(parts["train"]) | hashes(parts["validation"]) | hashes(parts["test"]) == hashes([*train, *test])
    held = ["validation"] if given_test else ["validation", "test"]
    for name in held:
        assert resolved.origins[name] == "held out of train, 10%, stratified"
        found = Counter(e.label for e in parts[name])
        for i, count in enumerate(counts):
            assert found[f"class{i}"] == max(1, (count * 10 + 50) // 100)
    if given_test:
        assert hashes(parts["test"]) == hashes(test)
        assert resolved.origins["test"] == "test"
    assert not resolved.notes


@given(st.permutations(two_classes(25)))
@settings(max_examples=20)
def test_order_and_places_do_not_matter(shuffled):
    moved = [Example(place, e.hash, e.label) for place, e in enumerate(shuffled)]
    first, second = resolve({"train": two_classes(25)}, ORIGINS), resolve({"train": moved}, ORIGINS)
    for name in first.splits:
        assert [(e.hash, e.label) for e in first.splits[name]] == [(e.hash, e.label) for e in second.splits[name]]


def test_another_image_does_not_reshuffle_the_hold_out():
    before = resolve({"train": two_classes(100)}, ORIGINS).splits["test"]
    after = resolve({"train": [*two_classes(100), Example(0, "new", "cat")]}, ORIGINS).splits["test"]
    assert len(hashes(before) & hashes(after)) >= len(before) - 1


def test_duplicates_across_splits_leave_train_first_and_never_test():
    test, validation = two_classes(5, "t"), [*two_classes(5, "v"), *examples(2, "cat", "t")]
    train = [*two_classes(20), *examples(3, "dog", "t"), *examples(4, "cat", "v"), *examples(1, "cat", "t")]
    resolved = resolve({"train": train, "validation": validation, "test": test}, ORIGINS)
    assert hashes(resolved.splits["test"]) == hashes(test)
    assert len(resolved.splits["validation"]) == 10
    assert hashes(resolved.splits["train"]) == hashes(two_classes(20))
    assert resolved.notes == (
        "2 images removed from validation: also in test",
        "4 images removed from train: also in test",
        "4 images removed from train: also in validation",
    )


def test_an_image_in_all_three_splits_leaves_train_and_validation():
    common = examples(1, "cat", "same")
    given = {name: [*two_classes(5, name), *common] for name in ("train", "validation", "test")}
    resolved = resolve(given, ORIGINS)
    assert [len(resolved.splits[name]) for name in ("train", "validation", "test")] == [10, 10, 11]


def test_copies_within_train_never_straddle_a_hold_out():
    train = [e for e in two_classes(10) for _ in range(3)]
    resolved = resolve({"train": train}, ORIGINS)
    parts = resolved.splits
    assert not hashes(parts["train"]) & hashes(parts["validation"])
    assert not hashes(parts["train"]) & hashes(parts["test"])
    assert not hashes(parts["validation"]) & hashes(parts["test"])
    assert "40 images repeated within train, kept" in resolved.notes
    removed = [note for note in resolved.notes if "copies of images held out" in note]
    assert len(removed) == 2
    assert sum(len(part) for part in parts.values()) + sum(int(n.split()[0]) for n in removed) == 60


def test_images_without_copies_are_held_out_first():
    train = [*two_classes(20), *examples(5, "cat"), *examples(5, "dog")]
    resolved = resolve({"train": train}, ORIGINS)
    assert not [note for note in resolved.notes if "held out" in note]


def test_an_image_with_two_labels_is_noted_and_not_held_out():
    train = [*two_classes(9), Example(0, "both", "cat"), Example(0, "both", "dog")]
    resolved = resolve({"train": train}, ORIGINS)
    assert "1 image of train with more than one label, kept" in resolved.notes
    assert [e.label for e in resolved.splits["train"] if e.hash == "both"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no training examples (splits with examples: none)"),
        ({"test": two_classes(4)}, "no training examples (splits with examples: test)"),
        ({"train": examples(50, "cat")}, "only one class, 'cat'"),
        ({"train": [*examples(50, "cat"), *examples(2, "dog")]}, "Class 'dog' has too few"),
        ({"train": [*examples(9, "cat"), *examples(9, "dog")], "test": examples(2, "cow")}, "Class 'cow' has 2 test"),
        ({"train": two_classes(4), "test": two_classes(4)}, "Every image of train is also in another split"),
        (
            {"train": two_classes(4), "validation": two_classes(9, "v"), "test": examples(4, "cat")},
            "Class 'cat' has 9 validation examples but no training example",
        ),
    ],
)
def test_tasks_that_cannot_be_learnt_are_refused(given, message):
    with pytest.raises(UserError) as caught:
        resolve(given, ORIGINS)
    assert message in str(caught.value)
    assert caught.value.hint


def test_the_smallest_task():
    resolved = resolve({"train": two_classes(3)}, ORIGINS)
    assert [len(resolved.splits[name]) for name in ("train", "validation", "test")] == [2, 2, 2]


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_fingerprints_tell_sequences_apart(first, second):
    assert (fingerprint(first) == fingerprint(second)) == (first == second)
