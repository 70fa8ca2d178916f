"""What a hybrid is trained on, without a model hub: documents, the base's own conversations, conversations with rules.

Documents come out of Debian packages, fetched by name and unpacked beside the run, or out of files of your own. All of
it becomes one array of token ids and the places at which documents end; nothing of it is committed but this recipe.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from memkv.errors import ConfigError, MemkvError
from memkv.model import HybridModel
from train.hybrid.config import Corpus

TOKENS, MANIFEST = "tokens.npz", "manifest.json"
SUFFIXES = (".html", ".htm", ".txt", ".txt.gz", ".html.gz")
SHORTEST = 400  # characters of a document
PIECE = 40_000  # characters of one document at most: a book is many
LICENCE = re.compile(r"^License:\s*(\S.*)$", re.MULTILINE)


class CorpusMissing(MemkvError):
    """There is nothing to train on, or too little."""


@dataclass(frozen=True)
class Source:
    """One place that text came from.

    Attributes:
        name: package or file.
        version: of the package.
        licences: as its copyright file names them.
        documents, characters: that were taken.
        digest: BLAKE3 of the text.
    """

    name: str
    version: str
    licences: tuple[str, ...]
    documents: int
    characters: int
    digest: str


@dataclass(frozen=True)
class Tokens:
    """Documents as token ids.

    Attributes:
        ids: all of them (N), int32.
        ends: behind the last token of each document (D).
        kinds: of each document (D): text, chat or episode.
        held_out: whether nothing is trained on it (D).
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    kinds: NDArray[np.str_]
    held_out: NDArray[np.bool_]

    def documents(self, held_out: bool, kind: str = "") -> list[NDArray[np.int32]]:
        """Those of one part, of one kind or of all."""
        starts = np.concatenate([[0], self.ends[:-1]])
        return [
            self.ids[start:end]
            for start, end, each, apart in zip(starts, self.ends, self.kinds, self.held_out, strict=True)
            if apart == held_out and kind in ("", each)
        ]

    def stream(self, held_out: bool, seed: int, kind: str = "") -> NDArray[np.int32]:
        """The documents of one part one after the other, in an order of the seed's."""
        found = self.documents(held_out, kind)
        order = np.random.default_rng(seed).permutation(len(found))
        return np.concatenate([found[place] for place in order]) if found else np.empty(0, np.int32)


class Text(HTMLParser):
    """What a page says, a block a paragraph."""

    BLOCKS = frozenset("p li h1 h2 h3 h4 dt dd div section tr blockquote title".split())
    SILENT = frozenset("script style nav header footer pre".split())

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A block begins; some say nothing."""
        self._silent += tag in self.SILENT
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """A block ends."""
        self._silent -= tag in self.SILENT and self._silent > 0
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Words."""
        if not self._silent:
            self.parts.append(data)

    @property
    def text(self) -> str:
        """Paragraphs with one blank line between them."""
        blocks = (" ".join(block.split()) for block in "".join(self.parts).split("\n\n"))
        return "\n\n".join(block for block in blocks if block)


def read_package(name: str, folder: Path) -> tuple[Source, list[str]]:
    """The documents of a Debian package, fetched into `folder` and unpacked there.

    Raises:
        CorpusMissing: there is no apt here, or no such package.
    """
    target = folder / name
    if not target.is_dir():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise CorpusMissing(
                f"The package {name} cannot be fetched: there is no apt-get here",
                "Name text files of your own under corpus.files, and no packages.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        got = subprocess.run(["apt-get", "download", name], cwd=folder, capture_output=True, text=True, check=False)
        files = sorted(folder.glob(f"{name}_*.deb"))
        if got.returncode or not files:
            reason = got.stderr.strip().splitlines()[-1:] or ["no answer"]
            raise CorpusMissing(
                f"The package {name} cannot be fetched: {reason[0]}",
                "Run `apt-get update`, or name other packages under corpus.packages.",
            )
        partial = folder / f".{name}"
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", str(files[-1]), str(partial)], check=True)
        (partial / "version").write_text(files[-1].name.split("_")[1], encoding="utf-8")
        partial.rename(target)
    copyright_ = "\n".join(path.read_text("utf-8", "replace") for path in target.glob("usr/share/doc/*/copyright"))
    licences = tuple(dict.fromkeys(LICENCE.findall(copyright_)))
    texts = list(documents(target / "usr" / "share"))
    return source_of(name, (target / "version").read_text("utf-8"), licences, texts), texts


def documents(place: Path) -> Iterator[str]:
    """The texts of a file, or of all files below a folder, in pieces of at most PIECE characters."""
    paths = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    seen: set[bytes] = set()
    for path in paths:
        if path != place and (not path.name.endswith(SUFFIXES) or path.is_symlink()):
            continue
        text = plain(path)
        digest = blake3(text.encode()).digest()
        if len(text) < SHORTEST or digest in seen:
            continue
        seen.add(digest)
        yield from (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def plain(path: Path) -> str:
    """What a file says."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = raw.decode("utf-8", "replace")
    if ".htm" not in path.name:
        return text.strip()
    parser = Text()
    parser.feed(text)
    return parser.text


def source_of(name: str, version: str, licences: tuple[str, ...], texts: Sequence[str]) -> Source:
    """The manifest's line of some texts."""
    digest = blake3("\0".join(texts).encode()).hexdigest()
    return Source(name, version, licences, len(texts), sum(map(len, texts)), digest)


def read_texts(config: Corpus, folder: Path) -> tuple[list[Source], list[str]]:
    """All documents of packages and files.

    Raises:
        CorpusMissing: a package or file that is not there.
    """
    sources, texts = [], []
    for name in config.packages:
        source, found = read_package(name, folder)
        sources.append(source)
        texts += found
    for place in map(Path, config.files):
        if not place.exists():
            raise CorpusMissing(f"No file {place}", "Correct corpus.files.")
        found = list(documents(place))
        sources.append(source_of(str(place), "", (), found))
        texts += found
    return sources, texts


def build(
    config: Corpus, model: HybridModel, folder: Path, chats: Sequence[str], episodes: Sequence[str]
) -> tuple[Tokens, list[Source]]:
    """Token ids of everything, drawn and split by document.

    Raises:
        CorpusMissing: no documents.
    """
    rng = np.random.default_rng(config.seed)
    sources, texts = read_texts(config, folder / "packages")
    drawn: list[list[int]] = []
    taken = 0
    for place in rng.permutation(len(texts)):
        if taken >= config.text_tokens:
            break
        drawn.append(model.chat.encode(texts[place])[: config.text_tokens - taken])
        taken += len(drawn[-1])
    kinds = ["text"] * len(drawn) + ["chat"] * len(chats) + ["episode"] * len(episodes)
    drawn += [model.chat.encode(text) for text in (*chats, *episodes)]
    if not drawn:
        raise CorpusMissing("There is nothing to train on", "Name corpus.packages or corpus.files, chats or episodes.")
    held_out = rng.random(len(drawn)) < config.held_out
    for kind in dict.fromkeys(kinds):  # of each kind there is one at least that nothing is trained on
        held_out[kinds.index(kind)] = True
    ids = np.concatenate([np.asarray(each, np.int32) for each in drawn])
    ends = np.cumsum([len(each) for each in drawn])
    return Tokens(ids, ends, np.asarray(kinds), held_out), sources


def keep(tokens: Tokens, sources: Sequence[Source], folder: Path, config: Corpus) -> None:
    """Write both into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / TOKENS, ids=tokens.ids, ends=tokens.ends, kinds=tokens.kinds, held_out=tokens.held_out)
    sizes = {kind: int(sum(map(len, tokens.documents(False, kind)))) for kind in ("text", "chat", "episode")}
    found = {
        "corpus": json.loads(json.dumps(asdict(config), default=str)),
        "tokens": sizes,
        "held_out": int(sum(map(len, tokens.documents(True)))),
        "sources": [asdict(each) for each in sources],
    }
    (folder / MANIFEST).write_text(json.dumps(found, indent=1), encoding="utf-8")


def read(folder: Path) -> Tokens | None:
    """What was kept there, if anything was.

    Raises:
        ConfigError: it cannot be read.
    """
    path = folder / TOKENS
    if not path.is_file():
        return None
    try:
        with np.load(path) as found:
            return Tokens(found["ids"], found["ends"], found["kinds"], found["held_out"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path} is damaged: {error}", "Delete it; it is made again.") from error


def need(tokens: NDArray[np.int32], count: int, what: str) -> None:
    """Refuse a corpus that is too small.

    Raises:
        CorpusMissing: it has fewer tokens than are needed.
    """
    if len(tokens) < count:
        raise CorpusMissing(
            f"{what} has {len(tokens):,} tokens, and {count:,} are needed at once",
            "Name more corpus.packages or corpus.files, or ask for shorter rows.",
        )
