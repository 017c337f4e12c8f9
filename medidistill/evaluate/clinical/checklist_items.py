"""What the reporting guidelines ask for, in our words: number, what to report, which fact of a run answers it.

The wording is ours and short; the guideline itself is what counts. CLAIM: Tejani et al. 2024, Radiology: Artificial
Intelligence 6 (44 items). TRIPOD+AI: Collins et al. 2024, BMJ 385 (27 items). STARD: Bossuyt et al. 2015, BMJ 351
(30 items), whose numbers are used here; STARD-AI, Sounderajah et al. 2025, Nature Medicine, extends and renumbers
them, so carry the answers over to its own form.

Numbers were compared with published lists as far as `Guideline.compared` says: STARD 2015 as printed in Cohen et al.
2016, BMJ Open 6, items 1 to 17; TRIPOD+AI items 1 to 6c, from a transcription. Others are marked in the checklist.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GUIDELINES", "Guideline", "Item"]


class Item(NamedTuple):
    """`number` in the guideline, what it `asks`, and the `fact` that a run knows about it (empty: only the author)."""

    number: str
    asks: str
    fact: str = ""


class Guideline(NamedTuple):
    """The `items` of a guideline; the first `compared` of them have their numbers compared with the published list."""

    items: tuple[Item, ...]
    compared: int


_CLAIM = (
    Item("1", "Say in the title or abstract that this is a study of AI, and which technology", "technology"),
    Item("2", "Structured abstract: design, methods, results, conclusions"),
    Item("3", "Clinical background, intended use and role of the model"),
    Item("4", "Aims and hypotheses, the margin among them", "margin"),
    Item("5", "Prospective or retrospective"),
    Item("6", "Goal of the study, for example feasibility or non-inferiority", "margin"),
    Item("7", "Where the data come from"),
    Item("8", "Who was included and who was not", "quarantine"),
    Item("9", "Preprocessing of the images", "preprocessing"),
    Item("10", "Whether parts of images or of the collection were selected"),
    Item("11", "How the data were de-identified"),
    Item("12", "Missing data", "quarantine"),
    Item("13", "How the images were acquired"),
    Item("14", "Reference standard: what decides the label"),
    Item("15", "Why this reference standard"),
    Item("16", "Who gave the labels, with what training"),
    Item("17", "How the test split was labelled"),
    Item("18", "Agreement of the readers with one another and with themselves"),
    Item("19", "How images were assigned to splits", "splits"),
    Item("20", "At which level the splits are disjoint", "splits"),
    Item("21", "Intended sample size and how it was found", "precision"),
    Item("22", "The model in detail", "model"),
    Item("23", "Software and versions", "software"),
    Item("24", "Initial weights", "initial"),
    Item("25", "Training in detail", "training"),
    Item("26", "How the final model was chosen", "selection"),
    Item("27", "Ensembling", "ensembling"),
    Item("28", "Metrics", "metrics"),
    Item("29", "Uncertainty and tests", "uncertainty"),
    Item("30", "Robustness and sensitivity analyses", "subgroups"),
    Item("31", "Explanations of single predictions, and whether they were validated", "explanations"),
    Item("32", "Evaluation on internal data", "internal"),
    Item("33", "Evaluation on external data", "external"),
    Item("34", "Registration of the trial, if it is one"),
    Item("35", "Flow: patients and images included and excluded", "flow"),
    Item("36", "Demographic and clinical characteristics of each split", "flow"),
    Item("37", "Performance on all splits, with uncertainty", "performance"),
    Item("38", "Diagnostic accuracy with its precision", "performance"),
    Item("39", "Which cases go wrong, and why", "errors"),
    Item("40", "Limitations, bias and generalisability among them", "limits"),
    Item("41", "What it means for practice", "use"),
    Item("42", "Where the full protocol is", "record"),
    Item("43", "Availability of software, model and data", "software"),
    Item("44", "Funding and the role of the funders"),
)

_STARD = (
    Item("1", "Say that this is a study of diagnostic accuracy, with a measure of it", "metrics"),
    Item("2", "Structured abstract"),
    Item("3", "Background, intended use and role of the index test"),
    Item("4", "Objectives and hypotheses", "margin"),
    Item("5", "Prospective or retrospective"),
    Item("6", "Eligibility"),
    Item("7", "On what basis patients were found"),
    Item("8", "Where and when"),
    Item("9", "Consecutive, random or convenience series"),
    Item("10a", "Index test, so that it can be repeated", "model"),
    Item("10b", "Reference standard, so that it can be repeated"),
    Item("11", "Why this reference standard"),
    Item("12a", "Cut-offs of the index test: stated before, or explored", "threshold"),
    Item("12b", "Cut-offs of the reference standard"),
    Item("13a", "Who read the index test knew of the reference standard or not", "blinding"),
    Item("13b", "Who gave the reference standard knew of the index test or not"),
    Item("14", "How accuracy was estimated and compared", "uncertainty"),
    Item("15", "Indeterminate results", "indeterminate"),
    Item("16", "Missing data", "quarantine"),
    Item("17", "Variability and subgroups: stated before, or explored", "subgroups"),
    Item("18", "Sample size", "precision"),
    Item("19", "Flow of patients", "flow"),
    Item("20", "Baseline characteristics", "flow"),
    Item("21a", "Severity of disease in those who have it"),
    Item("21b", "Other diagnoses in those who have it not"),
    Item("22", "Time and treatment between index test and reference standard"),
    Item("23", "Cross-tabulation of index test and reference standard", "cross"),
    Item("24", "Accuracy with its precision", "performance"),
    Item("25", "Harm by index test or reference standard"),
    Item("26", "Limitations", "limits"),
    Item("27", "Implications for practice", "use"),
    Item("28", "Registration"),
    Item("29", "Protocol", "record"),
    Item("30", "Funding"),
    Item("AI", "Which splits trained, chose and tested the model, and whether they share patients", "splits"),
    Item("AI", "Version of the model and hardware needed", "software"),
    Item("AI", "Bias and fairness across groups", "subgroups"),
)

_TRIPOD = (
    Item("1", "Title: development or evaluation, outcome, population"),
    Item("2", "Abstract as in TRIPOD+AI for Abstracts"),
    Item("3a", "Clinical context, rationale, existing models"),
    Item("3b", "Target population and place in the care pathway"),
    Item("3c", "Known inequalities between groups"),
    Item("4", "Objectives: development, evaluation, or both", "margin"),
    Item("5a", "Sources of the data for development and evaluation, and how representative they are"),
    Item("5b", "Dates of the data"),
    Item("6a", "Setting and centres"),
    Item("6b", "Eligibility"),
    Item("6c", "Treatments received"),
    Item("7", "Preparation of the data and checks of quality", "preprocessing"),
    Item("8a", "Outcome and when it was assessed"),
    Item("8b", "Who assessed the outcome"),
    Item("8c", "Blinding of the assessment"),
    Item("9a", "Choice of predictors", "predictors"),
    Item("9b", "Definition of predictors", "preprocessing"),
    Item("9c", "Who assessed predictors that need judgement", "predictors"),
    Item("10", "Sample size", "precision"),
    Item("11", "Missing data", "quarantine"),
    Item("12a", "How data were used for development and evaluation", "splits"),
    Item("12b", "Handling of predictors", "preprocessing"),
    Item("12c", "Type of model, building, tuning", "training"),
    Item("12d", "Differences between clusters such as hospitals", "probe"),
    Item("12e", "Measures of performance and why", "metrics"),
    Item("12f", "Updating of the model"),
    Item("12g", "How predictions are made in evaluation", "ensembling"),
    Item("13", "Class imbalance", "balance"),
    Item("14", "What was done about fairness", "subgroups"),
    Item("15", "Output of the model, and thresholds", "threshold"),
    Item("16", "Differences between development and evaluation data", "internal"),
    Item("17", "Ethical approval and consent"),
    Item("18a", "Funding"),
    Item("18b", "Conflicts of interest"),
    Item("18c", "Protocol", "record"),
    Item("18d", "Registration"),
    Item("18e", "Availability of the data"),
    Item("18f", "Availability of the code", "software"),
    Item("19", "Involvement of patients and the public"),
    Item("20a", "Flow of participants", "flow"),
    Item("20b", "Characteristics of participants", "flow"),
    Item("20c", "Development and evaluation data side by side", "flow"),
    Item("21", "Participants and events in each analysis", "flow"),
    Item("22", "The full model, so that it can be used", "model"),
    Item("23a", "Performance with intervals, in groups too", "performance"),
    Item("23b", "Differences of performance between clusters", "subgroups"),
    Item("24", "Results of updating"),
    Item("25", "Interpretation, fairness included", "limits"),
    Item("26", "Limitations", "limits"),
    Item("27a", "Poor or missing input at use"),
    Item("27b", "Whether users must interact, and with what expertise"),
    Item("27c", "Next steps, generalisability", "use"),
)

GUIDELINES = {
    "CLAIM (2024 update)": Guideline(_CLAIM, 0),
    "STARD 2015, with additions for AI (see STARD-AI)": Guideline(_STARD, 20),
    "TRIPOD+AI (2024)": Guideline(_TRIPOD, 11),
}
