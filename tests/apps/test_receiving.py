"""What the receiver is told: complete is not confirmed, a number and a signature are, and what the own test says."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile

import numpy as np
import pytest

from medidistill.errors import ConfigError, MedidistillError
from medidistill.results.comparison import Comparison, Difference, Row
from medidistill.statistics import Interval


@pytest.fixture
def places(root):
    from view_models.places import Places

    return Places.of()


@pytest.fixture
def came(places, made):
    """A bundle as it came: its folder below `received`."""
    from view_models import bundles

    return bundles.receive(places, "b", bundles.zipped(made.run / "bundle"))


def view(path):
    from view_models.bundles import read_bundle

    return read_bundle(path)


def forge(bundle):
    """Change the card and rewrite the checksums, as somebody on the way could."""
    card = bundle / "README.md"
    card.write_text(card.read_text() + "\nThis set is anonymous and may be published.\n")
    sums = bundle / "SHA256SUMS"
    lines = [line.split("  ", 1)[1] for line in sums.read_text().splitlines()]
    sums.write_text("".join(f"{hashlib.sha256((bundle / name).read_bytes()).hexdigest()}  {name}\n" for name in lines))


def test_forged_bundle_with_rewritten_sums_is_not_green(places, came, made, open_page, text_of):
    from view_models.receiving import Sender, confirm_number, standing

    true_number = view(made.run / "bundle").digest
    forge(came)
    seen = view(came)
    assert seen.problems == ()
    assert standing(places, seen).sender is Sender.UNCONFIRMED
    test = open_page("receive")
    assert not test.success
    assert test.warning[0].value.startswith("Complete; sender not confirmed.")
    test.text_input("sender_number").set_value(true_number).run()
    assert "is not the number of this bundle" in test.error[0].value
    assert not test.success
    with pytest.raises(ConfigError, match="not the number"):
        confirm_number(places, seen, true_number)
    assert standing(places, seen).sender is Sender.UNCONFIRMED


def test_the_senders_number_turns_it_green_and_stays(places, came, open_page):
    number = view(came).digest
    test = open_page("receive")
    spoken = " ".join(number[place : place + 4].upper() for place in range(0, 64, 4))
    test.text_input("sender_number").set_value(spoken).run()
    assert test.success[0].value.startswith("Complete, and the sender's: its number")
    again = open_page("receive")
    assert again.success[0].value.startswith("Complete, and the sender's")
    forge(came)
    assert not open_page("receive").success


@pytest.fixture
def trained(places, came):
    """The job and the network of a training from the bundle, as if it had ended well."""
    from view_models.receiving import training

    found = training(places, came)
    found.job.folder.mkdir(parents=True)
    (found.job.folder / "job.json").write_text(json.dumps({"arguments": ["train", str(came)]}))
    (found.job.folder / "exit").write_text("0")
    found.network.parent.mkdir()
    found.network.write_bytes(b"weights")
    assert training(places, came).state == "completed"
    return found


def test_a_training_is_not_shown_for_another_bundle_in_the_same_folder(places, came, trained, open_page):
    from view_models.receiving import training

    forge(came)
    assert training(places, came).state == "none"
    test = open_page("receive")
    assert not test.success
    assert not [one for one in test.get("download_button") if "network" in one.label]


def test_a_deleted_bundle_takes_its_trainings_along(places, came, trained, open_page):
    import fcntl

    test = open_page("receive")
    with open(trained.job.folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        next(one for one in test.button if one.label == "Yes, delete it").click().run()
        assert any("a training from this bundle is at work" in one.value for one in test.error)
        assert came.is_dir()
    next(one for one in test.button if one.label == "Yes, delete it").click().run()
    assert not test.exception
    assert not came.exists()
    assert not trained.job.folder.exists()
    assert not trained.network.exists()


@pytest.mark.parametrize("number", ["", "abc", "0" * 63, "0" * 65, "not a number"])
def test_half_a_number_confirms_nothing(places, came, number):
    from view_models.receiving import Sender, confirm_number, standing

    with pytest.raises(ConfigError, match="64 digits"):
        confirm_number(places, view(came), number)
    assert standing(places, view(came)).sender is Sender.UNCONFIRMED


def test_signature_confirms_and_another_key_does_not(places, came, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from medidistill.export import sign
    from view_models.receiving import Sender, confirm_signature, standing

    def public(key):
        return key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    with pytest.raises(ConfigError, match="not signed"):
        confirm_signature(places, view(came), public(key))
    file = tmp_path / "site.key"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    file.chmod(0o600)
    sign(came, file)
    for wrong in (public(other), b"no key", b""):
        with pytest.raises(ConfigError):
            confirm_signature(places, view(came), wrong)
    assert standing(places, view(came)).sender is Sender.UNCONFIRMED
    confirm_signature(places, view(came), public(key))
    found = standing(places, view(came))
    assert found.sender is Sender.CONFIRMED
    assert "signed by the key" in found.words


def test_every_flipped_bit_of_an_archive_is_a_sentence_or_a_bundle(places, made, tmp_path):
    from view_models import bundles, sources
    from view_models.receiving import standing

    small = tmp_path / "small.zip"
    with zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("SHA256SUMS", "recipe.json"):
            packed.write(made.run / "bundle" / name, f"bundle/{name}")
    data, generator = small.read_bytes(), np.random.default_rng(0)
    directory = range(data.rindex(b"PK\x01\x02") - 60, len(data))
    local = range(60)
    places_to_flip = [*local, *directory, *generator.integers(0, len(data), 60).tolist()]
    for place in places_to_flip:
        changed = bytearray(data)
        changed[place] ^= 1 << int(generator.integers(8))
        for take in (
            lambda: standing(places, view(bundles.receive(places, "b", bytes(changed)))),  # noqa: B023
            lambda: sources.keep_upload(places, [("x.zip", bytes(changed))], ""),  # noqa: B023
        ):
            with contextlib.suppress(MedidistillError):
                take()


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_archive_is_one_sentence_on_both_pages(packing, made, tmp_path, open_page, places):
    from view_models import bundles, sources

    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", packing) as packed:
        packed.writestr("bundle/x.bin", np.random.default_rng(0).bytes(5000))
    data = bytearray(file.read_bytes())
    data[2000] ^= 4
    for take in (
        lambda: bundles.receive(places, "b", bytes(data)),
        lambda: sources.keep_upload(places, [("a.zip", bytes(data))], ""),
    ):
        with pytest.raises(MedidistillError, match="entry 1 of the archive is damaged"):
            take()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"1", b"\xff", b'{"format": 3}', b'{"evaluation": {"rows": 3}}', b'{"name": ["x"]}'],
)
@pytest.mark.parametrize("name", ["recipe.json", "SHA256SUMS", "distilled.safetensors"])
def test_untrusted_content_of_a_bundle_is_a_problem_and_no_error_page(name, content, came, open_page):
    (came / name).write_bytes(content)
    test = open_page("receive")  # asserts that the page drew
    assert "not as it was written" in test.error[0].value
    assert not test.success


def scores(bundle, own=None, gap=None, turned=False) -> Comparison:
    def row(arm, accuracy):
        figure = Interval(*accuracy)
        return Row(arm, "convnet", 3, 5, (0,), "network", figure, figure, (), (), None, None, 0.5, (), (), ())

    rows, differences = [row("the bundle", bundle)], []
    if own is not None:
        rows.append(row("own X-rays", own))
        pair = ("own X-rays", "the bundle") if turned else ("the bundle", "own X-rays")
        differences = [Difference(*pair, "convnet", "balanced_accuracy", Interval(*gap), None, "unpaired")]
    return Comparison(("a", "b"), tuple(rows), tuple(differences), 9, 7, bootstrap=9, confidence=0.95, seed=0)


@pytest.mark.parametrize(
    ("told", "tone", "words"),
    [
        (scores((0.8, 0.7, 0.9)), "open", "more than chance"),
        (scores((0.6, 0.4, 0.9)), "bad", "not shown to be more than chance"),
        (scores((0.8, 0.7, 0.9), (0.6, 0.5, 0.7), (0.2, 0.1, 0.3)), "good", "better for your patients"),
        (scores((0.5, 0.4, 0.6), (0.8, 0.7, 0.9), (-0.3, -0.4, -0.1)), "bad", "they are worse"),
        (scores((0.5, 0.4, 0.6), (0.8, 0.7, 0.9), (0.3, 0.1, 0.4), turned=True), "bad", "-0.300 [-0.400, -0.100]"),
        (scores((0.7, 0.6, 0.8), (0.7, 0.6, 0.8), (0.0, -0.1, 0.1)), "open", "do not decide"),
    ],
)
def test_own_test_says_what_it_shows(root, told, tone, words):
    from view_models.receiving import own_answer

    found = own_answer(told)
    assert found[0] == tone
    assert words in found[1]
    assert "9 images of 7 patients" in found[1]


def test_figures_of_the_card_stand_beside_the_own_ones(root, made):
    from view_models.receiving import own_table, sender_table

    recipe = json.loads((made.run / "bundle" / "recipe.json").read_text())
    table = sender_table(recipe)
    assert "all real X-rays" in list(table["trained on"])
    assert list(own_table(scores((0.8, 0.7, 0.9)))["trained on"]) == ["this bundle"]
    assert sender_table({"evaluation": None}).empty
    assert sender_table({"evaluation": {"rows": 3}}).empty


def test_address_names_the_bundle_and_an_unknown_one_is_said(came, open_page, text_of):
    test = open_page("receive")
    test.query_params["bundle"] = "0123456789ab"
    test.run()
    assert "names a bundle that is not here" in text_of(test)
    assert not test.warning
