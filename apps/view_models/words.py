"""What each technical term of the pages means."""

from __future__ import annotations

__all__ = ["GLOSSARY", "explain"]

GLOSSARY = {
    "distilled set": "A few synthetic images, made so that a network trained on them alone learns much of what it "
    "would have learned from all real X-rays.",
    "distillation": "Making such a set: the images are changed step by step until training on them leads a network "
    "where training on the real X-rays led it.",
    "expert": "A network trained on the real X-rays. The distillation follows the path of its parameters.",
    "outer step": "One update of the synthetic images.",
    "MTT": "Matching training trajectories: the distillation matches all parameters of an expert alike.",
    "IADD": "Importance-aware adaptive dataset distillation: as MTT, but each parameter has a learned weight.",
    "arm": "One thing that networks are trained on in the comparison: all real X-rays, a few of them, or a "
    "distilled set.",
    "AUROC": "How well a network ranks patients with a finding above patients without it: 0.5 is chance, 1 is perfect.",
    "balanced accuracy": "The mean over the classes of the share that is recognised: with three classes, chance is "
    "0.33.",
    "sensitivity": "Share of patients with the finding that the network finds.",
    "specificity": "Share of patients without the finding that the network leaves alone.",
    "calibration": "Whether a predicted probability of 0.8 comes true in 8 of 10 patients.",
    "net benefit": "Patients found, less false alarms weighed by how much one is worth avoiding; in patients found "
    "for nothing per patient tested.",
    "interval": "95 % confidence interval: what would be found with other patients like these, and other networks.",
    "margin": "The largest loss that counts as no loss; stated before the comparison.",
    "split": "Patients are divided into training, validation and test; a patient is in one of them only.",
    "balance": "How many images each class has, and from which site.",
    "confounding": "Where a class comes from one hospital only, a network may learn the hospital instead of the "
    "finding.",
    "quarantine": "Files that were set aside, with the reason. They are not used.",
    "audit": "Attacks on the distilled set that try to find out who was in the training data.",
    "membership inference": "An attack that guesses whether a person's image was used for training.",
    "privacy gate": "The rules that a set must pass before it counts as released.",
    "epsilon": "The bound of differential privacy: the smaller, the less any one patient can change the result.",
    "bundle": "The folder or ZIP file that may be handed on: images, recipe, card and checksums.",
    "card": "What the bundle says of itself: where it comes from, what it is worth, what was measured about privacy.",
    "checksum": "A number computed from every byte of the files: a changed byte changes the number.",
    "signature": "Shows that whoever holds the secret key of the sender wrote these checksums.",
    "de-identify": "Remove or replace what names a patient in DICOM headers and pixels.",
    "Grad-CAM": "A heat map of the regions on which the answer of a network depends most.",
    "window": "The grey values that are shown between black and white: their centre (level) and their range (width).",
}


def explain(*terms: str) -> str:
    """Return the glossary entries of some terms as the text of a tooltip, one a line."""
    return "\n\n".join(f"**{term}**: {GLOSSARY[term]}" for term in terms)
