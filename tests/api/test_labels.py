"""Labels and patients in the forms of lists, NumPy and pandas: what is read, and what is missing."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
import torch

from medidistill.api.items import raw_images
from medidistill.api.labels import labels_of, patients_of
from medidistill.errors import ArgumentError, ArgumentTypeError

NAN = float("nan")


@pytest.mark.parametrize(
    ("labels", "where"),
    [
        (list(pd.Series(["covid", "normal", None])), "labels[2]="),  # nan in pandas 3, None in pandas 2
        (["covid", NAN, "normal"], "labels[1]=nan"),
        (["covid", "normal", pd.NA], "labels[2]=<NA>"),
        (np.array(["covid", None, "normal"], dtype=object), "labels[1]=None"),
        (np.array(["covid", "normal", NAN]), "labels[2]='nan'"),  # NumPy wrote the text
        (["covid", " ", "normal"], "labels[1]=' '"),
        ([None, 0, 1], "labels[0]=None"),
        (np.array([0.0, 1.0, NAN]), "labels[2]=nan"),
        (list(pd.Series([0, 1, None])), "labels[2]=nan"),
        (list(pd.Series([0, 1, None], dtype="Int64")), "labels[2]=<NA>"),
        ([torch.tensor(0.0), torch.tensor(NAN)], "labels[1]=nan"),
        ([["covid"], [None], ["normal"]], "labels[1]=None"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("names", [(), ("covid", "normal")])
def test_a_missing_label_is_refused_with_its_place(labels, where, names):
    with pytest.raises(ArgumentTypeError, match=re.escape(where) + ".*: must be a class name or a class number; "):
        labels_of(labels, names)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["covid", "normal", 0, 1], r"labels\[2\]=0: must be a class name \(text\), as the labels before it"),
        ([0, 1, "covid"], r"labels\[2\]='covid': must be a class number, as the labels before it"),
        (np.array(["covid", 1], dtype=object), r"labels\[1\]=1: must be a class name"),
        ([["covid"], [1]], r"labels\[1\]=1: must be a class name"),
        ([0, {"finding": 1}], r"labels\[1\]=dict: must be a class name \(text\) or a class number"),
        ([b"covid", b"normal"], r"labels\[0\]=bytes: must be a class name"),
    ],
)
def test_names_and_numbers_together_are_refused_with_the_place(labels, words):
    with pytest.raises(ArgumentTypeError, match=words):
        labels_of(labels, ())


@pytest.mark.parametrize(
    "labels",
    [
        [1, 0, 1],
        (1, 0, 1),
        [1.0, 0.0, 1.0],
        [True, False, True],
        np.array([1, 0, 1], dtype=object),
        np.array([[1], [0], [1]], dtype=np.uint8),
        [np.int64(1), np.int64(0), np.int64(1)],
        [torch.tensor(1), torch.tensor(0), torch.tensor(1)],
        [np.array([1]), np.array([0]), np.array([1])],
    ],
    ids=str,
)
def test_class_numbers_of_every_form_are_the_same(labels):
    index, names = labels_of(labels, ())
    assert (index.tolist(), index.dtype, names) == ([1, 0, 1], torch.int64, ("0", "1"))


def test_class_names_of_every_form_are_the_same():
    words = ["normal", "covid", "normal"]
    for labels in (words, np.array(words), np.array(words, dtype=object), list(map(np.str_, words))):
        index, names = labels_of(labels, ())
        assert (index.tolist(), names) == ([1, 0, 1], ("covid", "normal"))


def test_a_class_may_be_called_as_missing_values_are_where_class_names_says_so():
    index, names = labels_of(["nan", "b"], ("b", "nan"))
    assert (index.tolist(), names) == ([1, 0], ("b", "nan"))
    assert labels_of(["None", "mild"], ())[1] == ("None", "mild")


@pytest.mark.parametrize(
    ("groups", "where"),
    [
        (["a", None], "groups[1]=None"),
        (["a", NAN], "groups[1]=nan"),
        (["a", pd.NA], "groups[1]=<NA>"),
        (pd.Series(["a", None]), "groups[1]="),
        (pd.Series([1, None], dtype="Int64"), "groups[1]=<NA>"),
        (np.array(["a", NAN]), "groups[1]='nan'"),  # NumPy wrote the text
        (pd.Series(["a", None], dtype=object).map(str), "groups[1]='None'"),
        (["a", "<NA>"], "groups[1]='<NA>'"),
        (torch.tensor([1.0, NAN]), "groups[1]=nan"),
        (["a", " "], "groups[1]=' '"),
        (["a", "Anonymous"], "groups[1]='Anonymous'"),  # would be one patient of many images
        (["a", "--"], "groups[1]='--'"),
        (["a", math.inf], "groups[1]=inf"),
    ],
    ids=repr,
)
def test_a_missing_patient_is_refused_with_its_place(groups, where):
    with pytest.raises(ArgumentError, match=re.escape(where) + ".*must be an identifier"):
        patients_of(groups, 2)


@pytest.mark.parametrize(
    "groups", [{"x.png": "a", "y.png": "b"}, {"a", "b"}, pd.DataFrame({"a": [1, 2], "b": [1, 2]})], ids=type
)
def test_what_has_names_or_no_order_is_no_list_of_patients(groups):
    with pytest.raises(ArgumentTypeError, match=r"groups=\w+: must be a sequence with the patient of each image"):
        patients_of(groups, 2)


def test_patients_that_have_names_stay_apart():
    assert len(set(patients_of(["anna", "nana", 1, "1 "], 4))) == 3


def items(patients):
    return [
        {"image": np.zeros((16, 16), np.uint8), "label": number % 2, "patient_id": patient}
        for number, patient in enumerate(patients)
    ]


def test_items_without_a_patient_are_named_and_none_at_all_is_unknown():
    assert raw_images(items([NAN, None, pd.NA])).groups == ()
    assert raw_images(items(["a", "b", "c"])).groups == ("a", "b", "c")
    with pytest.raises(ArgumentError, match=r"a patient for 2 of 3 items, none for data\[1\]: must be"):
        raw_images(items(["a", NAN, "c"]))


def test_an_item_without_a_label_is_named():
    found = raw_images([{"image": np.zeros((16, 16), np.uint8), "label": one} for one in ("a", None, "b")])
    with pytest.raises(ArgumentTypeError, match=r"labels\[1\]=None: must be a class name"):
        labels_of(found.labels, found.class_names)
