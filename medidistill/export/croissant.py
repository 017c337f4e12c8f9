"""`croissant.json`: the bundle in the MLCommons Croissant 1.1 vocabulary, for dataset catalogues and loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medidistill.files import sha256_file
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # JSON-LD in the Croissant vocabulary

__all__ = ["croissant"]

# term -> meaning, as the specification (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html) asks for it
_CONTEXT: JsonObject = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(recipe: ReadOnlyJsonObject, folder: Path, npz_name: str) -> JsonObject:
    """Return the metadata of a bundle whose files lie in `folder`, as JSON-LD.

    Args:
        recipe: what `make_recipe` returned.
        folder: holds `distilled.safetensors`, `recipe.json`, the npz file and `png/`.
        npz_name: name of the npz file.
    """
    files = {
        "distilled.safetensors": "application/octet-stream",
        "recipe.json": "application/json",
        npz_name: "application/octet-stream",
        "png/metadata.csv": "text/csv",
    }
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "encodingFormat": encoding,
            "sha256": sha256_file(folder / name),
        }
        for name, encoding in files.items()
    ]
    pictures = {
        "@type": "cr:FileSet",
        "@id": "pictures",
        "name": "pictures",
        "encodingFormat": "image/png",
        "includes": "png/*.png",
    }
    licence = recipe["licence"]
    found: JsonObject = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": recipe["name"],
        "description": (
            f"{recipe['images']} synthetic chest X-rays in {len(recipe['classes'])} classes, made by dataset "
            f"distillation ({recipe['method']}, started from {recipe['init']}). Research use, not for diagnosis."
        ),
        "version": "1.0.0",
        "datePublished": recipe["created"],
        "license": _licence_url(licence["identifier"]),
        "citeAs": _citation(recipe),
        "keywords": ["synthetic", "dataset distillation", "chest X-ray"],
        "rai:dataLimitations": [text for text in (recipe["notice"],) if text],
        "rai:personalSensitiveInformation": recipe["privacy"]["statement"],
        "distribution": [*objects, pictures],
        "recordSet": [_records(recipe)],
    }
    # it does not know where it will be published, so there is no url; empty entries would say nothing
    return {key: value for key, value in found.items() if value not in ("", [])}


def _citation(recipe: ReadOnlyJsonObject) -> str:
    """Return what to cite: what the sources ask for, else the set itself."""
    cited = "; ".join(source["citation"] for source in recipe["sources"] if source["citation"])
    made = f"made by dataset distillation with medidistill {recipe['versions'].get('medidistill', '')}".rstrip()
    return cited or f"{recipe['name']} ({recipe['created'][:4]}), {made}"


def _licence_url(identifier: str) -> str:
    """Return the address of an SPDX identifier; `other` and `unknown` stay words."""
    return f"https://spdx.org/licenses/{identifier}.html" if identifier not in ("other", "unknown") else identifier


def _records(recipe: ReadOnlyJsonObject) -> JsonObject:
    name = {"fileObject": {"@id": "png/metadata.csv"}, "extract": {"column": "file_name"}}
    label = {"fileObject": {"@id": "png/metadata.csv"}, "extract": {"column": "label"}}
    image = {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": "content"}}
    key = {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": "filename"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "8-bit copies to look at; train from distilled.safetensors.",
        "field": [
            _field("file_name", "Name of the picture.", "sc:Text", name, {"references": key}),
            _field("label", f"One of: {', '.join(recipe['classes'])}.", "sc:Text", label),
            _field("image", "The picture.", "sc:ImageObject", image),
        ],
    }


def _field(name: str, text: str, kind: str, source: ReadOnlyJsonObject, more: ReadOnlyJsonObject | None = None) -> Any:
    return {
        "@type": "cr:Field",
        "@id": f"images/{name}",
        "name": name,
        "description": text,
        "dataType": kind,
        "source": dict(source),
        **(more or {}),
    }
