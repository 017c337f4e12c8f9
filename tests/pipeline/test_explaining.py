"""Explanations of a run: the networks that were scored, cases drawn at random, and a page that says what it shows."""

from __future__ import annotations

import dataclasses
import shutil
import stat

import numpy as np
import pytest

from medidistill.errors import ConfigError
from medidistill.evaluate import ArmRun
from medidistill.files import write_text
from medidistill.pipeline import RunFolder, clean, dump_config, load_config
from medidistill.pipeline.comparison.arms import cell_file
from medidistill.pipeline.comparison.explaining import explanations
from medidistill.pipeline.stages.evaluate import evaluate
from medidistill.pipeline.stages.report import report

from .comparison_example import bundle, ready_run

pytestmark = pytest.mark.usefixtures("blank_figures")


def _asked(run, **saliency):
    rules = run.config.evaluate
    changed = dataclasses.replace(rules, saliency=dataclasses.replace(rules.saliency, **saliency))
    run.config = dataclasses.replace(run.config, evaluate=changed)
    return run


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    root = tmp_path_factory.mktemp("explained")
    path = bundle(root / "elsewhere")
    run = ready_run(root / "run", arms=("full", "random"), bundles=(str(path),))
    evaluate(run)
    (run.folder.ingest / "quarantine.csv").write_text("key,reason\n")
    counts = dict.fromkeys(("COVID-19", "Normal"), 24)
    run.record.stages["ingest"]["images"] = dict.fromkeys(("train", "val", "test"), counts)
    return run


def test_nothing_is_explained_unless_it_is_asked_for_and_folders_are_called_by_their_last_name(compared):
    run = _asked(compared, cases=0)
    assert explanations(run, run.data()) is None
    text = report(run).read_text()
    assert not run.folder.explained.exists()
    assert str(run.folder.path.parent) not in text
    assert "elsewhere" in text


def test_the_networks_explained_are_those_that_were_scored(compared):
    run = _asked(compared, cases=2)
    data = run.data()
    found = explanations(run, data)
    assert sum(found.outcomes.values()) == len(data.test)
    assert 0 < len(found.cases) <= 8
    scored = {
        arm: ArmRun.load(cell_file(run.folder, arm, "convnet")).test_probabilities[0]
        for arm in ("full", "bundle-elsewhere")
    }
    for case in found.cases:
        (place,) = [i for i in range(len(data.test)) if np.array_equal(data.test.images[i, 0].numpy(), case.image)]
        assert case.truth == data.test.class_names[int(data.test.labels[place])]
        for arm, (name, probability) in case.called.items():
            assert probability == pytest.approx(scored[arm][place].max(), abs=1e-5)
            assert name == data.test.class_names[int(scored[arm][place].argmax())]
        right = {arm: name == case.truth for arm, (name, _) in case.called.items()}
        assert (
            case.outcome
            == {
                (True, True): "both are right",
                (True, False): "only the network trained on all real X-rays is right",
                (False, True): "only the network trained on bundle elsewhere is right",
                (False, False): "both are wrong",
            }[right["full"], right["bundle-elsewhere"]]
        )


def test_patients_are_on_a_page_of_their_own_which_clean_removes(compared, tmp_path):
    run = _asked(compared, cases=1)
    page, place = report(run), run.folder.explained
    assert "do not share" not in page.read_text()
    assert "X-rays of the" not in page.read_text()
    assert "ingest/explained/explained.html" in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o644
    private = (place / "explained.html").read_text()
    assert "Contains patients' images: do not share" in private
    assert "What the networks look at" in private
    assert {one.name for one in place.iterdir()} == {"explained.html", "picture.png", "cases.json", "cases.safetensors"}
    assert {stat.S_IMODE(one.stat().st_mode) for one in place.iterdir()} == {0o600}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    copy = RunFolder(shutil.copytree(run.folder.path, tmp_path / "copy"))
    assert clean(copy)
    assert not copy.explained.exists()
    assert "picture.png" not in {one.name for one in copy.path.rglob("*")}
    # asked for no longer: what showed patients goes
    report(_asked(compared, cases=0))
    assert not place.exists()


def test_pictures_may_be_asked_for_after_the_run(compared):
    folder, config = compared.folder, _asked(compared, cases=0).config
    write_text(folder.config_file, dump_config(config))
    RunFolder.create(folder.path, _asked(compared, cases=3).config, resume=True)
    assert load_config(folder.config_file).evaluate.saliency.cases == 3
    other = dataclasses.replace(config, seed=config.seed + 1)
    with pytest.raises(ConfigError, match="seed"):
        RunFolder.create(folder.path, other, resume=True)


def test_arms_that_cannot_be_shown_side_by_side_are_refused(compared):
    data = compared.data()
    with pytest.raises(ConfigError, match="'iadd': is not compared"):
        explanations(_asked(compared, cases=1, arms=("full", "iadd")), data)
    with pytest.raises(ConfigError, match="two arms or more"):
        explanations(_asked(compared, cases=1, arms=("full",)), data)
    _asked(compared, cases=0, arms=())
